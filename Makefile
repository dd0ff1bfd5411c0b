# make demo | test | check | lint | bench; each sets up what it needs in .venv, nothing else is required beforehand.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check lint bench clean

demo: .venv/.installed
	$(BIN)/palaver run quickstart --out runs/quickstart --overwrite

test: .venv/.installed-dev .venv/.chromium
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint test

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,torch,peers]"
	@touch $@

.venv/.installed-bench: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch]"
	@touch $@

# The browser test wants Debian's Chromium; where it cannot be installed the test says so and reads the page itself.
.venv/.chromium: .venv/bin/python
	@command -v chromium >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 \
	       && apt-get update -qq >/dev/null 2>&1 \
	       && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1; } \
	  || echo "no Chromium here and no way to install it: the page is checked without a browser"
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info
