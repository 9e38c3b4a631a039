"""The exercises of notebook 04: noise, two networks compared, confusion, turned digits."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_helpers.tutorial.exercises.verdicts import judge, judge_function, same_numbers

CANNOT_TELL = "cannot tell"


def check_test_size(answer: Any) -> None:
    """How many test digits does 99 % take for a standard error of 0.05 points?"""
    judge(
        answer,
        right=39_600.0,  # as a float, which a computed answer may miss by a hair
        why="Half the error takes four times the digits; that is why test sets are so large.",
        hints={
            40_000: "Very nearly: you took four times 10,000. Now with the exact formula.",
            20_000: "Twice the digits only make the error 1.4 times smaller: there is a root.",
            19_800: "Twice the digits only make the error 1.4 times smaller: there is a root.",
            9_900: "That gives a tenth of a point. We want half of that.",
            198: "p (1 - p) / error: the error has to be squared.",
            3.96: "Is your error a fraction? 0.05 points are 0.0005.",
            0.0396: "Is your error a fraction? A point is 0.01, so 0.05 points are 0.0005.",
            396: "Is your error a fraction? A point is 0.01, so 0.05 points are 0.0005.",
            40: "Is that in thousands? Write out the number of digits.",
        },
        otherwise="Start from error = root of p (1 - p) / n, and turn it around to get n.",
        nearer="Squared: n = p (1 - p) / error², with p and the error as fractions.",
    )


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


def _confusion(labels: Any, predictions: Any) -> np.ndarray:
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (np.asarray(labels), np.asarray(predictions)), 1)
    return counts


def _once(labels: Any, predictions: Any) -> Any:
    return (_confusion(labels, predictions) > 0).astype(int)


def _mistakes_only(labels: Any, predictions: Any) -> Any:
    return _confusion(labels, predictions) * (1 - np.eye(10, dtype=int))


def _right_only(labels: Any, predictions: Any) -> Any:
    return _confusion(labels, predictions) * np.eye(10, dtype=int)


def _shares(labels: Any, predictions: Any) -> Any:
    counts = _confusion(labels, predictions)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _shares_of_all(labels: Any, predictions: Any) -> Any:
    return _confusion(labels, predictions) / len(labels)


def _up_to_largest(labels: Any, predictions: Any) -> Any:
    size = 1 + max(np.max(labels), np.max(predictions))
    return _confusion(labels, predictions)[:size, :size]


def _only_those(labels: Any, predictions: Any) -> Any:
    there = np.union1d(labels, predictions)
    return _confusion(labels, predictions)[np.ix_(there, there)]


def check_confusion(answer: Any) -> None:
    """Count, for each digit, what a network took it for."""
    labels = [np.array([3, 3, 5, 5, 8, 8, 3]), np.arange(40) * 3 % 10]
    predictions = [np.array([3, 5, 5, 5, 3, 8, 5]), np.arange(40) * 7 % 10]
    judge_function(
        answer,
        _confusion,
        list(zip(labels, predictions, strict=True)),
        why="A row per digit, a column per answer; everybody's confusion matrix is this loop.",
        mistakes={
            "It is on its side: the row is what the digit *is*, the column what the network "
            "said.": lambda a, b: _confusion(a, b).T,
            "Each pair is counted once at most. Add 1 every time it occurs; counts[labels, "
            "predictions] += 1 adds only once for equal pairs.": _once,
            "The right answers are missing: they belong on the diagonal.": _mistakes_only,
            "Only the diagonal is filled. Where do the mistakes go?": _right_only,
            "Those are shares of a row. Counts, please.": _shares,
            "Those are shares of all digits. Counts, please.": _shares_of_all,
            "The table needs a row and a column for each of the ten digits, also for those that "
            "don't occur; yours only goes up to the largest.": _up_to_largest,
            "The table needs a row and a column for each of the ten digits, also for those that "
            "don't occur.": _only_those,
        },
        nearer="Start with np.zeros((10, 10), dtype=int), then loop over zip(labels, predictions).",
    )


def check_turned(answer: Any) -> None:
    """What did training on turned digits do to upright and to turned test digits?"""
    judge(
        answer,
        right=2,
        why="It reads far more of the turned digits, and pays little or nothing for it on upright "
        "ones: this is what augmentation buys.",
        hints={
            1: "Compare the two accuracies at 40 degrees once more. Is that within their noise?",
            3: "It lost a little on upright digits at most. Is that more than rule 2, or 2.8 "
            "standard errors, would let pass?",
        },
        otherwise="Answer 1, 2 or 3.",
    )
