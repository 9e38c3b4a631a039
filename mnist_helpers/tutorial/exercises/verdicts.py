"""How an answer is compared and what is said of it; the exercises only list their numbers."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from mnist_helpers.machine.progress import announce

CLOSE = 5e-3  # relative: three digits of a rounded answer are enough


def judge(answer: Any, right: float, why: str, hints: Mapping[float, str], otherwise: str) -> None:
    """Say what is to be said of a number.

    Parameters
    ----------
    answer
        The reader's; `...` means that there is none yet. Anything is taken.
    right
        The right number. Whole ones have to be met exactly, others to three digits.
    why
        A sentence on why it is right.
    hints
        For each typical wrong number, what to think of.
    otherwise
        The hint for all others.
    """
    if answer is ...:
        announce("Not answered yet.")
        return
    if not isinstance(answer, numbers.Number) or isinstance(answer, bool | complex):
        announce(f"The answer is a number; yours is {type(answer).__name__}.")
        return
    if _same(answer, right):
        announce(f"Right. {why}")
        return
    hint = next((text for wrong, text in hints.items() if _same(answer, wrong)), otherwise)
    announce(f"Not yet. {hint}")


def _same(answer: Any, expected: float) -> bool:
    if isinstance(expected, int):
        return bool(answer == expected)
    return math.isclose(answer, expected, rel_tol=CLOSE)
