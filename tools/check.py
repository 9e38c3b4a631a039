"""Check the project, and say how many seconds each step took.

Usage: python tools/check.py [quick|fix]

Without an argument every check runs: ruff, spelling, types, the direction of imports, all
tests with their coverage, and the notebooks on the quick profile. `quick` leaves out the
notebooks and the tests marked slow. `fix` fixes what ruff can fix, and checks nothing.

What this writes goes below `build/` and into the tools' own caches, so you can run it
beside `make run`; it leaves your checkpoints alone, and of MNIST only adds what is missing.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NBVAL_BUILD = PROJECT / "build" / "nbval"

PYTHON = sys.executable
LINT_IMPORTS = "from importlinter.cli import lint_imports_command as lint; lint()"  # no -m
PYTEST = [PYTHON, "-m", "pytest", "-q"]
FIX = {
    "ruff check --fix": [PYTHON, "-m", "ruff", "check", "--fix", "."],
    "ruff format": [PYTHON, "-m", "ruff", "format", "."],
}
STATIC = {
    "ruff check": [PYTHON, "-m", "ruff", "check", "."],
    "ruff format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "codespell": [PYTHON, "-m", "codespell_lib"],
    "mypy": [PYTHON, "-m", "mypy"],
    "lint-imports": [PYTHON, "-c", LINT_IMPORTS, "--no-cache"],
}
TWO_AT_A_TIME = ("-n", "2")  # each new process first takes seconds to import torch
QUICK = STATIC | {"pytest": [*PYTEST, *TWO_AT_A_TIME, "-m", "not slow"]}
FULL = STATIC | {
    # By file, since the tests of several processes share what they ran.
    "pytest": [
        *PYTEST,
        *TWO_AT_A_TIME,
        "--dist",
        "loadfile",
        "--cov",
        "--cov-report=term",
        "--cov-fail-under=95",
    ],
    # The kernels' own warnings are not ours to turn into errors.
    "nbval": [
        *PYTEST,
        *("--nbval-lax", "--nbval-current-env", "-o", "filterwarnings=default"),
        *map(str, sorted(PROJECT.glob("notebooks/*.ipynb"))),  # not JupyterLab's own copies
    ],
}
MODES = {"": FULL, "quick": QUICK, "fix": FIX}


def main() -> int:
    """Run the steps of the mode that the command line names."""
    mode = " ".join(sys.argv[1:])
    if mode not in MODES:
        print(f"Usage: python tools/check.py [quick|fix], not {mode!r}", file=sys.stderr)
        return 2
    shutil.rmtree(NBVAL_BUILD, ignore_errors=True)
    NBVAL_BUILD.mkdir(parents=True)
    environment = os.environ | {
        "MNIST_PROFILE": "quick",
        "MNIST_BUILD_DIR": str(NBVAL_BUILD),
        "COVERAGE_FILE": str(PROJECT / "build" / ".coverage"),
        "MPLBACKEND": "agg",
    }
    return run(MODES[mode], environment)


def run(steps: dict[str, list[str]], environment: dict[str, str]) -> int:
    """Run all steps, even after one has failed; return 1 if one did."""
    seconds, failed = {}, []
    for name, command in steps.items():
        print(f"--- {name}", flush=True)
        # The tests' tensors are small: sharing them among cores costs more time than it saves.
        threads = {"OMP_NUM_THREADS": "1"} if name == "pytest" else {}
        start = time.perf_counter()
        if subprocess.run(command, cwd=PROJECT, env=threads | environment).returncode != 0:
            failed.append(name)
        seconds[name] = time.perf_counter() - start
    times = [f"{name} {took:.0f} s" for name, took in seconds.items()]
    print("--- " + ", ".join([*times, f"together {sum(seconds.values()):.0f} s"]))
    print("--- failed: " + ", ".join(failed) if failed else "--- all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
