# The commands of this repository; `make` lists them. Two set it up: `make demo` and `make test`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
# cpu: the CPU build of torch where the package index has one; cuda: the index's default build.
TORCH ?= cpu
# Package index that has the CPU build, when the usual one has not.
TORCH_INDEX ?=
# Processes that share the tests out among them, by file.
TESTERS ?= 2
# Training steps of demo-model before its last run down.
STEPS ?= 30000
# Folder of the model that parity, nonspeech and peers read; empty: the embedded one.
MODEL ?=
# Where `make peers` writes its results, without ending.
PEERS_OUT ?=
# Non-speech that `make nonspeech` synthesises, and from which seed.
HOURS ?= 10
SEED ?= 1
# How long the sessions of `make steady` speak.
MINUTES ?= 10
# What `make fuzz` runs (empty: every target), for how long each, and how many at once.
TARGET ?=
SECONDS ?= 60
JOBS ?= 2
# The file that `make fuzz-again` runs again.
INPUT ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: help setup fmt check check-js sealed-cost test test-browser faults soak steady egress bundle-test testssl cov demo \
  serve demo-model parity nonspeech audit-edits fuzz fuzz-again floods peers clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(VENV)/.dev ## install everything for development into .venv (TORCH=cuda for the CUDA build)

demo: $(VENV)/.base ## stream a recorded dialogue over mutual TLS and show live captions
	@$(BIN)/stream-server demo --state-dir .demo

serve: $(VENV)/.base ## run the server with the demo's certificates until Ctrl-C
	@$(BIN)/stream-server demo --state-dir .demo --certificates-only
	@$(BIN)/stream-server serve --state-dir .demo --log-format text

test: $(VENV)/.dev ## run the tests
	@echo "==> tests"
	@PYTHONASYNCIODEBUG=1 $(BIN)/python -m pytest -m "not browser" -n $(TESTERS) --dist loadfile

test-browser: $(VENV)/.dev client_js/node_modules/.installed ## run the tests that need Chromium and Firefox; pictures in tests/browser/screenshots
	@./tools/need-browsers
	@echo "==> browser tests" && $(BIN)/python -m pytest tests/browser

faults: $(VENV)/.dev ## kill, stop and starve the engine under 20 streams, replace its models: nothing lost, nothing doubled
	@$(BIN)/python -m pytest -q -s tests/endurance/faults.py tests/endurance/replacement.py

soak: $(VENV)/.dev ## 10,000 jobs through the model after 10,000 to settle: memory stays flat (SOAK_JOBS=... for another number)
	@$(BIN)/python -m pytest -q -s tests/endurance/soak.py

steady: $(VENV)/.dev ## 20 live sessions for 10 minutes: what they cost does not rise (MINUTES=... for another time)
	@$(BIN)/python -m benchmarks.steady --minutes $(MINUTES)

bundle-test: $(VENV)/.dev ## make the archive for offline installation, install it without network and transcribe
	@$(BIN)/python -m pytest -q -s tests/endurance/offline_installation.py

egress: $(VENV)/.dev ## run the demo in a network without a way out, and in one that counts: 0 packets
	@$(BIN)/python -m pytest -q -s tests/endurance/egress.py

testssl: $(VENV)/.dev ## scan a running server with testssl.sh: TLS 1.3 only, no resumption; minutes
	@$(BIN)/python -m pytest -q -s tests/endurance/tls_scan.py

cov: $(VENV)/.dev ## run the tests and measure branch coverage
	@$(BIN)/coverage run -m pytest -m "not browser" && $(BIN)/coverage report --skip-covered --show-missing

nonspeech: $(VENV)/.dev ## synthesise HOURS=10 of sounds without speech; fails if one becomes a caption
	@PYTHONPATH=tests/support $(BIN)/python -m benchmarks.nonspeech --hours $(HOURS) --seed $(SEED) \
		$(if $(MODEL),--model "$(MODEL)")

peers: $(VENV)/.dev ## measure WhisperLive and WhisperLiveKit beside ours, same weights: 13 min (MODEL=DIR, PEERS_OUT=FILE)
	@$(BIN)/python -m benchmarks.peers $(if $(MODEL),--model $(MODEL)) $(if $(PEERS_OUT),--out $(PEERS_OUT))

