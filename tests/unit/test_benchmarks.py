"""Each benchmark at its quick size: rows, and results that agree with the peers. No time is asserted."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks import stages
from benchmarks.all import filled, short
from benchmarks.coreset import is_greedy_up_to_rounding
from benchmarks.rows import Row, markdown, prepare

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("coreset", "scoring", "metrics", "embedding", "startup")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_results_agree_with_the_peer(name, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    prepare(torch.get_num_threads())
    module = import_module(f"benchmarks.{name}")
    rows = module.measure(module.PARSER.parse_args(["--quick"]))
    assert rows and all(row.ours_s > 0 for row in rows)
    if name == "startup":
        assert [row.exact for row in rows] == [None]
    else:
        exact = [row for row in rows if not row.what.startswith("the same, a patch")]
        assert exact and all(row.exact is True for row in exact), markdown(rows)


def test_the_papers_coreset_at_a_quick_size():
    module = import_module("benchmarks.coreset")
    for data in ("recordings", "noise"):
        (row,) = module.measure(module.PARSER.parse_args(["--quick", "--paper", "--data", data]))
        assert row.exact and row.peer_s is None


@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_help_answers_without_pytorch(name):
    command = [sys.executable, "-X", "importtime", "-m", f"benchmarks.{name}", "--help"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "--quick" in result.stdout and "| torch" not in result.stderr


def test_a_selection_may_part_only_where_rows_are_as_far():
    features = torch.tensor([[0.0], [4.0], [-4.0], [1.0]])
    assert is_greedy_up_to_rounding(features, [0, 1, 2], [0, 1, 2]) == (True, 3)
    assert is_greedy_up_to_rounding(features, [0, 1, 2], [0, 2, 1]) == (True, 1)
    assert is_greedy_up_to_rounding(features, [0, 1, 2], [0, 3, 1]) == (False, 1)


def test_rows_say_whether_a_target_is_met():
    faster = Row("a", "peer", 6.0, 2.0, 3.0, True)
    assert faster.ratio == 3.0 and faster.met
    assert not Row("b", "peer", 5.0, 2.0, 3.0, True).met
    assert Row("c", "", None, 2.0, 3.0, None).met and not Row("c", "", None, 4.0, 3.0, None).met
    table = markdown([faster, Row("d", "peer", 1.0, 1.0, 2.0, False)])
    assert "| a | peer | 6 | 2 | 3.0 | >= 3 | yes | yes |" in table and "| no | NO |" in table
    assert "| a | peer | 3.0 | >= 3 |" in short([faster])


def test_pages_hold_the_markers():
    for page in ("README.md", "docs/speed.md"):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        changed = filled(text, "speed", "TABLE")
        assert changed.count("TABLE") == 1 and filled(changed, "speed", "TABLE") == changed
    assert filled("<!-- a -->\nold\n<!-- /a --> tail", "a", "new\\1") == (
        "<!-- a -->\nnew\\1\n<!-- /a --> tail"
    )


def test_stages_of_two_runs_are_compared_by_the_jobs_that_both_have(tmp_path, capsys, monkeypatch):
    def job(run: str, path: str, wall_s: float, cpu_s: float | str) -> None:
        file = tmp_path / run / "benchmarks" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\tmax_rss\tcpu_time\n{wall_s}\t10\t{cpu_s}\n", encoding="utf-8")

    for run, factor in (("before", 4), ("after", 1)):
        for category in ("dog", "siren"):
            job(run, f"fit_detector/{category}/padim/seed0.tsv", 20 * factor, 10 * factor)
        job(run, "aggregate_metrics.tsv", 1.5, "NA")
    job("before", "fit_detector/rain/padim/seed0.tsv", 1000, 1000)
    runs = [str(tmp_path / run) for run in ("before", "after")]
    monkeypatch.setattr(sys, "argv", ["stages", *runs])
    stages.main()
    printed = capsys.readouterr().out
    assert "| fit_detector padim | 2 | 80 | 20 | 4.0 | 160 | 40 |" in printed
    assert "| 1 cheaper stages | 1 | 2 | 2 | 1.0 | 2 | 2 |" in printed
    assert "| all | 3 | 82 | 22 | 3.8 | 162 | 42 |" in printed
    monkeypatch.setattr(sys, "argv", ["stages", runs[0], str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="no job in common"):
        stages.main()
