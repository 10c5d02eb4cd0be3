## make run         the quick start: FedHPro on handwritten digits, through Flower's simulation engine
## make test        the tests, about 15 minutes on two cores
## make cluster     builds the images of docker/ and runs the cluster, where a Docker engine can be had
## make lint types  style and types
## make bench       measures speed and memory
## Each sets everything up in .venv first (`make setup` does only that). All can be repeated: what is there is not
## installed again. PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Tests at a time: one more than the usual two cores, because those with real clusters mostly wait. A file's tests stay in one
# worker, which starts what they share only once; tests/conftest.py puts the tests with Flower's real processes first.
JOBS   ?= 3
READY  := $(VENV)/.ready

.PHONY: setup run test cluster lint types types-library types-benchmarks bench ci clean help
help:
	@sed -n 's/^## //p' Makefile

setup: $(READY)

run: $(READY)
	@echo "== running the quick start (about a minute)"
	@$(BIN)/fedhpro run

test: $(READY)
	@echo "== running the tests"
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Apart from the other tests, whose parallel processes would slow its nodes down. Without a Docker engine it skips and says so.
cluster: $(READY)
	@echo "== building and running the docker compose cluster"
	@$(BIN)/python -m pytest -n 0 -rs -m cluster tests/deployment/test_compose.py

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: types-library types-benchmarks

types-library: $(READY)
	@$(BIN)/mypy

types-benchmarks: $(READY)
	@cd benchmarks && MYPYPATH=..:../tests/deployment $(abspath $(BIN))/mypy --config-file ../pyproject.toml *.py

bench: $(READY)
	@$(BIN)/python benchmarks/run.py

ci: lint types test

# The tested versions, so that every machine gets the same set; `make setup CONSTRAINTS=` installs the newest allowed ones.
CONSTRAINTS ?= constraints.txt
$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("fedhpro needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "== setting up $(VENV): PyTorch and Flower are a few gigabytes, this takes some minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@# pip downloads to TMPDIR first, and many systems keep /tmp in memory, too small for PyTorch's gigabytes
	@mkdir -p $(VENV)/tmp && TMPDIR="$$(cd $(VENV)/tmp && pwd)" $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-compile $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS)) --editable '.[dev]'
	@rm -rf $(VENV)/tmp
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true # pip would do it on one core; some files are for other Pythons
	@touch $(READY)
	@echo "== $(VENV) is ready"

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
