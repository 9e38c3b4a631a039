"""Each checker gets the right answer, every typical wrong one, and nonsense."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from mnist_helpers.tutorial import exercises

RIGHT = {
    "check_file_size": 15_680_016,
    "check_grey": 1.205,
    "check_batches": 938,
    "check_parameters": 51_264,
    "check_output_size": 12,
    "check_field": 20,
    "check_half_sure": 0.693,
    "check_momentum": 0.1,
    "check_steps": 18_760,
    "check_standard_error": 0.00313,
    "check_recall": 0.98,
    "check_epoch": 3,
    "check_speed": 1.111,
    "check_precision": 0.5,
    "check_peak": 375,
}
WRONG = {
    "check_file_size": {15_680_000: "before them", 560_016: "28 rows", 62_720_016: "one byte"},
    "check_grey": {415.03: "from 0 to 1", 1.6292: "taken away", 0.1144: "divides"},
    "check_batches": {937: "left after", 937.5: "half batches", 64: "size of a batch"},
    "check_parameters": {
        51_200: "biases",
        18_496: "3x3",
        1664: "32 channels",
        801: "single filter",
    },
    "check_output_size": {11: "first place", 24: "stride of 1", 14: "rim", 11.5: "whole places"},
    "check_field": {18: "after the pool", 32: "double", 22: "two gaps", 19: "two steps"},
    "check_half_sure": {0.5: "not the probability", -0.693: "minus sign", 1: "base 2"},
    "check_momentum": {0.01: "first step", 0.019: "second step", 10: "velocity"},
    "check_steps": {938: "one epoch", 18_740: "smaller batch", 9380: "128", 18_750: "round up"},
    "check_standard_error": {9.8e-6: "square root", 0.14: "how many digits", 0.313: "in points"},
    "check_recall": {0.9703: "precision", 0.02: "missed", 98: "fraction", 0.95: "no nines"},
    "check_speed": {10: "nine tenths", 0.9: "time that remains", 1.1: "Close", 9: "both together"},
    "check_precision": {1 / 128: "gap at 1", 0.78: "evenly", 1: "still to come", 0.25: "once more"},
    "check_peak": {
        374: "count from 0",
        1500: "falling",
        938: "half",
        0.2: "How many steps",
        12_000: "not of the images",
    },
    "check_epoch": {5: "training loss", 4: "risen already", 2: "counted from 0"},
}


class Hostile(float):
    """A number whose every method raises."""

    def _raise(self, *_):
        raise ValueError("no")

    __eq__ = __float__ = __repr__ = __str__ = __getattr__ = __lt__ = __bool__ = __sub__ = _raise
    __hash__ = None


class Nameless(type):
    @property
    def __name__(cls):
        raise RuntimeError("no")


class Liar(metaclass=Nameless):
    """Neither a number nor anything else: it even hides its class."""

    @property
    def __class__(self):
        raise RuntimeError("no")


NUMBERS = [math.nan, -math.inf, 10**400, -(10**400), Fraction(10**400), Decimal("1e999"),
           Decimal("nan"), np.float16("inf"), torch.tensor(math.inf)]  # fmt: skip
NO_NUMBERS = ["12", None, [1], (), {}, True, np.True_, torch.tensor(True), 1j, np.complex64(1),
              torch.zeros(2), np.zeros(1), Decimal("snan"), torch.zeros((), device="meta"), b"3",
              Hostile(), Liar(), float, lambda: 3, np.datetime64("2026-01-01")]  # fmt: skip


def said(capsys, name, answer):
    assert getattr(exercises, name)(answer) is None
    return capsys.readouterr().out


def test_every_exercise_is_tried():
    assert set(RIGHT) == set(WRONG) == set(exercises.__all__)


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_answer_is_met_with_a_reason(name, capsys):
    text = said(capsys, name, RIGHT[name])
    assert text.startswith("Right. ") and len(text) > 30


@pytest.mark.parametrize(("name", "wrong"), [(n, w) for n, all_ in WRONG.items() for w in all_])
def test_a_typical_mistake_gets_its_own_hint(name, wrong, capsys):
    text = said(capsys, name, wrong)
    assert text.startswith("Not yet. ") and WRONG[name][wrong] in text


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_makes_it_raise(name, capsys):
    assert said(capsys, name, ...) == "Not answered yet.\n"
    general = said(capsys, name, -12_345)
    assert general.startswith("Not yet. ")
    for nonsense in NUMBERS:
        assert said(capsys, name, nonsense) == general
    for nonsense in NO_NUMBERS:
        assert said(capsys, name, nonsense).startswith(
            "The answer must be a number; yours is of type "
        )


@pytest.mark.parametrize("name", RIGHT)
def test_a_number_of_any_type_is_an_answer(name, capsys):
    text = said(capsys, name, RIGHT[name])
    whole = float(RIGHT[name]).is_integer()
    kinds = [np.float64, Fraction, Decimal, torch.tensor, np.array]
    for kind in (*kinds, np.int64, lambda n: torch.tensor(int(n))) if whole else kinds:
        assert said(capsys, name, kind(RIGHT[name])) == text
