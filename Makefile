# Two commands are all a newcomer needs: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
UV_VERSION := 0.13.9
VOPRF_PEER := tests/peers/voprf_peer/target/release/voprf-peer

.PHONY: demo test test-image check unit fuzz mutate eval bench bench-image docs setup peers clean

demo: setup
	@$(BIN)/sottovoce demo

test: setup peers check docs unit test-image

# Real images in an emulator, and every change to them that a host can make (docs/image.md): two machines at a time, each of which keeps one core busy.
test-image: setup
	@$(BIN)/sottovoce model fetch --small
	$(BIN)/pytest -n 2 --dist loadfile tests/image

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	@$(BIN)/sottovoce model fetch --small
	$(BIN)/pytest --ignore tests/image

fuzz: setup
	$(BIN)/python -m fuzz --runs 1000000

# The page is written where every change that no test noticed is argued in tests/mutants.toml.
mutate: setup
	@$(UV) sync --quiet --locked --all-extras --group mutation --python $(BIN)/python
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/mutate.py run
	$(BIN)/python scripts/mutation_page.py --write

# What the model has said before is in evaluation/said.jsonl and not computed again; all of it takes two or three hours on two cores.
eval: setup
	@$(UV) sync --quiet --locked --all-extras --group evaluation --python $(BIN)/python
	@$(BIN)/sottovoce model fetch
	$(BIN)/python -m evaluation check
	$(BIN)/python -m evaluation run
	$(BIN)/python -m evaluation page

# The site, in build/site. A link that leads nowhere is an error.
docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html -c docs . build/site
	@echo "build/site/index.html"

bench: setup
	$(BIN)/python -m benchmarks

# Images: how long they take to build and to boot, and their sizes; `--fresh` also from nothing.
bench-image: setup
	$(BIN)/python -m benchmarks.image

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml uv.lock
	@scripts/preflight $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@echo "Installing locked dependencies. The first time, the inference engine is compiled: about five minutes."
	@$(UV) sync --locked --all-extras --compile-bytecode --python $(BIN)/python
	@touch $@

peers: tests/peers/node_modules/.ready $(VOPRF_PEER) tests/peers/go/.built/.ready tests/peers/matrix/.venv/.ready

tests/peers/matrix/.venv/.ready: tests/peers/matrix/requirements.txt | setup
	@$(UV) venv --quiet --clear --python $(BIN)/python $(@D) && \
	{ VIRTUAL_ENV=$(@D) $(UV) pip sync --quiet --require-hashes $< && VIRTUAL_ENV=$(@D) $(UV) pip install --quiet --no-deps --editable . && touch $@; } \
	|| echo "A server of Matrix cannot be installed here: the test of examples/programs/matrix_unread.py will be skipped, and say so."

tests/peers/node_modules/.ready: tests/peers/package-lock.json
	@if command -v npm >/dev/null; then cd tests/peers && npm ci --silent --ignore-scripts && touch node_modules/.ready; \
	else echo "npm is not here: tests against the JavaScript implementations will be skipped, and say so."; fi

$(VOPRF_PEER): tests/peers/voprf_peer/Cargo.lock tests/peers/voprf_peer/src/main.rs
	@if command -v cargo >/dev/null; then cd tests/peers/voprf_peer && cargo build --release --locked --quiet && touch target/release/voprf-peer \
	|| echo "the Rust implementation cannot be built here: tests against it will be skipped, and say so."; \
	else echo "cargo is not here: tests against the Rust implementation will be skipped, and say so."; fi

tests/peers/go/.built/.ready: $(wildcard tests/peers/go/*/go.mod tests/peers/go/*/go.sum tests/peers/go/*/*.go)
	@mkdir -p $(@D)
	@if command -v go >/dev/null; then echo "Building the Go implementations that ours are tested against: some minutes, the first time." && \
	export GOTOOLCHAIN=auto GOFLAGS=-mod=readonly && \
	(cd tests/peers/go/tlog && go build -o ../.built/tlogpeer . && go build -o ../.built/ filippo.io/torchwood/cmd/litewitness) && \
	(cd tests/peers/go/s3 && go build -o ../.built/ github.com/versity/versitygw/cmd/versitygw) && \
	(cd tests/peers/go/chart && go build -o ../.built/chartpeer . && go build -o ../.built/ helm.sh/helm/v3/cmd/helm) && touch $(@D)/* $@ \
	|| echo "They could not be built: tests against them will be skipped, and say so."; \
	else echo "go is not here: tests against the Go implementations will be skipped, and say so."; fi

clean:
	rm -rf $(VENV) mutants tests/peers/node_modules tests/peers/voprf_peer/target tests/peers/go/.built tests/peers/matrix/.venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
