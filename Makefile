# Every target uses .venv, which tools/install.py makes once.
PYTHON ?= python3
UV ?= uv
SCRIPTS = $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN = .venv/$(SCRIPTS)
LOWEST = build/lowest/$(SCRIPTS)/python

# MNIST_PROFILE is what Python reads; PROFILE is shorter to type and means the same.
ASKED := $(sort $(PROFILE) $(MNIST_PROFILE))
ifneq ($(filter run lab notebooks,$(MAKECMDGOALS)),)
  ifneq ($(filter-out quick default full,$(ASKED)),)
    $(error PROFILE must be one of quick, default, full, got '$(filter-out quick default full,$(ASKED))')
  else ifneq ($(word 2,$(ASKED)),)
    $(error PROFILE is '$(PROFILE)' and MNIST_PROFILE is '$(MNIST_PROFILE)'; give one of them)
  endif
endif

# In a notebook, plots go into the page, whatever backend the shell is set to.
unexport MPLBACKEND
.DEFAULT_GOAL := help
.PHONY: help run lab book fix quick test test-faults test-lowest test-browser bench notebooks lock
.PHONY: clean install-notebooks install-dev install-browser

help: ## list the targets
	@echo "make run          train the network, then make a book of the notebooks"
	@echo "make lab          open the notebooks in JupyterLab (ARGS='--no-browser')"
	@echo "make book         make one site of the committed notebooks and the reference"
	@echo "make test         check it all: style, spelling, types, tests, notebooks"
	@echo "make quick        the same without slow tests and notebooks; about a minute"
	@echo "make fix          format the code, sort its imports, fix what ruff can fix"
	@echo "make test-faults  kill a run 50 times, damage 400 files; nothing may get lost"
	@echo "make test-lowest  run the tests with the oldest versions that are allowed"
	@echo "make test-browser look at each page of the book in Chromium"
	@echo "make bench        time training against plainly written rivals"
	@echo "make notebooks    execute the notebooks in place, to commit them"
	@echo "make lock         update uv.lock to match constraints.txt"
	@echo "make clean        remove what these made; .venv, data and checkpoints stay"
	@echo
	@echo "PROFILE=quick|default|full: how long run, lab and notebooks train."
	@echo "PYTHON=python3.12 chooses the Python, CONSTRAINTS=none the newest versions of"
	@echo "all packages, and TORCH_INDEX=URL where torch is from (docs/installing.md)."

install-notebooks:
	@$(PYTHON) tools/install.py notebooks

install-dev:
	@$(PYTHON) tools/install.py dev

install-browser:
	@$(PYTHON) tools/install.py browser

run: install-notebooks
	@MNIST_PROFILE=$(or $(ASKED),quick) $(BIN)/python tools/run_notebooks.py

# With a trap the shell waits for JupyterLab's own end, and make doesn't call that an error.
lab: install-notebooks
	@echo "To stop JupyterLab, press Ctrl-C twice here."
	@trap : INT; \
	MNIST_PROFILE=$(or $(ASKED),default) $(BIN)/python -m jupyterlab --notebook-dir=notebooks \
	    --LabApp.default_url=/lab/tree/01_download_mnist.ipynb \
	    --LabApp.app_settings_dir=tools/lab --log-level=ERROR --LabApp.log_level=ERROR \
	    $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

notebooks: install-notebooks
	@MNIST_PROFILE=$(or $(ASKED),full) $(BIN)/python tools/run_notebooks.py --in-place
	@$(BIN)/python tools/covers.py

book: install-notebooks
	@echo "Making the book; this takes up to a minute ..."
	@$(BIN)/python tools/book.py

fix: install-dev
	@$(BIN)/python tools/check.py fix

quick: install-dev
	@$(BIN)/python tools/check.py quick

test: install-dev
	@$(BIN)/python tools/check.py

test-faults: install-dev
	@MNIST_FAULTS=long $(BIN)/python -m pytest -q -rP tests/test_faults.py

test-lowest:
	@$(PYTHON) -m venv build/lowest
	@$(LOWEST) -m pip install --quiet uv
	@$(LOWEST) -m uv pip install --quiet --python $(LOWEST) --resolution lowest-direct --editable '.[dev]'
	@$(LOWEST) -m pytest -q

test-browser: install-browser
	@$(BIN)/python -m pytest -q -rs -n 2 --dist loadgroup tests/browser

bench: install-notebooks
	@$(BIN)/python -m experiments.bench

lock:
	@$(UV) lock --quiet --default-index https://pypi.org/simple \
	    $(addprefix --upgrade-package ,$(shell sed '/^#/d' constraints.txt))

clean:
	@$(PYTHON) tools/clean.py
