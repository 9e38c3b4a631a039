"""The exercises of notebook 07: a clock, a schedule, a race against the recipe `fast`."""

import math
import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mnist_helpers.machine.progress import announce
from mnist_helpers.tutorial.exercises.running import attempt, kind_of
from mnist_helpers.tutorial.exercises.verdicts import (
    NOT_YET,
    approve,
    correct,
    is_function,
    is_right,
    judge_function,
)

BUDGET = 60.0  # seconds of training, in the race
GUESSING = 0.2  # an accuracy below this is a network that has learned nothing
PAUSES = (0.12, 0.02, 0.08, 0.03)  # seconds; the mean, the median, the last are far apart
CASES = [(s, 100, 0.04) for s in (0, 5, 10, 20, 30, 60, 99)] + [(50, 1000, 0.4), (900, 1000, 0.4)]


def check_clock(answer: Any) -> None:
    """Write a clock: repeat the work, time every call, return the shortest time."""
    if not is_function(answer):
        return
    why = "Whatever else your computer does can only add time, so the shortest is the truest."
    hint = _clock_fault(answer)
    if hint is None:
        announce(f"{NOT_YET} Your function returns nothing so far.")
    elif hint:
        nearer = "Read `time.perf_counter()` just before and just after each `work()`, keep the "
        correct(why, hint, f"{nearer}differences in a list, and return the smallest.")
    else:
        approve(why)


def clock_of(answer: Any) -> Callable[..., float]:
    """Return the reader's clock once it is right, else ours; it waits until a GPU has finished."""
    is_right = callable(answer) and _clock_fault(answer) == ""

    def seconds(work: Callable[[], object], times: int = 3) -> float:
        def finish() -> None:
            work()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()

        if is_right:
            return float(answer(finish, times))
        return min(timeit.repeat(finish, repeat=times, number=1))

    return seconds


def _clock_fault(answer: Callable[..., Any]) -> str | None:
    """Return what is wrong with a clock; "" if nothing is, None if it returns nothing."""
    taken: list[float] = []

    def work() -> None:
        started = time.perf_counter()
        time.sleep(PAUSES[len(taken) % len(PAUSES)])
        taken.append(time.perf_counter() - started)

    times = len(PAUSES)
    value, trouble = attempt(answer, work, times)
    if trouble or value is None or value is ...:
        return trouble or None
    if not taken:
        return "Your function never runs the work. It runs when you call it: `work()`."
    if len(taken) == 1 and times > 1:
        return "Your function runs the work once. Repeat it `times` times, and time every call."
    if len(taken) not in (times, times + 1):  # one more is a warm-up
        return f"With times = {times} your function runs the work {len(taken)} times."
    try:
        number = float(value)
    except Exception:  # a result may be any object, and its methods may raise anything
        return f"Return one number, the shortest time in seconds; yours is a {kind_of(value)}."
    return _meaning_of(number, taken)


def _meaning_of(number: float, taken: list[float]) -> str:
    """Return which other summary of these times a number is; "" if it is the shortest."""
    known = {
        "": min(taken),
        "That is the time of all calls together. Time each call on its own.": sum(taken),
        "That is the mean, and one busy moment spoils it. Take the shortest.": (
            statistics.mean(taken)
        ),
        "That is the median: better than the mean, but it still counts what other programs "
        "took. Take the shortest.": statistics.median(taken),
        "That is the last call only. Keep all times, then take the shortest.": taken[-1],
        "That is the longest time, and often the first: it includes the warm-up. Take the "
        "shortest.": max(taken),
        "Leaving out the first call is a good idea, but the mean of the others still counts "
        "what other programs took. Take the shortest.": statistics.mean(taken[1:]),
        "Right, but in milliseconds. Return seconds.": 1000 * min(taken),
    }
    if number < 0:
        return "A negative time: subtract the earlier reading from the later one."
    if number < min(taken) / 2:
        return (
            "That is hardly any time. Read `time.perf_counter()` before the work and after it. "
            "(`time.process_time()` stands still while your program waits.)"
        )
    meaning, nearest = min(known.items(), key=lambda item: abs(math.log(item[1] / number)))
    if math.isclose(number, nearest, rel_tol=0.15):
        return meaning
    listed = ", ".join(f"{one:.3f}" for one in taken)
    return f"The calls took {listed} s; yours gives {number:.3f}."


def learning_rate(step: float, steps: float, peak: float) -> float:
    """Return the rate that exercise 1 asks for."""
    top = steps / 5
    if step < top:
        return peak / 4 + (peak - peak / 4) * step / top
    return peak * (steps - step) / (steps - top)


def _from_zero(step: float, steps: float, peak: float) -> float:
    top = steps / 5
    return peak * step / top if step < top else learning_rate(step, steps, peak)


def _rises_too_far(step: float, steps: float, peak: float) -> float:
    top = steps / 5
    return peak / 4 + peak * step / top if step < top else learning_rate(step, steps, peak)


def _jumps(step: float, steps: float, peak: float) -> float:
    falling = peak * (steps - step) / steps
    return learning_rate(step, steps, peak) if step < steps / 5 else falling


def _falls_from_above(step: float, steps: float, peak: float) -> float:
    falling = peak * (steps - step) / (steps * 4 / 5) - peak / 4
    return learning_rate(step, steps, peak) if step < steps / 5 else falling


def _falls_to_a_quarter(step: float, steps: float, peak: float) -> float:
    way = (step - steps / 5) / (steps * 4 / 5)
    return learning_rate(step, steps, peak) if way < 0 else peak - (peak - peak / 4) * way


