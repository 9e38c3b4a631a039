"""The exercises of notebook 02: parameters, sizes and receptive fields."""

from typing import Any

from mnist_helpers.tutorial.exercises.verdicts import judge


def check_parameters(answer: Any) -> None:
    """How many parameters does a 5x5 convolution from 32 to 64 channels have, with bias?"""
    judge(
        answer,
        right=64 * 32 * 25 + 64,
        why="64 filters, each with a 5x5 window on every one of the 32 channels and one bias.",
        hints={
            64 * 32 * 25: "That is without the biases: one for each filter.",
            64 * 32 * 25 + 32: "There is one bias for each filter, not for each channel it sees.",
            64 * 32 * 9 + 64: "That is a 3x3 window. How many weights does a 5x5 window have?",
            64 * 25 + 64: "Each filter looks at all 32 channels, not at one.",
            32 * 25 + 1: "That is a single filter. How many filters are there?",
            (64 + 32) * 25 + 64: "Every filter meets every channel: multiply, do not add.",
        },
        otherwise="Filters times channels that each sees times weights of a window; and biases.",
    )


def check_output_size(answer: Any) -> None:
    """How wide is the output of a 5x5 convolution with stride 2, no padding, on 28 pixels?"""
    judge(
        answer,
        right=12,
        why="24 places for the window in steps of one; every second of them is 12.",
        hints={
            11: "The first place counts too: (28 - 5) // 2 + 1.",
            11.5: "The window stands in whole places; the last half step is not taken.",
            24: "That is with a stride of 1.",
            14: "Without padding the window cannot stand at the rim.",
            13: "A 5x5 window loses four pixels, not two.",
        },
        otherwise="(width - window) // stride + 1.",
    )


def check_field(answer: Any) -> None:
    """How many pixels would a unit see after one more 3x3 convolution behind conv_block_2?"""
    judge(
        answer,
        right=20,
        why="Since the pool neighbours are 2 pixels apart, and a 3x3 window spans two steps.",
        hints={
            18: "That would be at stride 1. How far apart do neighbours look after the pool?",
            19: "A 3x3 window spans three units, so two steps between them, not three ones.",
            22: "Three units have two gaps between them, not three.",
            32: "The field grows by steps; it does not double.",
            48: "Fields do not multiply: what do two more neighbours add?",
        },
        otherwise="16 pixels, plus (3 - 1) steps of the stride so far.",
    )
