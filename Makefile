# Thin: every target is ordinary commands on .venv.
PYTHON ?= python3.11
BIN := .venv/bin
# --logger short: one progress line, warnings and errors; the rest is in results/logs and .snakemake/log
SNAKEMAKE := PYTHONPATH=src $(BIN)/snakemake --cores 2 --logger short

# As they were typed: no character of a folder's name means anything to make (value) or to the shell (export).
TYPED := NORMAL UNSORTED FOLDER RESULTS METHOD ENCODER RATE CHANNEL
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)

.PHONY: help setup demo subset leaderboard recordings watch docs bench bench-coreset-paper test test-slow test-slurm lint format plan why rulegraph

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: .venv/installed  ## make .venv with every version of requirements.txt

.venv/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# gpu=2: two jobs that could use a GPU side by side; without one they would else run one after another.
demo: setup  ## the whole workflow on synthetic sounds, then its report
	@rm -f results/demo/report.html
	@$(SNAKEMAKE) --resources gpu=2 --configfile config/demo.yaml
	@$(SNAKEMAKE) --configfile config/demo.yaml --report results/demo/report.html
	@echo "tables: results/demo/tables   figures: results/demo/figures   report: results/demo/report.html"

subset: setup  ## real recordings from ../shared/data: all methods, both benchmarks
	@rm -f results/subset/report.html
	@$(SNAKEMAKE) --resources gpu=2 --configfile config/subset.yaml
	@$(SNAKEMAKE) --configfile config/subset.yaml --report results/subset/report.html
	@echo "tables: results/subset/tables   figures: results/subset/figures   report: results/subset/report.html"

leaderboard: setup  ## real recordings from ../shared/data: every method ranked without leakage, with its cost
	@$(SNAKEMAKE) leaderboard --resources gpu=2 --configfile config/leaderboard.yaml
	@echo "table: results/leaderboard_subset/leaderboard/leaderboard.html   pictures: beside it"

recordings: setup  ## your own: NORMAL=DIR UNSORTED=DIR [RESULTS=DIR METHOD= ENCODER= RATE=0.05 CHANNEL=0], and a page of what is anomalous
	@test -n "$$NORMAL" -a -n "$$UNSORTED" || { echo "make recordings NORMAL=DIR UNSORTED=DIR [RESULTS=DIR METHOD= ENCODER= RATE=0.05 CHANNEL=0]"; exit 1; }
	@$(SNAKEMAKE) --configfile config/recordings.yaml --config normal="$$NORMAL" unsorted="$$UNSORTED" \
		results="$${RESULTS:-results}" recordings="{$${METHOD:+method: $$METHOD, }$${ENCODER:+encoder: $$ENCODER, \
		}$${RATE:+false_alarm_rate: $$RATE, }$${CHANNEL:+channel: $$CHANNEL}}"
	@PYTHONPATH=src $(BIN)/python -m vision_to_sound.monitoring.results_folder "$${RESULTS:-results}"

watch: setup  ## score files as they appear in FOLDER=DIR, with the detector of `make recordings`
	@test -n "$$FOLDER" || { echo "make watch FOLDER=DIR [RESULTS=DIR]"; exit 1; }
	@PYTHONPATH=src $(BIN)/python -m vision_to_sound.monitoring.watch --results "$${RESULTS:-results}" -- "$$FOLDER"

docs: setup  ## tables and pictures of a finished `make subset`, `make leaderboard` or both into README.md and docs/
	$(BIN)/python docs/fill.py

plan: setup  ## jobs, disk and time of the run of config/config.yaml, or with CONFIG=config/subset.yaml
	PYTHONPATH=src $(BIN)/python -m vision_to_sound.plan $(if $(CONFIG),--configfile $(CONFIG))

bench: setup  ## speed against anomalib, scikit-learn and msclap: tables in docs/speed.md and README.md (half an hour)
	PYTHONPATH=src $(BIN)/python -W ignore -m benchmarks.all

bench-coreset-paper: setup  ## 30 000 of 1.6 million patches, on embeddings of recordings and on noise (half an hour)
	PYTHONPATH=src $(BIN)/python -W ignore -m benchmarks.all --paper

why: setup  ## which change would make TARGET run again, e.g. TARGET=tables CONFIG=config/demo.yaml
	PYTHONPATH=src $(BIN)/python -m vision_to_sound.why $(if $(CONFIG),--configfile $(CONFIG)) $(TARGET)

test: setup lint  ## all tests that need neither network, GPU nor Slurm, but for the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-slow: setup  ## kills, full disks, damaged files, one core against two (half an hour)
	$(BIN)/python -m pytest -m slow

test-slurm: setup  ## the tiny workflow on a one-node Slurm, which comes and goes for it (needs Debian)
	$(BIN)/python tests/slurm/same_tables.py

lint: setup  ## formatting and lint of Python and Snakemake files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml

format: setup  ## bring all files into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

rulegraph: setup  ## docs/rulegraph.png: which rule feeds which (needs graphviz)
	@command -v dot >/dev/null || { echo "rulegraph: no program 'dot'; install graphviz"; exit 1; }
	$(BIN)/snakemake --configfile config/demo.yaml --forceall --rulegraph | dot -Tpng -Gdpi=55 > docs/rulegraph.png
