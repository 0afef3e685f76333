# Thin: every target is ordinary commands on .venv.
PYTHON ?= python3.11
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores 2

.PHONY: help setup demo subset test lint format report clean-demo

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: .venv/installed  ## make .venv with every version of requirements.txt

.venv/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: setup  ## the whole workflow on synthetic sounds, then its report
	$(SNAKEMAKE) --configfile config/demo.yaml
	$(SNAKEMAKE) --configfile config/demo.yaml --report results/demo/report.html
	@echo "tables: results/demo/tables   figures: results/demo/figures   report: results/demo/report.html"

subset: setup  ## all 8 classes on real recordings from ../shared/data
	$(SNAKEMAKE) --resources gpu=2 --configfile config/subset.yaml
	$(SNAKEMAKE) --configfile config/subset.yaml --report results/subset/report.html

test: setup lint  ## all tests that need neither network, GPU nor Slurm
	$(BIN)/python -m pytest

lint: setup  ## formatting and lint of Python and Snakemake files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml

format: setup  ## bring all files into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules
