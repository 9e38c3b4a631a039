"""The exercises of notebook 03: loss, momentum, steps."""

import math
from typing import Any

from mnist_helpers.tutorial.exercises.verdicts import judge


def check_half_sure(answer: Any) -> None:
    """What is the loss of a network that gives the right digit a probability of one half?"""
    judge(
        answer,
        right=math.log(2),
        why="Minus the natural logarithm of 0.5, which is ln 2.",
        hints={
            0.5: "The loss is not the probability, but minus its logarithm.",
            -math.log(2): "A loss is positive: mind the minus sign.",
            1.0: "That is with the logarithm to base 2; PyTorch takes the natural one.",
            math.log10(2): "That is with the logarithm to base 10; PyTorch takes the natural one.",
            math.log(10): "That is the loss of one in ten.",
        },
        otherwise="Cross-entropy is minus the natural logarithm of the right digit's probability.",
    )


def check_momentum(answer: Any) -> None:
    """How large do steps get where the gradient is always 1 (lr 0.01, momentum 0.9)?"""
    judge(
        answer,
        right=0.1,
        why="The velocity goes to 1 + 0.9 + 0.81 + ... = 10, so the steps to ten times the lr.",
        hints={
            0.01: "That is the first step. Momentum adds nine tenths of the one before.",
            0.019: "That is the second step. Where does it go after many?",
            0.009: "Momentum does not make steps smaller where the gradient keeps its sign.",
            1.0: "Is 10 the velocity? A step is the lr times the velocity.",
            10.0: "That is the velocity. A step is the lr times it.",
            0.09: "The gradient itself counts as well, not only what is left of earlier ones.",
        },
        otherwise="v = 0.9 v + 1 does not change any more when v = 10; a step is the lr times v.",
    )


def check_steps(answer: Any) -> None:
    """How many steps does the whole recipe take on a CPU: 20 epochs, batches of 64?"""
    judge(
        answer,
        right=20 * 938,
        why="938 steps an epoch, the last one on a smaller batch, 20 times.",
        hints={
            938: "That is one epoch.",
            20 * 937: "The last, smaller batch of an epoch is a step as well.",
            18_750: "Batches do not reach over the end of an epoch: round up in each one.",
            20 * 469: "That is with batches of 128, as on a GPU.",
            20 * 60_000: "A step takes a whole batch.",
        },
        otherwise="Steps of an epoch (60,000 / 64, rounded up) times 20.",
    )
