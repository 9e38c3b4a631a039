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
from nbformat.v4 import new_code_cell, new_notebook, new_output

PROJECT = Path(__file__).resolve().parent.parent
PATHS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in PATHS}
CHECKED = "nbval-check-output"
ENVIRONMENT = dict(os.environ)  # with the mirror that a test run may have been given

PYTHON = {"name": "python3", "display_name": "Python 3"}

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def code_cells(name):
    return [cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code"]


def test_all_are_there():
    assert [name[:2] for name in NOTEBOOKS] == [f"{number:02}" for number in range(1, 8)]


@every_notebook
def test_it_is_clean_and_says_which_profile_ran(name):
    assert faults(NOTEBOOKS[name]) == []
    assert NOTEBOOKS[name].metadata["mnist_profile"] in ("default", "full")
    assert (PROJECT / "notebooks" / f"{name}.ipynb").stat().st_size < 1_500_000


def test_a_picture_needs_words(tmp_path):
    output = new_output("display_data", {"image/png": "YQ=="})
    cell = new_code_cell("1", outputs=[output], execution_count=1)
    notebook = new_notebook(cells=[cell], metadata={"kernelspec": PYTHON})
    (fault,) = faults(notebook)
    assert "no alternative text" in fault
    cell.outputs[0].metadata["image/png"] = {"alt": "Two curves; the dashed one ends higher."}
    assert faults(notebook) == []


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
    needed = project["dependencies"] + project["optional-dependencies"]["notebooks"]
    declared = {re.split("[><=]", text)[0] for text in needed}
    allowed = declared | {"mnist_helpers", "PIL"} | set(sys.stdlib_module_names)
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
def test_it_shows_and_asks(name):
    pictures = [c for c in code_cells(name) if "image/png" in str(c.outputs)]
    asked = [c for c in code_cells(name) if "Not answered yet." in str(c.outputs)]
    assert len(pictures) >= 5 and len(asked) >= 2
    to_read = [c for c in code_cells(name) if "hide-input" not in c.metadata.get("tags", [])]
    assert len(to_read) <= 28  # what only draws is folded


def test_each_notebook_opens_with_the_picture_of_what_comes_out():
    done = subprocess.run([sys.executable, "tools/covers.py", "--check"], cwd=PROJECT)
    assert done.returncode == 0
    for notebook in NOTEBOOKS.values():
        (picture,) = re.findall(r"!\[[^]]{20,}\]\((images/\d\d\.png)\)", notebook.cells[0].source)
        assert (PROJECT / "notebooks" / picture).is_file()


def run_nbval(path, *, build):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env",
         "-p", "no:cacheprovider", "-o", "filterwarnings=default", str(path)],
        cwd=path.parent, capture_output=True, text=True,
        env={**ENVIRONMENT, "MNIST_PROFILE": "quick", "MNIST_BUILD_DIR": str(build)},
    )  # fmt: skip


# Of each notebook a compared cell that needs no other but these.
COMPARED = {
    "01_download_mnist": ("imports", "settings", "distance"),
    "02_define_the_cnn": ("imports", "settings", "digit"),
    "03_train_with_progress_bars": ("imports", "settings", "loss"),
    "04_plot_accuracy_curves": ("imports", "settings", "error"),
    "05_look_inside": ("imports", "settings", "exercise-class-map"),
    "06_recognise_your_own_digit": ("imports", "settings", "closing"),
    "07_train_faster": ("imports", "settings", "exercise-speed"),
}


@pytest.mark.slow
@every_notebook
def test_a_spoiled_output_is_noticed(name, tmp_path):
    """Spoil one compared output and see nbval fail on that cell alone."""
    notebook = nbformat.from_dict(NOTEBOOKS[name])
    notebook.cells = keep = [cell for cell in notebook.cells if cell.id in COMPARED[name]]
    assert CHECKED in keep[-1].metadata["tags"]
    for spoil, outcome in ((False, f"{len(keep)} passed"), (True, "1 failed")):
        if spoil:
            output = keep[-1].outputs[0]
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
