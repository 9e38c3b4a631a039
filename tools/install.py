"""Make `.venv` with everything a target needs, or see at once that nothing is missing.

Usage: python3 tools/install.py [notebooks|dev]

It installs the versions in constraints.txt. With CONSTRAINTS=none in the environment it
takes the newest ones that pyproject.toml allows; TORCH_INDEX=URL gets torch from there.

Runs on any Python 3 with the standard library alone, since it is what finds out that the
rest is missing.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
EXTRAS = ("notebooks", "dev")
NEEDED_PYTHON = (3, 11)
# On Linux PyPI's torch comes with CUDA: 5.8 GB installed and 3 GB of downloads.
NEEDED_GB = 10 if sys.platform == "linux" and not os.environ.get("TORCH_INDEX") else 3

# Of pip's settings in the environment, those that say how to fetch packages. Others can send
# them elsewhere than into .venv (PIP_USER, PIP_TARGET) or end pip (PIP_REQUIRE_HASHES).
PIP_KEEPS = re.compile(
    "PIP_(CACHE_DIR|(CLIENT_)?CERT|CONFIG_FILE|(DEFAULT_)?TIMEOUT|(EXTRA_)?INDEX_URL|FIND_LINKS"
    "|KEYRING_PROVIDER|NO_CACHE_DIR|NO_INDEX|PROXY|(RESUME_)?RETRIES|TRUSTED_HOST|USE_.*)"
)


def main() -> int:
    """Install the extra that the command line names, unless it is there already."""
    arguments = sys.argv[1:] or ["notebooks"]
    pins = os.environ.get("CONSTRAINTS", "")
    if len(arguments) != 1 or arguments[0] not in EXTRAS:
        print("Usage: python3 tools/install.py [notebooks|dev]", file=sys.stderr)
        return 2
    if pins not in ("", "none"):
        print("CONSTRAINTS can only be none, not {!r}".format(pins), file=sys.stderr)
        return 2
    extra = arguments[0]
    with lock():
        if is_installed(extra):
            return 0
        refusal = missing_prerequisite()
        if refusal:
            print("Cannot install: " + refusal, file=sys.stderr)
            return 1
        return install(extra)


def fingerprint(extra: str) -> str:
    """Return what an installation was made from; it is stale when this changes."""
    parts = [sys.version, str(PROJECT), extra, os.environ.get("CONSTRAINTS", "")]
    parts += [(PROJECT / name).read_text("utf-8") for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_installed(extra: str) -> bool:
    """Tell whether `.venv` has this extra; the one for development includes the other."""
    stamps = [VENV / ("installed-" + name) for name in sorted({extra, "dev"})]
    return PYTHON.exists() and any(
        stamp.exists() and stamp.read_text() == fingerprint(stamp.name.split("-")[1])
        for stamp in stamps
    )


def missing_prerequisite() -> "str | None":
    """Say in a line what is missing and how to get it; None if nothing is."""
    if sys.version_info < NEEDED_PYTHON:
        return (
            "Python 3.11 or newer is needed; this is {}.{}. Choose one: make PYTHON=python3.12 ..."
        ).format(*sys.version_info[:2])
    try:
        import ensurepip
        import venv

        assert ensurepip and venv
    except ImportError:
        return (
            "Python's venv module is missing. On Debian and Ubuntu: sudo apt install python3-venv"
        )
    free = shutil.disk_usage(str(PROJECT)).free / 1e9
    if not VENV.exists() and free < NEEDED_GB:
        return "{:.1f} GB are free here and {} GB are needed; see README.md, Installing".format(
            free, NEEDED_GB
        )
    return None


def install(extra: str) -> int:
    """Make `.venv` where there is none, and let pip fill it."""
    print("Installing into .venv, once; this takes some minutes.", flush=True)
    if not has_pip():
        # --clear, since what is there may be half of one, or of another Python.
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)])
        if made.returncode != 0:
            print("Cannot install: making .venv failed; the message above says why.")
            return 1
    for step in pip_steps(extra):
        if subprocess.run(step, env=pip_environment()).returncode != 0:
            print("pip failed; the message above says why. Fix that, then run this again.")
            return 1
    question = "import importlib.metadata as found; found.version('mnist-helpers')"
    if subprocess.run([str(PYTHON), "-I", "-c", question], stderr=subprocess.DEVNULL).returncode:
        print("pip did not install into .venv: its configuration sends packages elsewhere.")
        print("Run {} -m pip config list -v: it lists the files to check.".format(PYTHON))
        return 1
    (VENV / ("installed-" + extra)).write_text(fingerprint(extra))
    return 0


def pip_steps(extra: str) -> "list[list[str]]":
    """Return the commands that install the package with one of its extras."""
    # -I: packages that PYTHONPATH names are not in .venv, though pip would count them as there.
    pip = [str(PYTHON), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if os.environ.get("CONSTRAINTS") == "none":
        pip += ["--upgrade", "--upgrade-strategy", "eager"]
    else:
        pip += ["--constraint", str(PROJECT / "constraints.txt")]
    steps = [[*pip, "--editable", "{}[{}]".format(PROJECT, extra)]]
    index = os.environ.get("TORCH_INDEX")
    if index:  # torch's own index holds CPU wheels without the gigabytes of CUDA
        steps.insert(0, [*pip, "--index-url", index, "torch", "torchvision"])
    return steps


def pip_environment() -> "dict[str, str]":
    """Return the environment for pip, without settings that .venv can't do with."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("PIP_") or PIP_KEEPS.fullmatch(name.upper())
    }
    kept["PIP_USER"] = "0"  # a configuration file may say otherwise
    return kept


def has_pip() -> bool:
    """Tell whether .venv is complete and was made by the Python that runs this."""
    if not PYTHON.exists():
        return False
    question = "import pip, sys; print(sys.version)"
    answer = subprocess.run([str(PYTHON), "-I", "-c", question], stdout=subprocess.PIPE)
    return answer.returncode == 0 and answer.stdout.decode().strip() == sys.version


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let `make run` and `make test` start side by side: the second one waits."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (PROJECT / "pyproject.toml").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
