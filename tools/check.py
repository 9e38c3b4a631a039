"""Run every check of the project: ruff, pytest with coverage, nbval on the quick profile.

Writes below `build/` only, so that it may run beside `make run`, and touches neither
data nor checkpoints of a reader.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NBVAL_BUILD = PROJECT / "build" / "nbval"

RUFF = [sys.executable, "-m", "ruff"]
PYTEST = [sys.executable, "-m", "pytest"]
STEPS = {
    "ruff check": [*RUFF, "check", "."],
    "ruff format": [*RUFF, "format", "--check", "."],
    "pytest": [*PYTEST, "-q", "--cov", "--cov-report=term", "--cov-fail-under=95"],
    # The kernels' own warnings are not ours to turn into errors.
    "nbval": [
        *PYTEST,
        *("-q", "--nbval-lax", "--nbval-current-env", "-o", "filterwarnings=default"),
        "notebooks",
    ],
}


def main():
    shutil.rmtree(NBVAL_BUILD, ignore_errors=True)
    NBVAL_BUILD.mkdir(parents=True)
    environment = os.environ | {
        "MNIST_PROFILE": "quick",
        "MNIST_BUILD_DIR": str(NBVAL_BUILD),
        "COVERAGE_FILE": str(PROJECT / "build" / ".coverage"),
        "MPLBACKEND": "agg",
    }
    failed = []
    for name, command in STEPS.items():
        print(f"--- {name}", flush=True)
        if subprocess.run(command, cwd=PROJECT, env=environment).returncode != 0:
            failed.append(name)
    print("--- failed: " + ", ".join(failed) if failed else "--- all checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
