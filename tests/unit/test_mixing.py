"""Mixtures: SNR as asked, stems that add up, draws that depend on their own identity alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vision_to_sound.audio import rms, rms_without_mean
from vision_to_sound.mixing import (
    clip_set_rows,
    leakfree_gains,
    place,
    published_gains,
    published_normal_gain,
    render,
    synthesize_mixtures,
)

N_SAMPLES = 4000


def db(ratio: float) -> float:
    return 20 * np.log10(ratio)


@pytest.fixture(scope="module")
def sounds() -> dict:
    rng = np.random.default_rng(0)
    backgrounds = (rng.standard_normal((12, N_SAMPLES)) * 0.05).astype(np.float32)
    lengths = [500, 4000, 2, 900]
    events = np.zeros((4, N_SAMPLES), np.float32)
    for event, length in zip(events, lengths, strict=True):
        event[:length] = rng.standard_normal(length) * 0.2
    names = [f"{i}.wav" for i in range(12)]
    return {
        "split": pd.DataFrame(
            {
                "clip": names,
                "recording": names,
                "set_row": range(12),
                "role": ["train"] * 6 + ["test"] * 6,
                "label": [0] * 6 + [1, 0, 1, 0, 1, 1],
            }
        ),
        "background_table": pd.DataFrame({"clip": names, "row": range(12)}),
        "backgrounds": backgrounds,
        "event_table": pd.DataFrame(
            {
                "clip": ["a", "b", "c", "d"],
                "category": ["dog", "siren", "frog", "dog"],
                "recording": ["1", "2", "3", "4"],
                "row": range(4),
                "length_samples": lengths,
            }
        ),
        "events": events,
    }


def mix(sounds, protocol="leakfree", snr_db=0, seed=0, category="siren"):
    return synthesize_mixtures(
        *(sounds[k] for k in ("split", "background_table", "backgrounds", "event_table", "events")),
        protocol=protocol,
        category=category,
        snr_db=snr_db,
        seed=seed,
    )


@pytest.mark.parametrize("snr_db", [-6, 0, 6])
def test_published_gains_are_the_formula(snr_db):
    rng = np.random.default_rng(1)
    background = rng.standard_normal(N_SAMPLES).astype(np.float32)
    event = place(rng.standard_normal(300).astype(np.float32), 50, N_SAMPLES)
    gains = published_gains(background, event, snr_db)
    ratio = gains.background * rms(background) / (gains.event * rms(event))
    assert db(ratio) == pytest.approx(snr_db, abs=1e-6)  # over the whole clip
    assert gains.background == pytest.approx(1 - 1 / (10 ** (snr_db / 20) + 1))


@pytest.mark.parametrize(("snr_db", "louder_db"), [(-6, 4.4), (0, 0.0), (6, -1.6)])
def test_published_levels_give_the_answer_away(snr_db, louder_db):
    k = 1 / (10 ** (snr_db / 20) + 1)
    assert db((1 - k) / published_normal_gain(snr_db)) == pytest.approx(louder_db, abs=0.06)


@pytest.mark.parametrize("snr_db", [-6, 0, 6])
def test_leakfree_snr_holds_where_the_event_is(snr_db):
    rng = np.random.default_rng(2)
    background = rng.standard_normal(N_SAMPLES).astype(np.float32)
    event = rng.standard_normal(300).astype(np.float32)
    gains = leakfree_gains(background, event, snr_db)
    assert gains.background == 1.0
    ratio = rms_without_mean(background) / (gains.event * rms_without_mean(event))
    assert db(ratio) == pytest.approx(snr_db, abs=1e-9)


@pytest.mark.parametrize(("background_dc", "event_dc"), [(0.2, 0.0), (0.0, 0.4), (-0.2, 0.4)])
def test_a_constant_offset_is_no_loudness_under_leakfree(sounds, background_dc, event_dc):
    """DC of 94 % of the background's power and 80 % of the event's."""
    events = np.where(sounds["events"] != 0, sounds["events"] + np.float32(event_dc), 0)
    offset = {
        **sounds,
        "backgrounds": sounds["backgrounds"] + np.float32(background_dc),
        "events": events.astype(np.float32),
    }
    rows = clip_set_rows(mix(offset, snr_db=6), "mixture")
    background, event = (
        render(rows, offset["backgrounds"], offset["events"], stem).astype(np.float64)
        for stem in ("background", "event")
    )
    for i, row in rows.iterrows():
        span = slice(row.onset_samples, row.onset_samples + row.length_samples)
        assert db(background[i].std() / event[i, span].std()) == pytest.approx(6, abs=1e-3)
        in_span = db(background[i, span].std() / event[i, span].std())
        assert row.snr_event_db == pytest.approx(in_span, abs=1e-3)
        assert row.snr_clip_db == pytest.approx(db(background[i].std() / event[i].std()), abs=1e-3)


def test_published_counts_the_offset_as_it_always_did(sounds):
    offset = {**sounds, "backgrounds": sounds["backgrounds"] + np.float32(0.2)}
    rows = clip_set_rows(mix(offset, "published", snr_db=6), "mixture")
    for row in rows.itertuples():
        assert row.snr_clip_db == pytest.approx(6, abs=1e-3)
        gains = published_gains(
            offset["backgrounds"][row.background_row],
            place(
                offset["events"][row.event_row][: row.length_samples], row.onset_samples, N_SAMPLES
            ),
            6,
        )
        assert row.event_gain / row.background_gain == pytest.approx(gains.event / gains.background)


@pytest.mark.parametrize("protocol", ["published", "leakfree"])
def test_stems_add_up_and_the_table_tells_the_snr(sounds, protocol):
    level = rms if protocol == "published" else rms_without_mean
    table = mix(sounds, protocol, snr_db=6)
    rows = clip_set_rows(table, "mixture")
    assert len(rows) == 4
    stems = {
        stem: render(rows, sounds["backgrounds"], sounds["events"], stem).astype(np.float64)
        for stem in ("mixture", "background", "event")
    }
    assert np.abs(stems["mixture"] - stems["background"] - stems["event"]).max() < 1e-6
    for i, row in rows.iterrows():
        event, background = stems["event"][i], stems["background"][i]
        span = slice(row.onset_samples, row.onset_samples + row.length_samples)
        assert not event[: span.start].any() and not event[span.stop :].any()
        assert db(level(background) / level(event)) == pytest.approx(row.snr_clip_db, abs=1e-3)
        in_span = db(level(background[span]) / level(event[span]))
        assert in_span == pytest.approx(row.snr_event_db, abs=1e-3)
        in_span = db(level(background) / level(event[span]))
        asked = row.snr_clip_db if protocol == "published" else in_span
        assert asked == pytest.approx(6, abs=1e-3)


def test_published_scale_and_levels(sounds):
    table = mix(sounds, "published", snr_db=-6)
    test = table[table["role"] == "test"]
    peak = np.abs(render(test, sounds["backgrounds"], sounds["events"], "mixture")).max()
    assert peak == pytest.approx(1.0, abs=1e-6)
    normal_gains = table.loc[table["label"] == 0, "background_gain"]
    assert normal_gains.nunique() == 1  # train clips are divided by the same number


def test_leakfree_leaves_normal_clips_and_levels_alone(sounds):
    table = mix(sounds, snr_db=6)
    assert (table["background_gain"] == 1.0).all()
    # also where a loud event goes beyond full scale: turning only that clip down would be a clue
    loud = mix({**sounds, "backgrounds": sounds["backgrounds"] * 15}, snr_db=-20)
    rows = clip_set_rows(loud, "mixture")
    mixture = render(rows, sounds["backgrounds"] * 15, sounds["events"], "mixture")
    assert np.abs(mixture).max() > 1.0
    assert (loud["background_gain"] == 1.0).all()


def test_leakfree_never_draws_the_own_class(sounds):
    drawn = {c for seed in range(30) for c in mix(sounds, seed=seed)["event_category"]}
    assert drawn == {"", "dog", "frog"}
    published = {c for s in range(30) for c in mix(sounds, "published", seed=s)["event_category"]}
    assert published == {"", "dog", "frog", "siren"}
    only_own = {**sounds, "event_table": sounds["event_table"].iloc[[1]]}
    with pytest.raises(ValueError, match="no event class but its own"):
        mix(only_own)


def test_a_mixture_depends_on_its_identity_alone(sounds):
    whole = mix(sounds)
    fewer = {
        **sounds,
        "split": sounds["split"].iloc[3:9].reset_index(drop=True),
        "background_table": sounds["background_table"].iloc[3:9].reset_index(drop=True),
    }
    part = mix(fewer)
    draws = ["clip", "event", "onset_samples", "event_gain", "snr_event_db"]
    both = whole.merge(part, on=["clip"], suffixes=("", "_part"))
    assert len(both) == 6
    for name in draws[1:]:
        assert both[name].fillna(-1).equals(both[f"{name}_part"].fillna(-1))
    assert not whole["onset_samples"].equals(mix(sounds, seed=1)["onset_samples"])
    assert not whole["onset_samples"].equals(mix(sounds, snr_db=6)["onset_samples"])


def test_one_more_event_changes_few_draws(sounds):
    def draws(n_events):
        table = pd.DataFrame(
            {
                "clip": [f"e{i}" for i in range(n_events)],
                "category": "dog",
                "recording": "1",
                "row": 0,
                "length_samples": 500,
            }
        )
        more = {**sounds, "event_table": table}
        return [
            e for seed in range(40) for e in clip_set_rows(mix(more, seed=seed), "mixture")["event"]
        ]

    before, after = draws(20), draws(21)
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(changed) == {"e20"} and 1 <= len(changed) <= 20  # of 160; 8 are expected
    assert len(set(after)) == 21


def test_a_split_of_other_clips_is_refused(sounds):
    wrong = {**sounds, "split": sounds["split"].iloc[::-1]}
    with pytest.raises(ValueError, match="split and clips disagree"):
        mix(wrong)


def test_set_rows_count_within_each_clip_set(sounds):
    published, leakfree = mix(sounds, "published"), mix(sounds)
    for table in (published, leakfree):
        assert list(clip_set_rows(table, "mixture")["set_row"]) == [0, 1, 2, 3]
    assert list(clip_set_rows(published, "normal")["set_row"]) == list(range(8))
    assert list(clip_set_rows(leakfree, "normal")["set_row"]) == [0, 1, 2, 3, 4, 5, 7, 9]


def test_every_onset_fits_and_reaches_both_ends(sounds):
    onsets = []
    for seed in range(200):
        rows = clip_set_rows(mix(sounds, seed=seed), "mixture")
        assert (rows["onset_samples"] + rows["length_samples"] <= N_SAMPLES).all()
        onsets.extend(rows.loc[rows["length_samples"] == 2, "onset_samples"])
    assert min(onsets) < 0.05 * N_SAMPLES and max(onsets) > 0.95 * N_SAMPLES
