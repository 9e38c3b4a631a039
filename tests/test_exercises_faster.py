"""The exercises of notebook 07: right answers, typical mistakes, nonsense."""

import math
import statistics
import time
import timeit

import numpy as np
import torch

from mnist_helpers.tutorial.exercises import faster as exercises
from mnist_helpers.tutorial.exercises import verdicts
from tests.exercising import Liar, said, try_function


def clocked(work, times):
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


def warmed_up(work, times):
    work()
    return min(clocked(work, times))


def started_too_late(work, times):
    for _ in range(times):
        work()
        started = time.perf_counter()
    return time.perf_counter() - started


def processor_time(work, times):
    started = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - started


RIGHT_CLOCKS = [
    lambda work, times=3: min(clocked(work, times)),
    lambda work, times=3: min(timeit.repeat(work, repeat=times, number=1)),
    lambda work, times: torch.tensor(clocked(work, times)).min(),
    lambda work, times: np.sort(clocked(work, times))[0],
    warmed_up,
]
WRONG_CLOCKS = {
    "never runs the work": lambda work, times: min([work] * times) if times < 0 else 0.1,
    "runs the work once": lambda work, times: clocked(work, 1)[0],
    "times = 4 your function runs the work 3": lambda work, times: min(clocked(work, 3)),
    "all calls together": lambda work, times: sum(clocked(work, times)),
    "the mean, and": lambda work, times: sum(clocked(work, times)) / times,
    "the median": lambda work, times: statistics.median(clocked(work, times)),
    "the last call": lambda work, times: clocked(work, times)[-1],
    "includes the warm-up": lambda work, times: clocked(work, times)[0],
    "the mean of the others": lambda work, times: statistics.mean(clocked(work, times)[1:]),
    "in milliseconds": lambda work, times: 1000 * min(clocked(work, times)),
    "A negative time": lambda work, times: -min(clocked(work, times)),
    "hardly any time. Read": started_too_late,
    "stands still": processor_time,
    "one number": clocked,
    "yours gives 9.000": lambda work, times: clocked(work, times) and 9,
}


def test_a_clock_is_judged(capsys, monkeypatch):
    try_function(capsys, monkeypatch, exercises.check_clock, RIGHT_CLOCKS, WRONG_CLOCKS)


def test_a_clock_is_used_once_it_is_right():
    def wrong(work, times=3):
        raise AssertionError

    def right(work, times=3):
        asked.append(times)
        return min(clocked(work, times))

    asked, runs = [], []
    for answer in (wrong, ..., right):
        seconds = exercises.clock_of(answer)
        asked.clear()
        assert 0.01 < seconds(lambda: (runs.append(1), time.sleep(0.01)), times=2) < 1
        assert asked == ([2] if answer is right else [])
    assert len(runs) == 6


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


def test_a_schedule_is_used_once_it_is_right():
    for wrong in (..., lambda *_: None, lambda *_: "a", lambda *_: Liar(), rise_only):
        assert exercises.schedule_of(wrong, interpolated) is interpolated
    ours = exercises.schedule_of(lambda *case: torch.tensor(right(*case)), interpolated)
    assert type(ours(0, 100, 0.04)) is float and round(ours(20, 100, 0.04), 5) == 0.04


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
