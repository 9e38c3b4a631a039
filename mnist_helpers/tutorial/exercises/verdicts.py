"""How an answer is compared and what is said of it; the exercises only list what they know."""

import inspect
import math
import numbers
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from mnist_helpers.machine.progress import announce
from mnist_helpers.tutorial.exercises.running import attempt, kind_of

CLOSE = 5e-3  # relative: three digits of a rounded answer are enough
BRIEF = 12  # numbers of a case that are written out
NOT_YET = "Not answered yet."

_wrong_answers: Counter[str] = Counter()  # by exercise; a restarted kernel starts anew


def judge(
    answer: Any, right: float, why: str, hints: Mapping[float, str], otherwise: str,
    nearer: str = "",
) -> None:  # fmt: skip
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
    nearer
        What is added from the second wrong answer on.
    """
    if answer is ...:
        announce(NOT_YET)
        return
    try:
        number = _number(answer)
    except Exception:  # an answer may be any object, and its methods may raise anything
        number = None
    if number is None:
        announce(f"The answer must be a number; yours is of type {kind_of(answer)}.")
    elif _same(number, right):
        approve(why)
    else:
        hint = next((text for wrong, text in hints.items() if _same(number, wrong)), otherwise)
        correct(why, hint, nearer)


def judge_function(
    answer: Any, right: Callable[..., Any], cases: Sequence[tuple[Any, ...]], why: str,
    mistakes: Mapping[str, Callable[..., Any]], nearer: str = "",
    same: Callable[[Any, Any], bool] | None = None,
) -> None:  # fmt: skip
    """Run a reader's function on cases of our own, and say what is to be said of it.

    Parameters
    ----------
    answer
        The reader's function; while it returns nothing in any case, there is no answer yet.
    right
        A function that is right; its parameters' names are those a hint uses.
    cases
        The arguments to try, each a tuple; the reader's function gets copies.
    why, nearer
        As `judge` takes them.
    mistakes
        What to think of, by functions that make that very mistake in all cases.
    same
        Says whether two results are the same; by default numbers or arrays of equal shape,
        whole ones exactly, others to three digits or rounded to two places.
    """
    if not is_function(answer):
        return
    results = []
    for case in cases:
        value, trouble = attempt(answer, *case)
        if trouble:
            correct(why, f"{trouble} That was with {_in_words(right, case)}.", nearer)
            return
        results.append(value)
    if all(value is None or value is ... for value in results):
        announce(f"{NOT_YET} Your function returns nothing so far.")
        return
    if hint := _what_is_wrong(results, right, cases, mistakes, same or same_numbers):
        correct(why, hint, nearer)
    else:
        approve(why)


def _what_is_wrong(
    results: Sequence[Any], right: Callable[..., Any], cases: Sequence[tuple[Any, ...]],
    mistakes: Mapping[str, Callable[..., Any]], same: Callable[[Any, Any], bool],
) -> str:  # fmt: skip
    """Return the hint for a known mistake, or else the first case that is wrong; "" if none is."""
    expected = [right(*case) for case in cases]
    is_same = [_safely(same, *both) for both in zip(results, expected, strict=True)]
    if all(is_same):
        return ""
    for hint, mistake in mistakes.items():
        if all(_safely(same, r, mistake(*c)) for r, c in zip(results, cases, strict=True)):
            return hint
    first = is_same.index(False)
    gives = f"yours gives {_brief(results[first])}, and {_brief(expected[first])} is right."
    return f"With {_in_words(right, cases[first])} {gives}"


def is_function(answer: Any) -> bool:
    """Return whether an answer can be called; if not, say what is missing."""
    if not callable(answer):
        announce(NOT_YET if answer is ... else f"This takes a function, not a {kind_of(answer)}.")
    return callable(answer)


def approve(why: str) -> None:
    """Say that an answer is right, and why."""
    announce(f"Right. {why}")


def correct(exercise: str, hint: str, nearer: str = "") -> None:
    """Give a hint; from an exercise's second wrong answer on the nearer one too."""
    _wrong_answers[exercise] += 1
    more = f" {nearer}" if nearer and _wrong_answers[exercise] > 1 else ""
    announce(f"Not yet. {hint}{more}")


def same_numbers(value: Any, expected: Any) -> bool:
    """Return whether two results are numbers, or arrays of numbers, that agree."""
    ours, theirs = _array(expected), _array(value)
    if ours.shape != theirs.shape or theirs.dtype.kind not in "iufb":
        return False
    if ours.dtype.kind in "iub":
        return bool((ours == theirs).all())
    rounded = np.isclose(theirs, ours.round(2), rtol=0, atol=1e-6, equal_nan=True)
    return bool((np.isclose(theirs, ours, rtol=CLOSE, atol=1e-6, equal_nan=True) | rounded).all())


def is_right(
    answer: Any, right: Callable[..., Any], cases: Sequence[tuple[Any, ...]],
    agree: Callable[[Any, Any], bool] = same_numbers,
) -> bool:  # fmt: skip
    """Tell, without a word, whether a reader's function gives the right results for all cases."""
    try:
        return all(agree(attempt(answer, *case).value, right(*case)) for case in cases)
    except Exception:  # its results may be any object, and their methods may raise anything
        return False


def _array(value: Any) -> np.ndarray:
    """Return a number, a tensor or a list of them as an array."""
    if isinstance(value, list | tuple):
        value = [_array(item) for item in value]
    elif hasattr(value, "detach"):
        value = value.detach().cpu().double() if value.is_floating_point() else value.cpu()
    elif isinstance(value, numbers.Rational | Decimal) and not isinstance(value, int):
        value = float(value)
    return np.asarray(value)


def _safely(same: Callable[[Any, Any], bool], value: Any, expected: Any) -> bool:
    try:
        return same(value, expected)
    except Exception:  # a result may be any object, and its methods may raise anything
        return False


def _in_words(function: Callable[..., Any], case: tuple[Any, ...]) -> str:
    """Write the arguments of a case as a sentence names them: "width = 28, stride = 2"."""
    names = inspect.signature(function).parameters
    return ", ".join(f"{n} = {_brief(v)}" for n, v in zip(names, case, strict=False))


def _brief(value: Any) -> str:
    """Write a value so that it fits into a line; of a large one its type and shape."""
    try:
        array = _array(value)
        if array.dtype.kind not in "iufb":
            return str(value) if isinstance(value, str) else f"a {kind_of(value)}"
        if array.size > BRIEF:
            return f"a {kind_of(value)} of shape {tuple(array.shape)}"
        return str(np.round(array.astype(float), 3).tolist() if array.dtype.kind == "f"
                   else array.tolist())  # fmt: skip
    except Exception:  # a result may be any object, and its methods may raise anything
        return f"a {kind_of(value)}"


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
