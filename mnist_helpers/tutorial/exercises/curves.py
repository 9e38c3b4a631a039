"""The exercises of notebook 04: noise, recall, overfitting."""

import math
from typing import Any

from mnist_helpers.tutorial.exercises.verdicts import judge


def check_standard_error(answer: Any) -> None:
    """What is the standard error, as a fraction, of 98 % measured on 2,000 digits?"""
    judge(
        answer,
        right=math.sqrt(0.98 * 0.02 / 2000),
        why="Three tenths of a point: the fewer digits, the larger; and larger further from 100 %.",
        hints={
            0.98 * 0.02 / 2000: "That is the variance; take its square root.",
            math.sqrt(0.98 * 0.02): "And how many digits is it measured on?",
            math.sqrt(0.98 * 0.02) / 2000: "The number of digits belongs under the root.",
            100 * math.sqrt(0.98 * 0.02 / 2000): "Right in points; a fraction is a hundredth.",
            0.02: "That is the share of mistakes. How much does it vary?",
        },
        otherwise="The root of p (1 - p) / n.",
    )


def check_recall(answer: Any) -> None:
    """Of 1,000 nines 980 are found, and 30 other digits are called nine: what is the recall?"""
    judge(
        answer,
        right=0.98,
        why="Recall asks of the nines that there are: 980 of 1,000 were found.",
        hints={
            980 / 1010: "That is the precision: of what was called nine, how much is nine?",
            0.95: "The 30 others do not matter here; they are no nines.",
            980 / 1030: "Recall divides by the nines that there are, and by nothing else.",
            0.02: "That is the share that was missed.",
            98: "As a fraction, please.",
        },
        otherwise="The nines that were found, divided by all nines that there are.",
    )


def check_epoch(answer: Any) -> None:
    """Which epoch is best: training losses .30 .10 .05 .02 .01, test .20 .10 .08 .09 .12?"""
    judge(
        answer,
        right=3,
        why="There the test loss is lowest; afterwards the network learns by heart.",
        hints={
            5: "That has the lowest training loss. Which loss tells about digits not seen?",
            4: "There the test loss has risen already.",
            2: "If you counted from 0: epochs are counted from 1. Else look once more.",
            0.08: "That is the loss. In which epoch was it reached?",
        },
        otherwise="Look for the lowest test loss, and count epochs from 1.",
    )
