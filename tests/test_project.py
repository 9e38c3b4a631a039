"""The project agrees with itself: dependencies, directions of imports, who prints."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "mnist_helpers"
# Each module may import those that stand before it.
LAYERS = (
    "errors", "hardware", "config", "workers", "progress", "files", "sample", "mirrors",
    "download", "data", "batches", "model", "summary", "history", "checkpoints", "state",
    "runfolder", "profiles", "images", "loop", "checks", "estimate", "update", "resume", "run",
    "training", "plots", "options", "cli", "__init__", "__main__",
)  # fmt: skip
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}


def declared():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = project["dependencies"] + extras["notebooks"] + extras["dev"]
    requirements = [Requirement(text) for text in texts]
    return {r.name: r.specifier for r in requirements if r.name != "mnist-helpers"}


def test_conda_installs_what_pip_installs():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text("utf-8"))
    entries = [e for e in environment["dependencies"] if isinstance(e, str)]
    requirements = [Requirement(entry) for entry in entries if entry != "pip"]
    conda = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in requirements}
    assert "python" in conda
    assert str(conda.pop("python")) == ">=3.11"
    assert conda == declared()
    assert environment["channels"] == ["conda-forge"]


def test_the_tested_set_lies_in_the_ranges():
    lines = (PROJECT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    for name, allowed in declared().items():
        assert Version(pins[name.lower()]) in allowed, name


def test_torch_is_one_whose_load_is_safe():
    assert Version("2.5.1") not in declared()["torch"]


def trees():
    return {path.stem: ast.parse(path.read_text("utf-8")) for path in PACKAGE.glob("*.py")}


def test_modules_import_in_one_direction():
    assert set(trees()) == set(LAYERS)
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mnist_helpers"):
                module = node.module.removeprefix("mnist_helpers").lstrip(".")
                for imported in [module] if module else [alias.name for alias in node.names]:
                    assert LAYERS.index(imported) < LAYERS.index(name), f"{name}: {imported}"


def test_only_the_bars_and_the_command_line_print():
    for name, tree in trees().items():
        prints = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "print"]
        assert not prints or name in ("progress", "cli"), name


def test_exercises_only_judge():
    for path in (PACKAGE / "exercises").glob("*.py"):
        text = path.read_text("utf-8")
        imported = set(re.findall(r"from (mnist_helpers[\w.]*) import", text))
        assert all("exercises" in name or name == "mnist_helpers.progress" for name in imported)
        assert "print(" not in text


def test_nothing_loads_a_file_that_could_execute_code():
    for path in [*PACKAGE.rglob("*.py"), *(PROJECT / "tools").glob("*.py")]:
        text = path.read_text("utf-8")
        assert not re.search(r"weights_only\s*=\s*False|pickle\.loads?\(", text), path
        assert text.count("torch.load(") == text.count("weights_only=True)"), path


def test_the_command_line_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "mnist_helpers", "evaluate", "gone.pth"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("mnist-helpers: gone.pth does not exist")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", ["README.md", "data/README.md", "model_checkpoints/README.md"])
def test_links_in_the_pages_lead_somewhere(page):
    path = PROJECT / page
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text("utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_every_promise_names_tests_that_exist():
    page = (PROJECT / "docs" / "guarantees.md").read_text("utf-8")
    promised = set(re.findall(r"`(test_\w+)`", page))
    existing = set()
    for path in (PROJECT / "tests").glob("test_*.py"):
        existing |= set(re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
    assert promised - existing == set()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "promise" not in line]
    assert len(rows) > 25
    assert all("`test_" in row for row in rows)
