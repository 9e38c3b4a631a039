"""The exercises of notebook 04: right answers, typical mistakes, nonsense."""

import math

import numpy as np
import pytest
import torch

from mnist_helpers.tutorial.exercises import curves as exercises
from tests.exercising import try_function, try_number

NUMBERS = {
    "check_test_size": (
        39_600,
        {
            40_000: "Very nearly", 20_000: "there is a root", 9_900: "half of that",
            198: "has to be squared", 0.0396: "a fraction",
        },
    ),
    "check_turned": (2, {1: "40 degrees", 3: "standard errors"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_judged(name, capsys):
    try_number(capsys, getattr(exercises, name), *NUMBERS[name])


def compare(labels, first, second):
    one, other = first == labels, second == labels
    a, b = (one & ~other).sum(), (other & ~one).sum()
    if abs(a - b) <= 2 * (a + b) ** 0.5:
        return a, b, "cannot tell"
    return a, b, "first" if a > b else "second"


def compare_by_loop(labels, first, second):
    a = b = 0
    for label, one, other in zip(labels, first, second, strict=True):
        a += one == label != other
        b += other == label != one
    if (a - b) ** 2 > 4 * (a + b):
        return [a, b, "First" if a > b else "Second"]
    return [a, b, "cannot tell "]


def compare_tensors(labels, first, second):
    a, b, verdict = compare(*map(torch.as_tensor, (labels, first, second)))
    return a, b, verdict


def judged(a, b, limit):
    return a, b, "cannot tell" if abs(a - b) <= limit else "first" if a > b else "second"


def by(limit):
    def function(labels, first, second):
        a, b, _ = compare(labels, first, second)
        return judged(a, b, limit(a, b, labels, first, second))

    return function


def totals(labels, first, second):
    a, b = (first == labels).sum(), (second == labels).sum()
    return judged(a, b, 2 * math.sqrt(a + b))


def swapped(labels, first, second):
    a, b, verdict = compare(labels, first, second)
    return b, a, verdict


def loser(labels, first, second):
    a, b, verdict = compare(labels, first, second)
    return a, b, {"first": "second", "second": "first"}.get(verdict, verdict)


def rule_1(a, b, labels, first, second):
    p = (first == labels).mean()
    return 2.8 * math.sqrt(p * (1 - p) * len(labels))


def test_two_networks_are_compared(capsys, monkeypatch):
    wrongs = {
        "all the right answers": totals,
        "swapped": swapped,
        "names the loser": loser,
        "too quick": by(lambda *_: 0),
        "forgets the 2": by(lambda a, b, *_: math.sqrt(a + b)),
        "the root is missing": by(lambda a, b, *_: 2 * (a + b)),
        "the root of all digits": by(lambda a, b, labels, *_: 2 * math.sqrt(len(labels))),
        "uses rule 1": by(rule_1),
        "both get wrong": by(lambda a, b, labels, one, two: 2 * math.sqrt((one != two).sum())),
        "2.8 is for different": by(lambda a, b, *_: 2.8 * math.sqrt(a + b)),
        "three things": lambda *case: compare(*case)[:2],
        "one of three strings": lambda *case: (*compare(*case)[:2], "A"),
        "not every verdict": by(lambda *_: 12),
        "not right in every case": lambda *case: (1, 2, "first"),
    }
    rights = [compare, compare_by_loop, compare_tensors]
    try_function(capsys, monkeypatch, exercises.check_compare, rights, wrongs)


def confusion(labels, predictions):
    counts = np.zeros((10, 10))
    for label, prediction in zip(labels, predictions, strict=True):
        counts[label][prediction] += 1
    return counts


def confusion_bincount(labels, predictions):
    return torch.as_tensor(labels * 10 + predictions).bincount(minlength=100).reshape(10, 10)


def confusion_lists(labels, predictions):
    pairs = list(zip(labels.tolist(), predictions.tolist(), strict=True))
    return [[pairs.count((row, column)) for column in range(10)] for row in range(10)]


def counted_once(labels, predictions):
    counts = np.zeros((10, 10), dtype=int)
    counts[labels, predictions] += 1
    return counts


def up_to_largest(labels, predictions):
    size = max(labels.max(), predictions.max()) + 1
    return confusion(labels, predictions)[:size, :size]


def only_those(labels, predictions):
    there = sorted({*labels.tolist(), *predictions.tolist()})
    return [[int(confusion(labels, predictions)[r, c]) for c in there] for r in there]


def shares(labels, predictions):
    counts = confusion(labels, predictions)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def test_confusion_is_counted(capsys, monkeypatch):
    wrongs = {
        "on its side": lambda a, b: confusion(b, a),
        "counted once": counted_once,
        "the right answers are missing".capitalize(): lambda a, b: (
            confusion(a, b) - np.diag(confusion(a, b).diagonal())
        ),
        "Only the diagonal": lambda a, b: np.diag(confusion(a, b).diagonal()),
        "shares of a row": shares,
        "shares of all": lambda a, b: confusion(a, b) / len(a),
        "up to the largest": up_to_largest,
        "each of the ten digits": only_those,
        "IndexError": lambda a, b: np.zeros((9, 9))[a, b],
    }
    rights = [confusion, confusion_bincount, confusion_lists]
    try_function(capsys, monkeypatch, exercises.check_confusion, rights, wrongs)
