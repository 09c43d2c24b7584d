# The two commands are `make demo` and `make test`; all set-up happens by itself.
# bytecode halves the workers' import time
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
UV := .make/uv/bin/uv
RUN := .venv/bin/python
export UV_PROJECT_ENVIRONMENT := .venv

.PHONY: help demo test fuzz soak lint check bench clean format locks pictures
help:
	@echo "make demo   set up, then plan and train a tiny model through the real server (no GPU, no token)"
	@echo "make test   set up, then the whole test suite"
	@echo "make lint   format check, lint, types, import layers"
	@echo "make soak   an hour or more: what chance decides, as often as is promised, and eight servers under load for half an hour"
	@echo "make check  lint and test;  make bench  speed, recorded;  make format  rewrite in house style"

$(UV):
	$(PYTHON) -m venv .make/uv
	.make/uv/bin/pip install --quiet "uv>=0.9,<1"

# The links let the type checker resolve model_trainer.* without an install.
.make/ready: $(UV) pyproject.toml uv.lock
	$(UV) sync --frozen --extra train --python $(PYTHON) --no-install-project --compile-bytecode --quiet
	$(UV) pip install --quiet --python $(RUN) --no-deps -e .
	mkdir -p .links/model_trainer
	for f in server tools prompts services executors trainer; do ln -sfn ../../$$f .links/model_trainer/$$f; done
	touch $@

demo: .make/ready
	.venv/bin/model-trainer demo

# two processes: most tests wait for processes of their own
test: .make/ready
	$(RUN) -m pytest -n 2 --dist loadfile

# what `make test` tries with 200 cases for each tool, with ten times as many
fuzz: .make/ready
	FUZZ_CASES=2000 $(RUN) -m pytest tests/fuzz --timeout=3600

# what `make test` repeats a few times as often as is promised, then benchmarks/soak.py
soak: .make/ready
	SOAK=1 $(RUN) -m pytest -m soak --timeout=7200
	$(RUN) -m benchmarks soak

lint: .make/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/basedpyright --warnings
	PYTHONPATH=.links .venv/bin/lint-imports

check: lint test

# What `model-trainer setup` installs: uv.lock without the server's own packages. A test compares it with uv.lock.
locks: $(UV)
	$(UV) export --frozen --extra train --no-dev --no-emit-project --format requirements-txt --no-header --no-annotate --prune mcp --prune ruamel-yaml --prune nvidia-ml-py --prune platformdirs --prune matplotlib --output-file services/environment/locks/default.txt --quiet

format: .make/ready
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: .make/ready
	$(RUN) -m benchmarks

# docs/images and the README's transcript, from one real run of the demo
pictures: .make/ready
	$(RUN) docs/make_pictures.py

clean:
	rm -rf .make .venv .links dist build .pytest_cache .ruff_cache .hypothesis
