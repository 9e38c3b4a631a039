"""The committed notebooks: executed in order, clean, readable, and really compared."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from hygiene import faults

PROJECT = Path(__file__).resolve().parent.parent
PATHS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
CHECKED = "nbval-check-output"
ENVIRONMENT = dict(os.environ)  # with the mirror that a test run may have been given

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def code_cells(name):
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


def test_all_are_there():
    assert [name[:2] for name in NOTEBOOKS] == ["01", "02", "03", "04", "07"]


@every_notebook
def test_it_is_clean_and_says_which_profile_ran(name):
    assert faults(NOTEBOOKS[name]) == []
    assert NOTEBOOKS[name].metadata["mnist_profile"] in ("default", "full")
    assert (PROJECT / "notebooks" / f"{name}.ipynb").stat().st_size < 1_500_000


@every_notebook
def test_prose_stands_before_every_cell_and_cells_are_short(name):
    before = None
    for cell in NOTEBOOKS[name].cells:
        if cell.cell_type == "code":
            assert before == "markdown", cell.source
            assert len(cell.source.splitlines()) <= 20, cell.source
        before = cell.cell_type


@every_notebook
def test_it_imports_only_what_is_declared(name):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split("[><=]", text)[0] for text in project["dependencies"]}
    allowed = declared | {"mnist_helpers"} | set(sys.stdlib_module_names)
    for cell in code_cells(name):
        for node in ast.walk(ast.parse(cell.source)):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            assert {n.split(".")[0] for n in names} <= allowed
            assert not names or cell is code_cells(name)[0], "imports belong in one cell"


@every_notebook
def test_its_links_lead_somewhere(name):
    for cell in NOTEBOOKS[name].cells:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", cell.source):
            if cell.cell_type == "markdown" and "://" not in link:
                assert (PROJECT / "notebooks" / link).exists(), link


@every_notebook
def test_a_wrong_kernel_is_told_what_to_do(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist_helpers", None)
    with pytest.raises(ModuleNotFoundError, match=r"Change Kernel.*pip install -e"):
        exec(code_cells(name)[0].source, {})


def run_nbval(path, *, build):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env",
         "-p", "no:cacheprovider", "-o", "filterwarnings=default", str(path)],
        cwd=path.parent, capture_output=True, text=True,
        env={**ENVIRONMENT, "MNIST_PROFILE": "quick", "MNIST_BUILD_DIR": str(build)},
    )  # fmt: skip


# The first cells of each notebook, up to one whose output is compared.
FIRST_CHECKED = {
    "01_download_mnist": ("imports", "settings", "download", "checksum"),
    "02_define_the_cnn": ("imports", "settings", "digit"),
    "03_train_with_progress_bars": ("imports", "settings", "loss"),
    "04_plot_accuracy_curves": ("imports", "settings", "error"),
    "07_train_faster": ("imports", "settings", "format"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_CHECKED)
def test_a_spoiled_output_is_noticed(name, tmp_path):
    """Spoil one compared output and see nbval fail on that cell alone."""
    notebook = nbformat.from_dict(NOTEBOOKS[name])
    keep = FIRST_CHECKED[name]
    notebook.cells = [c for c in notebook.cells if c.cell_type == "code" and c.id in keep]
    assert [cell.id for cell in notebook.cells] == list(keep)
    assert CHECKED in notebook.cells[-1].metadata["tags"]
    for spoil, outcome in ((False, f"{len(keep)} passed"), (True, "1 failed")):
        if spoil:
            output = notebook.cells[-1].outputs[0]
            output.text = output.text[:-2] + "~" + output.text[-1:]
        path = tmp_path / f"spoiled_{spoil}.ipynb"
        nbformat.write(notebook, path)
        done = run_nbval(path, build=tmp_path)
        assert outcome in done.stdout, done.stdout
    assert f"{len(keep) - 1} passed" in done.stdout and "~" in done.stdout


def test_many_outputs_are_compared():
    counts = [
        sum(CHECKED in cell.metadata.get("tags", []) for cell in code_cells(name))
        for name in NOTEBOOKS
    ]
    assert sum(counts) >= 25 and min(counts) >= 1


@pytest.mark.slow
def test_figures_in_prose_are_those_that_were_measured():
    done = subprocess.run(
        [sys.executable, "tools/fill_figures.py", "--check"],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
