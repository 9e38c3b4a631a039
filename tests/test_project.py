"""The project agrees with itself: dependencies, links, promises and the tests that hold them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_command_line_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "mnist_helpers", "evaluate", "gone.pth"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("mnist-helpers: there is no file gone.pth")
    assert "Traceback" not in done.stderr


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
