"""How an answer is compared and what is said of it; the exercises only list their numbers."""

import math
import numbers
from collections.abc import Mapping
from decimal import Decimal
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
    try:
        number = _number(answer)
    except Exception:  # an answer may be any object, and its methods may raise anything
        number = None
    if number is None:
        kind = type.__dict__["__name__"].__get__(type(answer))  # which no class can override
        announce(f"The answer must be a number; yours is of type {kind}.")
    elif _same(number, right):
        announce(f"Right. {why}")
    else:
        hint = next((text for wrong, text in hints.items() if _same(number, wrong)), otherwise)
        announce(f"Not yet. {hint}")


def _number(answer: Any) -> float | None:
    """Return a number of any type as a float; None for what is no real number."""
    if getattr(answer, "ndim", None) == 0:  # NumPy's and PyTorch's, an array of no dimension too
        answer = answer.item()
    if isinstance(answer, bool) or not isinstance(answer, numbers.Real | Decimal):
        return None
    try:
        return float(answer)
    except OverflowError:
        return math.inf


def _same(answer: float, expected: float) -> bool:
    if isinstance(expected, int):
        return answer == expected
    return math.isclose(answer, expected, rel_tol=CLOSE)
