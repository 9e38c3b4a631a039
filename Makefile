# Every target stands on .venv, which tools/install.py makes once.
PYTHON ?= python3
PROFILE ?=
BIN = .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

.DEFAULT_GOAL := help
.PHONY: help run lab test test-faults bench notebooks clean install-notebooks install-dev

help: ## list the targets
	@echo "make run          train the CNN headless and draw its curves (PROFILE=quick|default|full)"
	@echo "make lab          open the notebooks in JupyterLab"
	@echo "make test         check everything: ruff, pytest, nbval"
	@echo "make test-faults  kill a run 50 times, spoil 400 files, and see nothing lost"
	@echo "make bench        time training against plainly written rivals"
	@echo "make notebooks    execute the notebooks in place, to commit them (PROFILE=full)"
	@echo "make clean        remove what these targets made; data and checkpoints stay"
	@echo
	@echo "PYTHON=python3.12 chooses the Python; TORCH_INDEX=URL another source of torch (README)."

install-notebooks:
	@$(PYTHON) tools/install.py notebooks

install-dev:
	@$(PYTHON) tools/install.py dev

run: install-notebooks
	@MNIST_PROFILE=$(or $(PROFILE),quick) $(BIN)/python tools/run_notebooks.py

lab: install-notebooks
	@$(BIN)/python -m jupyterlab --notebook-dir=notebooks

notebooks: install-notebooks
	@MNIST_PROFILE=$(or $(PROFILE),full) $(BIN)/python tools/run_notebooks.py --in-place

test: install-dev
	@$(BIN)/python tools/check.py

test-faults: install-dev
	@MNIST_FAULTS=long $(BIN)/python -m pytest -q -rP tests/test_faults.py

bench: install-notebooks
	@$(BIN)/python -m experiments.bench

clean:
	@$(PYTHON) tools/clean.py
