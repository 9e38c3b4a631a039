"""What every checker of an exercise has to stand, for the tests of each module of them."""

import contextlib
import math
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch

from mnist_helpers.tutorial.exercises import running, verdicts


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


def said(capsys, check, answer):
    """Return what a checker says of an answer; the count of wrong ones starts anew."""
    verdicts._wrong_answers.clear()
    assert check(answer) is None
    return capsys.readouterr().out


def try_number(capsys, check, right, wrong):
    """Give a checker of a number the right one, wrong ones with a part of their hint, nonsense."""
    text = said(capsys, check, right)
    assert text.startswith("Right. ") and len(text) > 30
    kinds = [np.float64, Fraction, Decimal, torch.tensor, np.array]
    if float(right).is_integer():
        kinds += [np.int64, lambda n: torch.tensor(int(n))]
    for kind in kinds:
        assert said(capsys, check, kind(right)) == text
    for answer, hint in wrong.items():
        text = said(capsys, check, answer)
        assert text.startswith("Not yet. ") and hint in text, (answer, text)
    assert said(capsys, check, ...) == "Not answered yet.\n"
    general = said(capsys, check, -12_345)
    assert general.startswith("Not yet. ")
    for nonsense in NUMBERS:
        assert said(capsys, check, nonsense) == general
    for nonsense in NO_NUMBERS:
        start = "The answer must be a number; yours is of type "
        assert said(capsys, check, nonsense).startswith(start)


def try_function(capsys, monkeypatch, check, rights, wrongs):
    """Give a checker of a function right ones, six wrong ones at least, and what goes wrong.

    `rights` are functions that are right, each written in another way; `wrongs` maps a part of
    the hint to the function that should get it.
    """
    for function in rights:
        text = said(capsys, check, function)
        assert text.startswith("Right. ") and len(text) > 30, text
    assert len(wrongs) >= 6
    for hint, function in wrongs.items():
        text = said(capsys, check, function)
        assert text.startswith("Not yet. ") and hint in text, (hint, text)
    assert said(capsys, check, ...) == "Not answered yet.\n"
    assert said(capsys, check, lambda *_: None).startswith("Not answered yet.")
    assert "function" in said(capsys, check, 3)
    for function, words in ((divide, "ZeroDivisionError"), (leave, "SystemExit")):
        assert words in said(capsys, check, function)
    assert said(capsys, check, lambda: 3).startswith("Not yet. ")  # it takes no argument
    for value in ("a", object(), Hostile(), Liar(), torch.zeros(0), [1, "b"], {}):
        assert said(capsys, check, lambda *_, value=value: value).startswith("Not yet. ")
    monkeypatch.setattr(running, "SECONDS", 0.5)
    started = time.monotonic()
    assert "never end" in said(capsys, check, endless)
    assert time.monotonic() - started < 5


def divide(*_):
    return 1 / 0


def leave(*_):
    raise SystemExit


def endless(*_):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.01)
