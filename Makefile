# Every target works on a fresh machine with Python 3.11 or newer and make: it makes .venv and installs first.
#   make study STUDY=full      another study of notebooks/pipeline/study.yaml than quick
#   make test PYTHON=python3.12      another Python for a new .venv
PYTHON ?= python3
STUDY ?= quick
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help study test lessons lab report clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/'

study: $(INSTALLED)  ## run the study STUDY (quick: 10 minutes on 2 cores): trains, tests, writes results/STUDY/report.html
	$(BIN)/isnet run --study $(STUDY)

test: $(INSTALLED)  ## check the style and run the tests
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n auto --dist loadfile

lessons: $(INSTALLED)  ## execute the five lessons with their answers, check the numbers in their text (5 minutes on 2 cores)
	$(BIN)/python -m pytest -n auto --dist load -m lessons tests/test_lessons.py

lab: $(INSTALLED)  ## open the lessons in JupyterLab, all notebooks beside them
	$(BIN)/jupyter lab --notebook-dir=notebooks --LabApp.default_url=/lab/tree/lessons/1_a_shortcut.ipynb

report: $(INSTALLED)  ## make tables, figures and report of STUDY anew from its predictions, without training
	$(BIN)/isnet report --study $(STUDY)

clean:  ## remove caches, build products and results/smoke; keeps .venv and every other result
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache results/smoke
	find isnetlib notebooks tests \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# Checked before .venv is made, and again on the Python inside it, which may be an older one from before.
define CHECK
import sys
if sys.version_info < (3, 11):
    sys.exit("isnetlib needs Python 3.11 or newer, but %s is %s. %s" % (sys.executable, sys.version.split()[0], sys.argv[1]))
endef
export CHECK

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or say which: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK" "Say which Python to use: make PYTHON=/path/to/python3.11"
	$(PYTHON) -m venv .venv

$(INSTALLED): $(BIN)/pip pyproject.toml requirements.lock
	@$(BIN)/python -c "$$CHECK" "Remove .venv and call make again with PYTHON=/path/to/python3.11"
	@echo "Installing into .venv under the versions of requirements.lock (PyTorch is large: some minutes)"
	$(BIN)/python -m pip install --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@