check: $(VENV)/.dev ## lint, types, import rules, shell scripts
	@echo "==> ruff" && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy" && $(BIN)/mypy
	@echo "==> import rules" && $(BIN)/lint-imports
	@echo "==> shell scripts" && $(BIN)/shellcheck $$(grep -lE '^#!.*sh$$' tools/* stream_server/assets/bundle/*.sh)
	@if command -v npm >/dev/null || [[ $$(id -u) == 0 ]]; then $(MAKE) --no-print-directory check-js; \
	  else echo "==> client_js: not checked, there is no npm here (make check-js says how to get it)"; fi

check-js: client_js/node_modules/.installed ## check the types of client_js and run its tests
	@echo "==> client_js: types" && cd client_js && node_modules/.bin/tsc --project tsconfig.json
	@echo "==> client_js: tests" && cd client_js && node --test --test-reporter=dot tests/*.test.js

parity: $(VENV)/.dev ## check that our engine says what whisper.decode says: make parity MODEL=DIR
	@STREAM_SERVER_TEST_MODEL="$(MODEL)" $(BIN)/python -m pytest -q tests/stream_server/engine/test_model_parity.py
	@PYTHONPATH=tests/support $(BIN)/python -m benchmarks.parity

demo-model: $(VENV)/.base ## train the embedded model from nothing: hours on 2 cores, goes on where it stopped
	@$(PIP) install -q -r training/requirements.txt
	@for step in corpus speech "train --steps $(STEPS)" "train --finish" export recordings rates card; do \
	  echo "==> $$step" && $(BIN)/python -m training.demo_en $$step || exit 1; done

sealed-cost: $(VENV)/.dev ## what a sealed model of 2 GB costs beyond a plain one: 6 GB of memory, 6 GB of disk
	@$(BIN)/python -m benchmarks.sealing --mb 2000

audit-edits: $(VENV)/.dev ## 10,000 edits of the audit log, each found, and 1,000 clean logs without alarm: minutes
	@STREAM_SERVER_AUDIT_EDITS=10000 $(BIN)/python -m pytest \
	  tests/stream_server/records/test_verify.py tests/stream_server/records/test_anchor.py

fuzz: $(VENV)/.fuzz ## fuzz each parser for SECONDS=60 with atheris (TARGET=policy for one): minutes
	@PYTHONPATH=tests/support $(BIN)/python -m fuzzing.runner $(TARGET:%=--target %) --seconds $(SECONDS) --jobs $(JOBS)

fuzz-again: $(VENV)/.dev ## run one input that crashed again: make fuzz-again TARGET=policy INPUT=.fuzz/crashes/...
	@PYTHONPATH=tests/support $(BIN)/python -m fuzzing.runner --target "$(TARGET)" --again "$(INPUT)"

floods: $(VENV)/.dev ## flood the server in 13 ways and measure what other clients feel: minutes, on a quiet machine
	@$(BIN)/python -m benchmarks.floods

fmt: $(VENV)/.dev ## format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## remove what the commands made, certificates of the demo included
	rm -rf $(VENV) .demo .fuzz .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis \
	  benchmarks/.faster-whisper benchmarks/peers/.environments benchmarks/peers/.models client_js/node_modules \
	  tests/browser/screenshots

# ---------------------------------------------------------------- installation

$(VENV)/bin/python:
	@echo "==> creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@PYTHON="$(PYTHON)" ./tools/need-debian-package ensurepip venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "==> installing torch $(TORCH_VERSION), $(TORCH) build (the largest download)"
	@./tools/install-torch "$(BIN)/python" "$(TORCH_VERSION)" "$(TORCH)" "$(TORCH_INDEX)"
	@echo "==> installing stream-server and what it needs"
	@$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "==> installing what tests and checks need"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "==> installing atheris"
	@$(PIP) install -q -c constraints.txt -e '.[fuzz]'
	@touch $@

client_js/node_modules/.installed: client_js/package.json client_js/package-lock.json
	@./tools/need-node
	@echo "==> installing what the checks of client_js need"
	@cd client_js && npm ci --no-audit --no-fund --loglevel=error
	@touch $@
