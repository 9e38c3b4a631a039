"""The exercises of notebook 07: right answers, typical mistakes, nonsense."""

import math

import numpy as np
import torch

from mnist_helpers.tutorial.exercises import faster as exercises
from mnist_helpers.tutorial.exercises import verdicts
from tests.exercising import said, try_function, try_number


def test_a_speed_is_judged(capsys):
    wrong = {
        10: "nine tenths",
        0.9: "time that remains",
        1.1: "Close",
        9: "both together",
        0.1: "save at most",
        111.1: "not per cent",
        2: "100 minutes",
    }
    try_number(capsys, exercises.check_speed, 1.111, wrong)


def right(step, steps, peak):
    top = steps / 5
    if step <= top:
        return peak * (0.25 + 0.75 * step / top)
    return peak * (1 - (step - top) / (0.8 * steps))


def interpolated(step, steps, peak):
    return np.interp(step, [0, steps / 5, steps], [peak / 4, peak, 0])


def rise_only(step, steps, peak):
    return right(step, steps, peak) if step < steps / 5 else None


def after_the_top(fall):
    """Return a schedule whose rise is right."""
    return lambda s, n, p: right(s, n, p) if s < n / 5 else fall(s, n, p)


def test_a_schedule_is_judged(capsys, monkeypatch):
    rights = [
        right,
        interpolated,
        lambda *case: torch.tensor(right(*case)),
        lambda *case: float(f"{right(*case):.4g}"),
        lambda s, n, p: min(p / 4 + 0.75 * p * 5 * s / n, p * 1.25 * (1 - s / n)),
    ]
    wrongs = {
        "starts at 0, so": lambda s, n, p: 5 * p * s / n if s < n / 5 else right(s, n, p),
        "beyond the peak": lambda s, n, p: p / 4 + 5 * p * s / n if s < n / 5 else right(s, n, p),
        "jumps": after_the_top(lambda s, n, p: p * (1 - s / n)),
        "starts too low": after_the_top(lambda s, n, p: p * (n - s) / (n * 0.8) - p / 4),
        "all the way to 0": after_the_top(lambda s, n, p: p - 0.75 * p * (s - n / 5) / (0.8 * n)),
        "stays at the peak": after_the_top(lambda s, n, p: p),
        "always uses 0.04": lambda s, n, p: right(s, n, 0.04),
        "to the very end": lambda s, n, p: p / 4 + 0.75 * p * s / n,
        "one step too early": after_the_top(lambda s, n, p: p * (n - 1 - s) / (n - 1 - n / 5)),
        "one step ahead": lambda s, n, p: right(s + 1, n, p),
        "straight line": after_the_top(
            lambda s, n, p: p / 2 * (1 + math.cos(math.pi * (s - n / 5) / (0.8 * n)))
        ),
        "step = 0, steps = 100, peak = 0.04 yours gives 0.04": lambda s, n, p: p,
        "step = 20": rise_only,
    }
    try_function(capsys, monkeypatch, exercises.check_learning_rate, rights, wrongs)


def race_of(ours, seconds=10.0):
    """Return a race against a mark that is right on 900 of 1,000 digits."""
    theirs = np.arange(1000) < 900
    return lambda **settings: (ours, seconds) if settings else (theirs, 10.0)


def digits(won, lost):
    """Return answers that win so many digits from the mark and lose so many."""
    ours = np.arange(1000) < 900
    ours[900 : 900 + won] = True
    ours[:lost] = False
    return ours


def test_a_race_is_judged(capsys):
    def said_of(race, settings=None):
        settings = {"batch": 16} if settings is None else settings
        return said(capsys, lambda answer: exercises.check_beat(answer, race), settings)

    text = said_of(race_of(digits(60, 10)))
    assert "95.0% of 1,000 digits after 10 s, the mark is 90.0%" in text
    assert "on 60, only the mark's on 10; chance explains a difference up to 17." in text
    assert "\nRight. More than noise" in text
    assert "\nRight. " in said_of(race_of(torch.tensor(digits(60, 10))))
    for race, hint in {
        race_of(digits(60, 10), 61.0): "It took 61 s, and the budget is 60.",
        race_of(digits(12, 10)): "Better! But chance",
        race_of(digits(10, 12)): "A little worse",
        race_of(digits(10, 60)): "worse, and by more than noise",
        race_of(digits(0, 0)): "A draw.",
        race_of(digits(0, 800)): "learned nothing",
    }.items():
        assert f"\nNot yet. {hint}" in said_of(race) or hint in said_of(race)
        assert "\nRight" not in said_of(race)

    def refuse(**settings):
        raise TypeError("fast() got an unexpected keyword argument 'batches'")

    assert "stops with TypeError: fast() got" in said_of(refuse)
    assert said_of(refuse, ...) == "Not answered yet.\n"
    assert said_of(refuse, {}).startswith("Not answered yet. An empty")
    assert "yours is a int" in said_of(refuse, 16)


def test_a_second_lost_race_gets_a_nearer_hint(capsys):
    verdicts._wrong_answers.clear()
    for nearer in (False, True):
        exercises.check_beat({"batch": 16}, race_of(digits(12, 10)))
        assert ("Count the steps" in capsys.readouterr().out) == nearer
