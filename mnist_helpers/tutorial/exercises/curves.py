"""The exercises of notebook 04: recall and precision, two networks compared, turned digits."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mnist_helpers.tutorial.exercises.verdicts import judge_function, same_numbers

CANNOT_TELL = "cannot tell"


def _counts(labels: Any, first: Any, second: Any) -> tuple[int, int]:
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    one, other = first == labels, second == labels
    return int((one & ~other).sum()), int((other & ~one).sum())


def _verdict(only_first: float, only_second: float, limit: float) -> str:
    if abs(only_first - only_second) <= limit:
        return CANNOT_TELL
    return "first" if only_first > only_second else "second"


def _compare(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
    a, b = _counts(labels, first, second)
    return a, b, _verdict(a, b, 2 * math.sqrt(a + b))


def _totals(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    a, b = int((first == labels).sum()), int((second == labels).sum())
    return a, b, _verdict(a, b, 2 * math.sqrt(a + b))


def _swapped(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
    a, b, verdict = _compare(labels, first, second)
    return b, a, verdict


def _named_wrongly(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
    a, b, verdict = _compare(labels, first, second)
    return a, b, {"first": "second", "second": "first"}.get(verdict, verdict)


def _limited(limit: Any) -> Any:
    """Return a comparison that takes another limit for the difference than the rule's."""

    def compare(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
        a, b = _counts(labels, first, second)
        return a, b, _verdict(a, b, limit(a, b, len(labels)))

    return compare


def _both_differ(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
    differ = int((np.asarray(first) != np.asarray(second)).sum())
    a, b = _counts(labels, first, second)
    return a, b, _verdict(a, b, 2 * math.sqrt(differ))


def _by_rule_1(labels: Any, first: Any, second: Any) -> tuple[int, int, str]:
    a, b = _counts(labels, first, second)
    p = float((np.asarray(first) == np.asarray(labels)).mean())
    return a, b, _verdict(a, b, 2.8 * math.sqrt(len(labels) * p * (1 - p)))


class _Anything:
    """Stands for any result that passes a test: what a general hint is for."""

    def __init__(self, passes: Callable[[Any], bool]) -> None:
        self.passes = passes


def _not_three(labels: Any, first: Any, second: Any) -> _Anything:
    return _Anything(lambda value: len(value) != 3)


def _counts_are_right(labels: Any, first: Any, second: Any) -> _Anything:
    counts = list(_counts(labels, first, second))
    return _Anything(lambda value: same_numbers(list(value[:2]), counts))


def _other_words(labels: Any, first: Any, second: Any) -> _Anything:
    words = ("first", "second", CANNOT_TELL)
    return _Anything(lambda value: str(value[2]).strip().lower() not in words)


def _any_three(labels: Any, first: Any, second: Any) -> _Anything:
    return _Anything(lambda value: len(value) == 3)


def _case(both: int, only_first: int, only_second: int, neither: int) -> tuple[Any, Any, Any]:
    """Return labels and two networks' answers with these counts, in a mixed order."""
    sizes = (both, only_first, only_second, neither)
    kinds = np.random.RandomState(sum(sizes)).permutation(np.repeat(range(4), sizes))
    labels = np.arange(len(kinds)) * 7 % 10
    first = np.where(kinds < 2, labels, (labels + 1) % 10)
    second = np.where((kinds == 0) | (kinds == 2), labels, (labels + 3) % 10)
    return labels, first, second


def _same_comparison(value: Any, expected: Any) -> bool:
    if isinstance(expected, _Anything):
        return expected.passes(value)
    *counts, verdict = value
    said = verdict.strip().lower()
    return len(counts) == 2 and same_numbers(counts, list(expected[:2])) and said == expected[2]


def check_compare(answer: Any) -> None:
    """Decide between two networks from their answers on the same digits."""
    sizes = [(60, 45, 35, 10), (80, 10, 0, 5), (40, 5, 30, 20), (20, 0, 0, 2)]
    sizes += [(900, 12, 3, 60), (50, 20, 8, 3), (30, 14, 11, 5), (900, 16, 30, 0)]
    cases = [_case(*each) for each in sizes]
    judge_function(
        answer,
        _compare,
        cases,
        why="You can now settle any argument about two networks, as long as they took the same "
        "test.",
        mistakes=_MISTAKES,
        nearer="Build two arrays, first == labels and second == labels; then (a & ~b).sum() "
        "counts what only the first gets right.",
        same=_same_comparison,
    )


# What to think of, by functions that make that very mistake.
_MISTAKES = {
    "Those are all the right answers of each network. Count only the digits that one "
    "gets right and the other gets wrong.": _totals,
    "The two counts are swapped: the digits that only the first gets right come first.": _swapped,
    "The counts are right, but the verdict names the loser.": _named_wrongly,
    "The counts are right. The verdict is too quick: how large may the difference get "
    "by tossing coins?": _limited(lambda a, b, n: 0),
    "The counts are right. The verdict forgets the 2 in front of the root.": _limited(
        lambda a, b, n: math.sqrt(a + b)
    ),
    "The counts are right. In the verdict the root is missing.": _limited(
        lambda a, b, n: 2 * (a + b)
    ),
    "The counts are right. The verdict takes the root of all digits; agreements "
    "don't matter, only disagreements do.": _limited(lambda a, b, n: 2 * math.sqrt(n)),
    "The counts are right, but the verdict uses rule 1. These are the same digits.": _by_rule_1,
    "The counts are right. Under the root you count digits that both get wrong, each in "
    "its own way; leave these out.": _both_differ,
    "The counts are right. 2.8 is for different test sets; on the same digits it is 2.": _limited(
        lambda a, b, n: 2.8 * math.sqrt(a + b)
    ),
    "Return three things: only_first, only_second, verdict.": _not_three,
    'The verdict is one of three strings: "first", "second" or "cannot tell".': _other_words,
    "The counts are right, but not every verdict is. Is the difference, with its sign "
    "taken away, larger than 2 times the root of the sum?": _counts_are_right,
    "The two counts are not right in every case. What should they count? Digits that "
    "one gets right and the other gets wrong.": _any_three,
}


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def _recall_precision(counts: Any, digit: Any) -> Any:
    right = counts[digit, digit]
    return _share(right, counts[digit].sum()), _share(right, counts[:, digit].sum())


def _with_nan(shares: Callable[..., Any]) -> Callable[..., _Anything]:
    """Let a mistake pass with 0 or with nan where the network never says the digit."""

    def passing(counts: Any, digit: Any) -> _Anything:
        expected = list(shares(counts, digit))
        return _Anything(lambda value: same_numbers(np.nan_to_num(_floats(value)), expected))

    return passing


def _floats(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=float)


def _same_or_passes(value: Any, expected: Any) -> bool:
    if isinstance(expected, _Anything):
        return expected.passes(value)
    return same_numbers(value, expected)


# What to think of, by the shares that this very mistake gives.
_OTHER_SHARES: dict[str, Callable[..., Any]] = {
    "The two are swapped. Recall is a share of the digits that *are* a 3, a row; precision of "
    "those that were *called* a 3, a column.": lambda c, d: _recall_precision(c, d)[::-1],
    "Both go along the row. Precision goes down the column, counts[:, digit].": lambda c, d: (
        (_recall_precision(c, d)[0],) * 2
    ),
    "Both go down the column. Recall goes along the row, counts[digit].": lambda c, d: (
        (_recall_precision(c, d)[1],) * 2
    ),
    "You divide by all digits. Divide by those of one row, or of one column.": lambda c, d: (
        (c[d, d] / c.sum(),) * 2
    ),
    "Those are counts of right answers. Divide by the sum of the row, or of the column.": (
        lambda c, d: (c[d, d],) * 2
    ),
    "// drops everything after the point; use /.": lambda c, d: np.floor(_recall_precision(c, d)),
    "You divide by the mistakes only. The right answers belong to the row and to the column "
    "too.": lambda c, d: [_share(c[d, d], line.sum() - c[d, d]) for line in (c[d], c[:, d])],
    "Fractions, please, not per cent.": lambda c, d: 100 * np.array(_recall_precision(c, d)),
    "Right where the network says the digit at all. If it never does, 0 is divided by 0; return "
    "a precision of 0 then.": _recall_precision,
}


def check_recall_precision(answer: Any) -> None:
    """Read recall and precision of one digit off a confusion matrix."""
    tables = [np.random.RandomState(n).randint(1, 9, (10, 10)) + np.eye(10, dtype=int) * 40
              for n in range(3)]  # fmt: skip
    tables[2][:, 5] = 0  # this network never says 5
    no_pair = "Return two numbers: recall, precision."
    judge_function(
        answer,
        _recall_precision,
        list(zip(tables, (3, 8, 5), strict=True)),
        why="Recall goes along a row, precision down a column. Report both: each alone is easy "
        "to cheat.",
        mistakes={hint: _with_nan(shares) for hint, shares in _OTHER_SHARES.items()}
        | {no_pair: lambda *_: _Anything(lambda value: _floats(value).shape != (2,))},
        nearer="The right answers are counts[digit, digit]. Divide them by counts[digit].sum(), "
        "and by counts[:, digit].sum() unless that is 0.",
        same=_same_or_passes,
    )


def _bars(count: int) -> torch.Tensor:
    """Return images of a bar from the middle to the right, whose angle is easy to measure."""
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    images[:, 13:15, 14:26] = 255
    return images


def _angles(images: Any) -> np.ndarray:
    """Return by how many degrees each bar is turned, clockwise."""
    ink, places = _floats(images), np.arange(28) - 13.5
    radians = np.arctan2(ink.sum(axis=2) @ places, ink.sum(axis=1) @ places)
    return np.asarray(np.degrees(radians))


def _turned(passes: Callable[[np.ndarray, float], Any]) -> Callable[..., _Anything]:
    """Return a mistake that is told by the angles, in units of what `degrees` allows."""
    return lambda images, degrees: _Anything(
        lambda value: passes(_angles(value) / degrees, degrees)
    )


def _is_no_sheet(images: Any, degrees: Any) -> _Anything:
    return _Anything(lambda value: getattr(value, "shape", None) != images.shape)


def _is_no_uint8(images: Any, degrees: Any) -> _Anything:
    return _Anything(lambda value: "uint8" not in str(value.dtype))


def _well_turned(images: Any, degrees: Any) -> _Anything:
    def passes(value: Any) -> bool:
        if value.shape != images.shape or "uint8" not in str(value.dtype):
            return False
        angles = _angles(value) / degrees
        middle = (abs(angles) < 0.7).any()
        return bool(
            angles.min() < -0.7 and angles.max() > 0.7 and abs(angles).max() < 1.1 and middle
        )

    return _Anything(passes)


def check_turning(answer: Any) -> None:
    """Turn each digit by a random angle of its own."""
    judge_function(
        answer,
        _well_turned,
        [(_bars(100), 40), (_bars(100), 20)],
        why="Each digit has an angle of its own, to either side. Now train on them, below.",
        mistakes={
            "Return one tensor of the shape of `images`, (N, 28, 28). torch.cat joins digits of "
            "shape (1, 28, 28).": _is_no_sheet,
            "The pixels are whole numbers from 0 to 255 (uint8). Leave them like that.":
                _is_no_uint8,
            "Nothing has turned.": _turned(lambda a, d: abs(a).max() < 1e-6),
            "All digits are turned by the same angle. Draw a new one for each.": _turned(
                lambda a, d: np.ptp(a) < 0.02
            ),
            "The digits hardly turn. Are your angles in degrees?": _turned(
                lambda a, d: abs(a).max() < 0.1
            ),
            "All digits turn the same way. Let the angles lie between -degrees and degrees.":
                _turned(lambda a, d: a.min() > -0.05 or a.max() < 0.05),
            "Every digit is turned as far as it may. The angles in between are needed too.":
                _turned(lambda a, d: abs(a).min() > 0.9),
            "Some digits are turned further than `degrees`.": _turned(
                lambda a, d: abs(a).max() >= 1.1
            ),
            "Right for one value of `degrees`, not for another. Are all angles between -degrees "
            "and degrees, and do they use that range?": lambda *_: _Anything(lambda value: True),
        },
        nearer="In a loop over the digits: draw an angle with random.uniform(-degrees, degrees), "
        "and turn one digit with move(images[i : i + 1], degrees=angle).",
        same=_same_or_passes,
    )  # fmt: skip
