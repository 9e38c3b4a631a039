"""The exercises of notebook 07: where time goes, rounding, schedules."""

from typing import Any

from mnist_helpers.tutorial.exercises.verdicts import judge


def check_speed(answer: Any) -> None:
    """How many times as fast at most, if only the loader's tenth of the time gets faster?"""
    judge(
        answer,
        right=1 / 0.9,
        why="Nine tenths of the time remain, whatever the loader does: 1 / 0.9 (Amdahl's law).",
        hints={
            10.0: "Only the loader gets faster; the steps still take nine tenths of the time.",
            0.9: "That is the time that remains. How many times as fast is that?",
            1.1: "Close: a tenth less time is not a tenth more speed.",
            9.0: "That compares steps with loading. What matters is the time of both together.",
            0.1: "That is the part of the time that can be saved at most.",
        },
        otherwise="The time before, over the time that remains when loading takes none.",
    )


def check_precision(answer: Any) -> None:
    """How far apart are neighbouring bfloat16 numbers at 100, if at 1 it is 1/128?"""
    judge(
        answer,
        right=0.5,
        why="The gap has doubled six times up to 64: 64 / 128.",
        hints={
            1 / 128: "That is the gap at 1; it has doubled several times on the way to 100.",
            100 / 128: "It does not grow evenly: it doubles at 64, and next at 128.",
            1.0: "The doubling at 128 is still to come.",
            0.25: "It doubles at 64 once more.",
            6 / 128: "Six doublings are a factor of 64, not of 6.",
        },
        otherwise="Start with 1/128 at 1 and double it at 2, 4, 8 and so on, up to 64.",
    )


def check_peak(answer: Any) -> None:
    """Which of 1,875 steps, counted from 1, has the highest rate, if it rises in a fifth?"""
    judge(
        answer,
        right=375,
        why="A fifth of 1,875 steps.",
        hints={
            374: "Right if you count from 0, as Python does. From 1?",
            1500: "That is where the falling part would have a fifth left.",
            938: "That would be a rise over half of the steps.",
            0.2: "That is the part. How many steps is it?",
            1875: "That is the last step, where the rate is lowest.",
            12_000: "A fifth of the steps, not of the images.",
        },
        otherwise="A fifth of the steps of the epoch.",
    )
