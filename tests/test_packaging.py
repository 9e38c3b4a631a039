"""What the project installs: conda, pip, uv and the pinned set agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parent.parent
EXTRAS = ("notebooks", "dev", "browser")
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}


def toml(name):
    return tomllib.loads((PROJECT / name).read_text("utf-8"))


def declared(*extras):
    project = toml("pyproject.toml")["project"]
    texts = [text for extra in extras for text in project["optional-dependencies"][extra]]
    texts += project["dependencies"]
    requirements = [Requirement(text) for text in texts]
    return {r.name: r.specifier for r in requirements if r.name != "mnist-helpers"}


def pinned():
    lines = (PROJECT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def locked():
    packages = toml("uv.lock")["package"]
    own = next(package for package in packages if package["name"] == "mnist-helpers")
    return own, [package for package in packages if package is not own]


def test_conda_installs_what_pip_installs():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text("utf-8"))
    *entries, pip, by_pip = environment["dependencies"]
    *more, project = by_pip["pip"]
    assert (pip, project) == ("pip", "-e .")
    requirements = [Requirement(entry) for entry in entries + more]
    conda = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in requirements}
    assert str(conda.pop("python")) == toml("pyproject.toml")["project"]["requires-python"]
    assert conda == declared("notebooks", "dev")
    assert environment["channels"] == ["conda-forge"]


def test_the_tested_set_lies_in_the_ranges():
    for name, allowed in declared(*EXTRAS).items():
        assert Version(pinned()[name]) in allowed, name


def test_torch_is_one_whose_load_is_safe():
    # CVE-2026-24747: before 2.10 a crafted file could corrupt memory despite weights_only=True.
    assert Version("2.9.1") not in declared()["torch"]


def test_uv_installs_the_tested_set():
    _, packages = locked()
    names = [package["name"] for package in packages]
    assert len(set(names)) == len(names), "two versions of one package"
    assert {package["name"]: package["version"] for package in packages} == pinned(), "make lock"


def test_uv_asks_for_what_pyproject_asks_for():
    own, _ = locked()
    wanted = own["metadata"]["requires-dist"]
    ranges = {w["name"]: SpecifierSet(w["specifier"]) for w in wanted if "specifier" in w}
    assert ranges == declared(*EXTRAS), "make lock"
    assert (
        toml("uv.lock")["requires-python"] == toml("pyproject.toml")["project"]["requires-python"]
    )


def test_uv_takes_everything_from_pypi():
    _, packages = locked()
    assert {str(p["source"]) for p in packages} == {"{'registry': 'https://pypi.org/simple'}"}
    hosts = set(re.findall(r"(\w+:/+[^/\s\"]*)", (PROJECT / "uv.lock").read_text("utf-8")))
    assert hosts == {"https://pypi.org", "https://files.pythonhosted.org"}


@pytest.mark.parametrize("workflow", ["tests", "weekly"])
def test_ci_starts_at_the_oldest_python_that_we_allow(workflow):
    text = (PROJECT / ".github" / "workflows" / f"{workflow}.yml").read_text("utf-8")
    versions = re.findall(r'"(3\.\d+)"', text)
    oldest = min(versions, key=Version)
    assert f">={oldest}" == toml("pyproject.toml")["project"]["requires-python"]
