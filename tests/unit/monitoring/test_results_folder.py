"""What a run of recordings ends with, and that a page never stands for a run that did not make it."""

from __future__ import annotations

from vision_to_sound.monitoring.results_folder import set_aside_results_of_before, summary

CLIPS = (
    "recording\tverdict\tp_value\nb.wav\tanomalous\t0.05\na.wav\tnormal\t0.5\na.wav\tnormal\t0.9\n"
)


def finished(tmp_path) -> dict:
    folder = tmp_path / "recordings"
    (folder / "audacity").mkdir(parents=True)
    (folder / "page.html").write_text("page")
    (folder / "clips.tsv").write_text(CLIPS)
    (folder / "normal_skipped.tsv").write_text("recording\tproblem\n")
    (folder / "unsorted_skipped.tsv").write_text("recording\tproblem\nx.m4a\tis not read\n")
    return {"results": str(tmp_path), "datasets": ["folder"]}


def test_the_end_of_a_run_in_words(tmp_path):
    config = finished(tmp_path)
    assert summary(config).splitlines() == [
        "  1 of 3 clips anomalous, of 2 recordings (3 clips). Worst: b.wav (p = 0.050)",
        "  1 file was not used: the page says which and why",
        f"  page    {tmp_path}/recordings/page.html",
        f"  tables  {tmp_path}/recordings/clips.tsv, regions.tsv, metrics.tsv",
    ]
    (tmp_path / "recordings" / "page.html").unlink()
    assert summary(config) == ""


def test_what_a_run_ends_with_is_set_aside_and_nothing_else(tmp_path):
    config = finished(tmp_path)
    folder = tmp_path / "recordings"
    set_aside_results_of_before(config | {"datasets": ["envmix"]})
    assert (folder / "page.html").exists()
    set_aside_results_of_before(config)
    assert sorted(path.name for path in folder.iterdir()) == [
        "normal_skipped.tsv",
        "previous",
        "unsorted_skipped.tsv",
    ]
    assert (folder / "previous" / "page.html").read_text() == "page"
    set_aside_results_of_before(config)  # a second failure keeps them
    assert (folder / "previous" / "page.html").read_text() == "page"
    (folder / "clips.tsv").write_text("of a run that failed before its page")
    set_aside_results_of_before(config)
    assert not (folder / "clips.tsv").exists()


def test_what_the_run_starts_from_stays(tmp_path):
    config = finished(tmp_path)
    folder = tmp_path / "recordings"
    set_aside_results_of_before(config, {str(folder / "detector.npz")})
    assert not (folder / "previous").exists()
    set_aside_results_of_before(config, {str(folder / "page.html")})
    assert (folder / "clips.tsv").exists() and not (folder / "page.html").exists()
    assert [path.name for path in (folder / "previous").iterdir()] == ["page.html"]


def test_a_home_folder_is_found_before_the_config_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    finished(tmp_path)
    set_aside_results_of_before({"results": "~/.", "datasets": ["folder"]})
    assert (tmp_path / "recordings" / "previous" / "page.html").exists()


def test_a_config_that_is_no_config_is_no_reason_to_fail(tmp_path):
    set_aside_results_of_before({"results": 3, "datasets": ["folder"]})
    set_aside_results_of_before({})
