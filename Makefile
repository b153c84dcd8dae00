# make demo [ARGS="--seconds 60"]   the whole service at work, in a virtual environment of its own (.venv)
# make test | check | check-long | fuzz | clean
# make receipt-client               what tests/receipt_client needs (npm); without it those tests are skipped
# make bench | bench-quick          measurements against goals and peers; bench also writes docs/benchmarks.md
# make chaos [MINUTES=30] [INSTANCES="1 3"] [SEED=...]   random faults against the whole service; the seed comes first
#
# The installation is editable, so a change of the source needs no new one. It is repeated only when what is
# installed may change: setup.cfg, pyproject.toml, or this file.

PYTHON ?= python3
ARGS ?=
TESTS ?= tests
WORKERS ?= 4
FUZZ_SECONDS ?= 60
MINUTES ?= 30
INSTANCES ?= 1 3
SEED ?=

BIN := .venv/bin
STAMPS := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
PROPERTIES = $(shell grep -rl '^from hypothesis' tests)
DESCRIPTION := setup.cfg pyproject.toml Makefile

.PHONY: demo test check check-long chaos fuzz bench bench-quick receipt-client clean
.DELETE_ON_ERROR:

demo: $(STAMPS)/demo
	@$(BIN)/kps demo $(ARGS)

test: $(STAMPS)/test
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(TESTS)

check: $(STAMPS)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if [ -x $(BIN)/hadolint ]; then set -x; $(BIN)/hadolint Dockerfile; \
	elif command -v hadolint >/dev/null; then set -x; hadolint Dockerfile; \
	else echo "hadolint is not here: the Dockerfile was not checked"; fi

# Everything of test and check, then: a far database for long, further examples for the properties, a long demo, and the image.
check-long: test check
	KPS_TEST_LONG=1 $(BIN)/python -m pytest -q tests/service/test_slow_database.py
	for seed in 1 2 3 4 5; do $(BIN)/python -m pytest -q --hypothesis-seed=$$seed $(PROPERTIES) || exit 1; done
	$(BIN)/kps demo --plain --seconds 120 --rate 300
	$(MAKE) fuzz
	$(MAKE) chaos MINUTES=6
	$(BIN)/python -m tests.image.check || [ $$? = 77 ]

# 77 = the fuzzer does not exist for this Python.
fuzz: $(STAMPS)/fuzz
	$(BIN)/python tests/fuzz/fuzz_status.py $(FUZZ_SECONDS) || [ $$? = 77 ]

# bench-quick takes a minute, bench less than a quarter of an hour. Nothing else should run meanwhile, or the figures are worth nothing.
bench: $(STAMPS)/demo
	$(BIN)/python -m bench

bench-quick: $(STAMPS)/demo
	$(BIN)/python -m bench --quick

receipt-client: $(STAMPS)/receipt-client

# MINUTES of faults in all, shared by the numbers of instances, in rounds of two minutes.
chaos: $(STAMPS)/test
	$(BIN)/python -m tests.chaos --seconds $$(( $(MINUTES) * 60 / $(words $(INSTANCES)) )) --instances $(INSTANCES) \
	  $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find kps tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/demo: EXTRAS := demo
$(STAMPS)/test: EXTRAS := demo,test
$(STAMPS)/dev: EXTRAS := demo,test,dev
$(STAMPS)/fuzz: EXTRAS := demo,test,fuzz

$(STAMPS)/demo $(STAMPS)/test $(STAMPS)/dev $(STAMPS)/fuzz: $(STAMPS)/venv $(DESCRIPTION)
	@echo "installing kps[$(EXTRAS)] into .venv"
	@$(PIP) install -e '.[$(EXTRAS)]'
	@touch $@

$(STAMPS)/receipt-client: tests/receipt_client/package.json tests/receipt_client/package-lock.json $(STAMPS)/venv
	@command -v npm >/dev/null || { echo "npm was not found (Debian: apt install nodejs npm)"; exit 1; }
	@mkdir -p .venv/receipt-client
	@cp tests/receipt_client/package.json tests/receipt_client/package-lock.json .venv/receipt-client
	@npm ci --prefix .venv/receipt-client --no-audit --no-fund --ignore-scripts
	@touch $@

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found: install Python 3.11 or newer (Debian: apt install python3 python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "KPS needs Python 3.11 or newer, $(PYTHON) is older: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt install python3-venv)"; exit 1; }
	@[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@mkdir -p $(STAMPS)
	@touch $@
