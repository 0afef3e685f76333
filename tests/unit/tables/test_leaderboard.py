"""The leaderboard: ranks against a slow reference, what has no rank, costs beside the numbers, print."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from metric_rows import draws_for, sample_roc

from vision_to_sound.tables.formats import to_html, to_latex, to_markdown, to_tsv, write_formats
from vision_to_sound.tables.leaderboard import (
    COLUMNS,
    leaderboard_layout,
    leaderboard_table,
    snr_layout,
)

NO_COSTS = pd.DataFrame(
    columns="method encoder fit_s embed_s score_s clip_s peak_mb machine".split()
)
CLASSES, SNRS, SEEDS = ("car_horn", "dog", "siren"), (6, -6), (0, 1)
CONTROLS = ("oracle", "random")


def rows_of(values: dict[tuple, float], **identity) -> list[dict]:
    """Sample rows of {(class, SNR, seed): value}; the other levels a little lower, each by another amount."""
    rows = []
    for (category, snr, seed), value in values.items():
        own = {"category": category, "snr_db": snr, "seed": seed, "protocol": "leakfree"}
        for i, (level, truth) in enumerate(COLUMNS.values()):
            rows.append(sample_roc(value - 0.1 * i, level=level, truth=truth, **own | identity))
    return rows


def constant(value: float, **identity) -> list[dict]:
    return rows_of(dict.fromkeys(itertools.product(CLASSES, SNRS, SEEDS), value), **identity)


def table_of(rows: list[dict], costs: pd.DataFrame = NO_COSTS, **noise) -> pd.DataFrame:
    metrics = pd.DataFrame(rows)
    return leaderboard_table(metrics, draws_for(metrics, **noise), costs)


def names(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(table[["rank", "method", "encoder"]].itertuples(index=False, name=None))


# --- ranks


def reference(rows: list[dict]) -> list[tuple[str, str, str]]:
    """Slow and plain: (rank, method, encoder) in order; complete ones by their mean, then the incomplete."""
    values: dict[tuple, dict[tuple, float]] = {}
    for row in rows:
        if row["level"] == "sample" and np.isfinite(row["value"]):
            experiment = (row["category"], row["snr_db"], row["seed"])
            values.setdefault((row["method"], row["encoder"]), {})[experiment] = row["value"]
    every = set(itertools.product(CLASSES, SNRS, SEEDS))
    means = {}
    for entry, found in values.items():
        per_seed = []
        for seed in SEEDS:
            of_seed = [value for (_, _, s), value in found.items() if s == seed]
            if of_seed:
                per_seed.append(sum(of_seed) / len(of_seed))
        means[entry] = sum(per_seed) / len(per_seed)
    complete = [entry for entry in means if set(values[entry]) == every]
    lines = []
    for group in (complete, [entry for entry in means if entry not in complete]):
        for entry in sorted(group, key=lambda e: -means[e]):
            rank = 1
            for other in complete:
                if other[0] not in CONTROLS and means[other] > means[entry]:
                    rank += 1
            has_rank = entry in complete and entry[0] not in CONTROLS
            lines.append((str(rank) if has_rank else "", *entry))
    return lines


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_a_slow_reference(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for method in ("padim", "patchcore", "cfa", "stfpm", *CONTROLS):
        for encoder in ("aisfx", "panns_cnn14"):
            values = {
                e: float(rng.uniform(0.3, 1)) for e in itertools.product(CLASSES, SNRS, SEEDS)
            }
            if rng.random() < 0.3:  # incomplete, and what is left is good
                del values[list(values)[rng.integers(len(values))]]
                values = {e: min(1.0, value + 0.3) for e, value in values.items()}
            rows += rows_of(values, method=method, encoder=encoder)
    found = names(table_of(rows))
    assert found == reference(rows)
    ranks = [int(rank) for rank, _, _ in found if rank]
    assert ranks == list(range(1, len(ranks) + 1)) and len(ranks) < 8 + 1


def test_the_mean_is_over_classes_not_over_rows_of_seeds_that_lack_one():
    """Seed 0: (0.9 + 0.3) / 2 = 0.6, seed 1: 0.9; the mean of seeds 0.75, of rows 0.7."""
    values = {("dog", 0, 0): 0.9, ("siren", 0, 0): 0.3, ("dog", 0, 1): 0.9}
    row = table_of(rows_of(values, method="padim")).iloc[0]
    assert row["sample_roc_mean"] == pytest.approx(75.0)
    assert (row["experiments"], row["expected"]) == (3, 4) and not row["complete"]


def test_ties_share_a_rank_and_the_next_one_is_left_out():
    rows = constant(0.7, method="padim") + constant(0.7, method="cfa")
    rows += constant(0.9, method="stfpm") + constant(0.6, method="patchcore")
    found = names(table_of(rows))
    # the paper's order among equals
    assert [line[:2] for line in found] == [
        ("1", "stfpm"),
        ("2", "cfa"),
        ("2", "padim"),
        ("4", "patchcore"),
    ]


def test_what_is_incomplete_is_marked_and_stands_below_all_that_is_complete():
    best = constant(0.99, method="padim")
    lost = {"category": "dog", "snr_db": 6, "seed": 1, "level": "temporal"}
    best = [row for row in best if not lost.items() <= row.items()]
    table = table_of(best + constant(0.2, method="cfa") + constant(0.1, method="random"))
    assert names(table) == [
        ("1", "cfa", "aisfx"),
        ("", "random", "aisfx"),
        ("", "padim", "aisfx"),
    ]
    padim = table.iloc[2]
    assert padim["missing"] == "dog 6 dB seed 1" and padim["experiments"] == 11
    text = to_markdown(table, stamp="", layout=leaderboard_layout)
    assert "| – | PaDiM | aiSFX | 99.0 ± 0.0 [" in text and "| 11/12† |" in text
    assert "† PaDiM (aiSFX) has no rank: 11 of 12 experiments are complete" in text
    assert "†" in to_markdown(table, stamp="", layout=snr_layout).split("| 1 |")[1].split("- ")[0]


def test_controls_stand_where_their_values_are_and_have_no_rank():
    rows = constant(1.0, method="oracle") + constant(0.8, method="padim")
    rows += constant(0.5, method="random") + constant(0.4, method="cfa")
    table = table_of(rows)
    assert names(table) == [
        ("", "oracle", "aisfx"),
        ("1", "padim", "aisfx"),
        ("", "random", "aisfx"),
        ("2", "cfa", "aisfx"),
    ]
    assert "| – | Oracle (control) |" in to_markdown(table, stamp="", layout=leaderboard_layout)
    assert not table.loc[table["control"], "sample_roc_best"].any()


def test_a_detector_with_an_encoder_of_its_own_is_there_once():
    rows = constant(0.8, method="autoencoder", encoder="logmel_dcase2020")
    for encoder in ("aisfx", "panns_cnn14"):
        rows += constant(0.7, method="padim", encoder=encoder)
    table = table_of(rows)
    assert list(table["method"]) == ["autoencoder", "padim", "padim"]
    assert table.loc[0, "encoder_label"] == "DCASE 2020 log-mel"


def test_other_protocols_and_data_sets_are_left_out():
    rows = constant(0.7, method="padim")
    others = constant(0.9, method="cfa", protocol="published")
    others += constant(0.9, method="stfpm", dataset="mimii")
    assert names(table_of(rows + others)) == [("1", "padim", "aisfx")]
    with pytest.raises(ValueError, match="no rows of data set 'envmix' under 'leakfree'"):
        table_of(others)


# --- columns


def test_both_truths_and_all_levels_have_their_columns():
    row = table_of(constant(0.8, method="padim")).iloc[0]
    for name, expected in zip(COLUMNS, (80, 70, 60, 50), strict=True):
        assert row[f"{name}_mean"] == pytest.approx(expected)
        assert row[f"{name}_snr6_mean"] == pytest.approx(expected)
        has_interval = np.isfinite(row[f"{name}_low"]) and np.isfinite(row[f"{name}_high"])
        assert has_interval == (name == "sample_roc"), "there are draws of clips alone"


def test_columns_of_an_snr_are_of_that_snr():
    values = {e: 0.5 if e[1] == 6 else 0.9 for e in itertools.product(CLASSES, SNRS, SEEDS)}
    table = table_of(rows_of(values, method="padim"))
    row = table.iloc[0]
    means = [row[f"sample_roc{snr}_mean"] for snr in ("", "_snr6", "_snr-6")]
    assert means == pytest.approx([70.0, 50.0, 90.0])
    assert row["sample_roc_snr6_of"] == 6
    text = to_markdown(table, stamp="", layout=snr_layout)
    header = next(line for line in text.splitlines() if line.startswith("| Rank"))
    assert header.index("SNR +6 dB sample") < header.index("SNR -6 dB sample"), "hard case first"
    assert "+6 dB is the hard case" in text and "| 50.0 ± 0.0 [" in text


def test_who_is_beside_the_first_goes_by_the_paired_difference():
    rows = constant(0.8, method="padim") + constant(0.79, method="cfa", encoder="panns_cnn14")
    rows += constant(0.4, method="stfpm")
    apart = table_of(rows, shared=0.0, own=0.2)
    assert apart["behind_first"].tolist() == [False, False, True]
    text = to_markdown(apart, stamp="", layout=leaderboard_layout)
    assert "the first is not ahead of: CFA (PANNs (CNN14))." in text and "**" not in text
    together = table_of(rows, shared=0.2)
    assert together["behind_first"].tolist() == [False, True, True]
    assert together["sample_roc_best"].tolist() == [True, False, False]
    text = to_markdown(together, stamp="", layout=leaderboard_layout)
    assert "is not ahead of" not in text and "| **80.0** ± 0.0 [" in text


def test_what_resampling_cannot_change_is_ahead_of_nothing():
    """Clips of one recording each: neither has an interval, however far they lie apart."""
    rows = constant(0.9, method="padim", n_recordings=1) + constant(
        0.3, method="cfa", n_recordings=1
    )
    table = table_of(rows, shared=0.0)
    assert not table["sample_roc_best"].any() and not table["behind_first"].any()
    text = to_markdown(table, stamp="", layout=leaderboard_layout)
    assert "[" not in next(line for line in text.splitlines() if "| PaDiM" in line)
    assert "all clips of car horn, dog, siren come from one" in text


def test_the_table_says_on_how_many_recordings_intervals_rest():
    rows = constant(0.9, method="padim")
    for row in rows:
        row["n_recordings"] = {"car_horn": 1, "dog": 4, "siren": 11}[row["category"]]
    text = to_markdown(table_of(rows), stamp="", layout=leaderboard_layout)
    assert (
        "(1 to 11 a class; all clips of car horn come from one, which no resampling varies)" in text
    )


# --- costs and print


@pytest.fixture
def with_costs() -> pd.DataFrame:
    cost = {"method": "padim", "encoder": "aisfx", "fit_s": 1234.5, "embed_s": 0.05}
    cost |= {"score_s": 0.0012345, "clip_s": 0.0512345, "peak_mb": 912.0, "machine": "X, 2 cores"}
    return table_of(
        constant(0.8, method="padim") + constant(0.7, method="cfa"), pd.DataFrame([cost])
    )


def test_costs_have_three_digits_and_what_was_not_measured_is_a_dash(with_costs):
    assert with_costs.loc[0, ["fit_s", "clip_s", "peak_mb"]].tolist() == ["1230", "0.0512", "912"]
    assert with_costs.loc[1, "fit_s"] == with_costs.loc[1, "machine"] == ""
    text = to_markdown(with_costs, stamp="", layout=leaderboard_layout)
    assert "| 1230 | 0.05 | 0.00123 | 912 | 12/12 |" in text and "| – | – | – | – | 12/12 |" in text
    assert "Measured on X, 2 cores." in text
    nothing = to_markdown(
        table_of(constant(0.8, method="padim")), stamp="", layout=leaderboard_layout
    )
    assert "was not measured" in nothing


def test_costs_change_no_rank(with_costs):
    free = table_of(constant(0.8, method="padim") + constant(0.7, method="cfa"))
    assert names(with_costs) == names(free)


def test_the_stamp_is_in_every_format_and_the_tsv_holds_all(with_costs, tmp_path):
    paths = [tmp_path / f"table.{suffix}" for suffix in ("html", "md", "tex", "tsv")]
    write_formats(with_costs, paths, stamp="MADE UP", layout=leaderboard_layout)
    for path in paths:
        assert "MADE UP" in path.read_text()
    read = pd.read_csv(paths[-1], sep="\t")
    assert read.loc[0, "sample_roc_snr-6_mean"] == 80.0 and read.loc[0, "clip_s"] == 0.0512
    assert paths[-1].read_text() == to_tsv(with_costs, stamp="MADE UP")


@pytest.mark.parametrize("layout", [leaderboard_layout, snr_layout])
def test_every_line_has_all_cells(with_costs, layout):
    laid_out = layout(with_costs)
    n = len(laid_out.header)
    assert sum(width for _, width in laid_out.groups) == n == len(laid_out.align)
    for _, rows in laid_out.blocks:
        assert {len(row) for row in rows} == {n}
    for render in (to_html, to_latex):
        assert "Leaderboard: EnvMix, protocol leakfree" in render(
            with_costs, stamp="", layout=layout
        )
