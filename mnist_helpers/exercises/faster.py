"""The exercises of notebook 07: where time goes, rounding, schedules."""

from typing import Any

from mnist_helpers.exercises.verdicts import judge


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
    """What is 1.0 after a step of 0.001, where both are bfloat16?"""
    judge(
        answer,
        right=1,
        why="The next bfloat16 above 1 is 1.0078, so 1.001 is rounded back to 1.",
        hints={
            1.001: "That is float32. Which bfloat16 is nearest to it?",
            1.0078125: "That is the next bfloat16 above 1. Is 1.001 nearer to it, or to 1?",
            0.001: "That is the step; the weight was 1.",
        },
        otherwise="Near 1 a bfloat16 knows steps of 1/128 only: which of them is nearest to 1.001?",
    )


def check_peak(answer: Any) -> None:
    """At which of 1,875 steps is the rate highest, if one cycle rises in the first fifth?"""
    judge(
        answer,
        right=375,
        why="A fifth of 1,875 steps.",
        hints={
            1500: "That is where the falling part would have a fifth left.",
            938: "That would be a rise over half of the steps.",
            0.2: "That is the part. How many steps is it?",
            1875: "That is the last step, where the rate is lowest.",
            12_000: "A fifth of the steps, not of the images.",
        },
        otherwise="A fifth of the steps of the epoch.",
    )
