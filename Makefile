# make report [DATA=path/to/export] [BRAND=handle] [OUT=folder]    a report of the town in data/town, or of your export
# make test                                                        every check
# make coverage                                                    the Monte Carlo suites in full, and their page's numbers (20 minutes on two cores)
# make lab                                                         JupyterLab, on the first tutorial

PYTHON ?= python3
VENV ?= .venv
OUT ?= report
DATA ?=
BRAND ?=
export DATA BRAND OUT

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt
HOUSE = settings.ini setup.py pyproject.toml constraints.txt
TOWN = data/town/twcs.csv data/town/slack.zip data/town/mastodon.tar.gz

.PHONY: report test coverage lab export lock clean

report: $(VENV)/run.stamp
	@set -e; mkdir -p "$$OUT"; \
	if [ -n "$$DATA" ]; then store="$$OUT/trustlab.duckdb"; set -- "$$DATA"; else store="$$OUT/town.duckdb"; set -- $(TOWN); fi; \
	$(BIN)/trustlab load "$$store" "$$@" $${BRAND:+--brand "$$BRAND"} >&2 || [ $$? -eq 3 ]; \
	if [ -z "$$DATA" ]; then $(BIN)/trustlab roles "$$store" data/town/roles.csv >&2; fi; \
	$(BIN)/trustlab report "$$store" --out "$$OUT" $${BRAND:+--set "brand=$$BRAND"}

test: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ty check --python $(VENV) trustlab
	$(BIN)/python nbs/make.py test
	$(BIN)/python -m pytest tests -q -ra --durations=10 -n auto --dist loadfile

coverage: $(VENV)/dev.stamp
	@mkdir -p build; rm -f build/coverage.jsonl
	OMP_NUM_THREADS=1 TRUSTLAB_LONG=1 TRUSTLAB_RECORD="$(CURDIR)/build/coverage.jsonl" $(BIN)/python -m pytest tests/test_coverage_*.py -q -n auto --dist loadscope --durations=10
	LC_ALL=C sort build/coverage.jsonl > nbs/coverage.jsonl

lab: $(VENV)/lab.stamp
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs/tutorials/01_first_look.ipynb

export: $(VENV)/dev.stamp
	$(BIN)/python nbs/make.py export

lock: $(VENV)/dev.stamp
	$(BIN)/python nbs/make.py lock

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'trustlab needs Python 3.11 or later; name one, for example: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo 'No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@touch $@

$(VENV)/run.stamp: $(VENV)/venv.stamp $(HOUSE)
	@echo 'Installing trustlab into $(VENV) ...' >&2
	@$(PIP) -e .
	@touch $@

$(VENV)/lab.stamp: $(VENV)/venv.stamp $(HOUSE)
	@echo 'Installing trustlab and JupyterLab into $(VENV) ...' >&2
	@$(PIP) -e '.[lab]'
	@touch $@ $(VENV)/run.stamp

$(VENV)/dev.stamp: $(VENV)/venv.stamp $(HOUSE)
	@echo 'Installing trustlab and its development tools into $(VENV) ...' >&2
	@$(PIP) -e '.[lab,dev]'
	@touch $@ $(VENV)/run.stamp $(VENV)/lab.stamp
