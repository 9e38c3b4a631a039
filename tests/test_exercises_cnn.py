"""The exercises of notebook 02: right answers, typical mistakes, nonsense."""

import math

import numpy as np
import pytest
import torch

from mnist_helpers.tutorial.exercises import cnn as exercises
from tests.exercising import NO_NUMBERS, NUMBERS, said, try_function, try_number

ASKED = {
    "check_parameters": (
        263072,
        {
            263712: "scores", 73728: "alone", 264352: "second set", 262432: "no weights?",
            263136: "bias", 197536: "1x1", 189920: "all 128", 190496: "single", 189984: "as it was",
        },
    ),
    "check_field": (
        20,
        {18: "before the pool", 19: "two steps", 22: "two gaps", 24: "second pool",
         16: "after conv5", 28: "average", 32: "double", 48: "multiply"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_a_number_is_judged(name, capsys):
    try_number(capsys, getattr(exercises, name), *ASKED[name])


def count_places(width, window, stride):
    places = 0
    for start in range(width):
        if start % stride == 0 and start + window <= width:
            places += 1
    return places


def test_a_size_is_judged(capsys, monkeypatch):
    rights = [
        lambda width, window, stride: (width - window) // stride + 1,
        lambda w, k, s: int((w - k) / s + 1),
        lambda w, k, s: len(range(0, w - k + 1, s)),
        lambda w, k, s: torch.tensor((w - k) // s + 1),
        lambda w, k, s: np.floor((w - k) / s) + 1,
        lambda w, k, s: torch.nn.functional.max_pool1d(torch.zeros(1, 1, w), k, s).shape[-1],
        count_places,
    ]
    wrongs = {
        "Whole windows only": lambda w, k, s: (w - k) / s + 1,
        "round up": lambda w, k, s: math.ceil((w - k) / s) + 1,
        "count the steps. Is": lambda w, k, s: (w - k) // s,
        "broken ones too": lambda w, k, s: (w - k) / s,
        "right for steps of 1": lambda w, k, s: w - k + 1,
        "how far the window can go": lambda w, k, s: w - k,
        "do you keep the first": lambda w, k, s: len(range(k, w + 1)) // s,
        "no longer fits": lambda w, k, s: w // s,
        "with padding": lambda w, k, s: (w + 2 * (k // 2) - k) // s + 1,
        "yours gives 27, and 26 is right": lambda w, k, s: (w - k) // s + 2,
    }  # fmt: skip
    try_function(capsys, monkeypatch, exercises.check_output_size, rights, wrongs)


GOOD = [[2, -1, -1], [-1, 2, -1], [-1, -1, 2]]
OTHER_GOOD = [[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]]


@pytest.mark.parametrize(
    "answer",
    [GOOD, OTHER_GOOD, tuple(map(tuple, GOOD)), np.array(GOOD), torch.tensor(GOOD),
     torch.tensor(GOOD, dtype=torch.float16), torch.tensor(GOOD)[None, None],
     torch.nn.Parameter(torch.tensor(OTHER_GOOD)), [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]],
)  # fmt: skip
def test_a_good_filter_is_seen(answer, capsys):
    assert said(capsys, exercises.check_diagonal, answer).startswith("Right. ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "a sheet full of ink 3. What should all nine"),
        ([[1, -0.1, -0.1], [-0.1, 1, -0.1], [-0.1, -0.1, 1]], "not yet one and a half times"),
        ([[-1, -1, 2], [-1, 2, -1], [2, -1, -1]], "the other diagonal 6. Which corners"),
        ([[-1, -1, -1], [2, 2, 2], [-1, -1, -1]], "a horizontal line 6. Ink in a whole row"),
        ([[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]], "a vertical line 6. Ink in a whole column"),
        ([[-2, 1, 1], [1, -2, 1], [1, 1, -2]], "Flip all signs"),
        ([[-1, -1, -1]] * 3, "A yes has to be positive"),
        ([[0, 0, 0]] * 3, "All weights are 0"),
        ([1, 2, 3], "yours is 3"),
        (torch.eye(5), "yours is 5x5"),
        (torch.zeros(2, 3, 3), "yours is 2x3x3"),
        ([[math.nan, 0, 0]] * 3, "finite"),
        ([[1, 2], [1]], "three rows of three numbers"),
        (7, "yours is one number"),
        ("a filter", "not this str"),
    ],
)
def test_a_wrong_filter_gets_its_hint(answer, hint, capsys):
    text = said(capsys, exercises.check_diagonal, answer)
    assert text.startswith("Not yet. ") and hint in text, text


def test_the_filter_waits_and_stands_nonsense(capsys):
    assert said(capsys, exercises.check_diagonal, ...) == "Not answered yet.\n"
    for nonsense in [*NUMBERS, *NO_NUMBERS]:
        assert said(capsys, exercises.check_diagonal, nonsense).startswith("Not yet. ")
    exercises.check_diagonal(torch.eye(3))
    exercises.check_diagonal(torch.eye(3))
    assert "0 in sum" in capsys.readouterr().out
