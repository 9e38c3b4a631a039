"""The exercises of notebook 04: right answers, typical mistakes, nonsense."""

import math
import random

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from mnist_helpers.tutorial.exercises import curves as exercises
from tests.exercising import try_function

SMOOTH = InterpolationMode.BILINEAR


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


def recall_precision(counts, digit):
    hits, called = counts[digit, digit], counts[:, digit].sum()
    return hits / counts[digit].sum(), hits / called if called else 0


def by_loop(counts, digit):
    row = column = 0
    for other in range(10):
        row += int(counts[digit][other])
        column += int(counts[other][digit])
    hits = int(counts[digit][digit])
    return [round(hits / row, 2), round(hits / column, 2) if column else 0]


def by_tensors(counts, digit):
    counts = torch.as_tensor(counts)
    shares = counts[digit, digit] / torch.stack([counts[digit].sum(), counts[:, digit].sum()])
    return shares.nan_to_num()


def unguarded(counts, digit):
    hits = counts[digit, digit]
    with np.errstate(invalid="ignore"):  # 0 / 0 where the digit is never said
        return hits / counts[digit].sum(), hits / counts[:, digit].sum()


def test_recall_and_precision_are_told_apart(capsys, monkeypatch):
    wrongs = {
        "The two are swapped": lambda c, d: recall_precision(c, d)[::-1],
        "swapped": lambda c, d: unguarded(c, d)[::-1],
        "Both go along the row": lambda c, d: (recall_precision(c, d)[0],) * 2,
        "Both go down the column": lambda c, d: (unguarded(c, d)[1],) * 2,
        "all digits": lambda c, d: (c[d, d] / c.sum(), c[d, d] / c.sum()),
        "counts of right answers": lambda c, d: (c[d, d], c[d, d]),
        "use /": lambda c, d: (c[d, d] // c[d].sum(), c[d, d] // max(1, c[:, d].sum())),
        "mistakes only": lambda c, d: (
            c[d, d] / (c[d].sum() - c[d, d]),
            c[d, d] / max(1, c[:, d].sum() - c[d, d]),
        ),
        "not per cent": lambda c, d: 100 * np.array(unguarded(c, d)),
        "0 is divided by 0": unguarded,
        "two numbers": lambda c, d: recall_precision(c, d)[0],
        "ZeroDivisionError": lambda c, d: [
            int(c[d, d]) / int(total) for total in (c[d].sum(), c[:, d].sum())
        ],
        "is right": lambda c, d: (0.5, 0.5),
    }
    rights = [recall_precision, by_loop, by_tensors]
    try_function(capsys, monkeypatch, exercises.check_recall_precision, rights, wrongs)


def turned(images, angles):
    pairs = zip(images, angles, strict=True)
    return torch.cat([rotate(image[None], -float(a), SMOOTH) for image, a in pairs])


def drawing(draw):
    return lambda images, degrees: turned(images, draw(degrees, len(images)))


def uniform(degrees, count):
    return np.random.uniform(-degrees, degrees, count)


def jagged(images, degrees):
    return torch.stack([rotate(i[None], random.uniform(-degrees, degrees))[0] for i in images])


def whole_degrees(images, degrees):
    return turned(images, torch.randint(-degrees, degrees + 1, (len(images),)))


def test_each_digit_is_turned_by_its_own_angle(capsys, monkeypatch):
    wrongs = {
        "shape of `images`": lambda i, d: turned(i, uniform(d, len(i)))[:, None],
        "torch.cat joins": lambda i, d: list(i),
        "whole numbers": lambda i, d: turned(i, uniform(d, len(i))) / 255,
        "Nothing has turned": lambda i, d: i,
        "the same angle": drawing(lambda d, n: np.repeat(uniform(d, 1), n)),
        "for each": drawing(lambda d, n: np.repeat(d, n)),
        "in degrees": drawing(lambda d, n: np.radians(uniform(d, n))),
        "turn the same way": drawing(lambda d, n: np.random.uniform(0, d, n)),
        "in between": drawing(lambda d, n: d * np.random.choice([-1, 1], n)),
        "further than": drawing(lambda d, n: uniform(180, n)),
        "one value of `degrees`": drawing(lambda d, n: uniform(40, n)),
    }
    rights = [drawing(uniform), jagged, whole_degrees]
    try_function(capsys, monkeypatch, exercises.check_turning, rights, wrongs)