def _stays_up(step: float, steps: float, peak: float) -> float:
    return learning_rate(step, steps, peak) if step < steps / 5 else peak


def _peak_of_the_lesson(step: float, steps: float, peak: float) -> float:
    return learning_rate(step, steps, 0.04)


def _rises_all_the_way(step: float, steps: float, peak: float) -> float:
    return peak / 4 + (peak - peak / 4) * step / steps


def _ends_a_step_early(step: float, steps: float, peak: float) -> float:
    top = steps / 5
    falling = peak * (steps - 1 - step) / (steps - 1 - top)
    return learning_rate(step, steps, peak) if step < top else falling


def _counts_from_one(step: float, steps: float, peak: float) -> float:
    return learning_rate(step + 1, steps, peak)


def _in_waves(step: float, steps: float, peak: float) -> float:
    way = (step - steps / 5) / (steps * 4 / 5)
    rising = learning_rate(step, steps, peak)
    return rising if way < 0 else peak * (1 + math.cos(math.pi * way)) / 2


def _same_rates(value: Any, expected: Any) -> bool:
    """Compare as relative numbers: rounded to two digits, most rates would be the same."""
    numbers = [np.asarray(x, dtype=float) for x in (value, expected)]
    return all(n.shape == () for n in numbers) and math.isclose(*numbers, rel_tol=5e-3)


def schedule_of(answer: Any, otherwise: Callable[..., float]) -> Callable[..., float]:
    """Return the reader's schedule once it is right, else the other one."""
    right = is_right(answer, learning_rate, CASES, _same_rates)
    return (lambda *case: float(answer(*case))) if right else otherwise


def check_learning_rate(answer: Any) -> None:
    """Write a schedule: up in the first fifth from a quarter of the peak, then down to 0."""
    judge_function(
        answer,
        learning_rate,
        CASES,
        "Up in a straight line, down in a straight line, and the last step still moves a little.",
        {
            "Your rate starts at 0, so the first step would do nothing. It starts at peak / 4.":
                _from_zero,
            "Your rate rises beyond the peak. It starts at peak / 4 already: how much is left to "
            "climb?": _rises_too_far,
            "The rise is right, but then the rate jumps: right after the top yours has already "
            "lost a fifth. The fall begins at the top, not at step 0.": _jumps,
            "The fall starts too low: it should start where the rise has ended, at the peak.":
                _falls_from_above,
            "The rise is right. The fall goes all the way to 0, not back to where it started.":
                _falls_to_a_quarter,
            "The rise is right, and then your rate stays at the peak. It has to come down again.":
                _stays_up,
            "Your function always uses 0.04. Take the peak it is given.": _peak_of_the_lesson,
            "Your rate rises to the very end. After a fifth of the steps it turns.":
                _rises_all_the_way,
            "Very close: yours reaches 0 one step too early, so the last step does nothing.":
                _ends_a_step_early,
            "Very close: yours is one step ahead. Steps are counted from 0.": _counts_from_one,
            "A fine cosine, as in PyTorch. Here the fall is a straight line.": _in_waves,
        },
        nearer="Each line is where it starts, plus its whole change times how far along it is, "
        "from 0 to 1. How far along is `step` in the rise, and how far in the fall?",
        same=_same_rates,
    )  # fmt: skip


def check_beat(settings: Any, race: Callable[..., Any]) -> None:
    """Find settings that beat `fast`; `race` gives right answers (N,) and seconds of training."""
    why = "More than noise, and within the minute."
    if settings is ...:
        announce(NOT_YET)
        return
    if not isinstance(settings, dict):
        announce(f"Settings are a dictionary, as dict(batch=16); yours is a {kind_of(settings)}.")
        return
    if not settings:
        announce(f"{NOT_YET} An empty dictionary is `fast` as it comes; change something.")
        return
    try:
        ours, seconds = race(**settings)
    except Exception as error:  # settings may be anything, and so may what they break
        text = str(error).split("\n")[0]
        correct(why, f"With these settings `fast` stops with {kind_of(error)}: {text}.")
        return
    theirs, _ = race()
    ours, theirs = np.asarray(ours, dtype=bool), np.asarray(theirs, dtype=bool)
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    noise = 2 * math.sqrt(won + lost)
    announce(
        f"Yours is right on {ours.mean():.1%} of {len(ours):,} digits after {seconds:.0f} s, the "
        f"mark is {theirs.mean():.1%}. Only yours was right on {won}, only the mark's on {lost}; "
        f"chance explains a difference up to {noise:.0f}."
    )
    hint = _race_lost(ours, won - lost, noise, seconds)
    nearer = "Count the steps: digits times epochs, over the batch. `fast` has few of them here."
    if hint:
        correct(why, hint, nearer)
    else:
        approve(why)


def _race_lost(ours: np.ndarray, lead: int, noise: float, seconds: float) -> str:
    """Return what to say of a race that wasn't won; "" if it was."""
    if ours.mean() < GUESSING:
        return "The network has learned nothing: it died, or never started. Lower the peak."
    if seconds > BUDGET:
        return f"It took {seconds:.0f} s, and the budget is {BUDGET:.0f}. Fewer epochs?"
    if lead == 0:
        return "A draw. Did you change anything that matters?"
    if lead < -noise:
        return "That is worse, and by more than noise. Which of your changes did it?"
    if lead < 0:
        return "A little worse, but chance could have done that too."
    if lead <= noise:
        return "Better! But chance could have done that too; it takes a clearer lead."
    return ""
