"""Captions of the report: they render with whatever wildcards a figure or table has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from docutils.core import publish_string
from jinja2 import Environment

STAMP = "SYNTHETIC SOUNDS"


@pytest.mark.parametrize(
    "wildcards",
    [
        {},
        {"protocol": "leakfree", "level": "sample", "metric": "f1"},
        {"protocol": "published", "table": "mimii", "encoder": "aisfx"},
        {"protocol": "leakfree", "table": "faithfulness", "encoder": "aisfx"},
    ],
)
def test_report_captions_are_sound_with_any_wildcards(repository, wildcards):
    captions = sorted((repository / "report").glob("*.rst"))
    assert "workflow" in [path.stem for path in captions]
    environment = Environment(trim_blocks=True, lstrip_blocks=True)  # as in Snakemake's report
    for path in captions:
        for config in ({}, {"stamp": STAMP, "results": "elsewhere"}):
            snakemake = SimpleNamespace(wildcards=SimpleNamespace(**wildcards), config=config)
            template = environment.from_string(path.read_text(encoding="utf-8"))
            text = template.render(snakemake=snakemake)
            assert "{" not in text and "None" not in text
            # a markup warning ends the test
            publish_string(text, writer="null", settings_overrides={"halt_level": 2})
        assert "results/metrics" not in text
