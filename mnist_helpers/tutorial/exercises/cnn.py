"""The exercises of notebook 02: a filter, sizes, parameters and receptive fields."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mnist_helpers.machine.progress import announce
from mnist_helpers.tutorial.exercises.running import kind_of
from mnist_helpers.tutorial.exercises.verdicts import (
    NOT_YET,
    approve,
    correct,
    judge,
    judge_function,
)

CLEARLY = 1.5  # times as much as to anything else
SHEET = 9  # pixels, for the small pictures on which a filter is tried


def check_diagonal(answer: Any) -> None:
    r"""Which 3x3 filter answers to a diagonal like \ and to nothing else?"""
    if answer is ...:
        announce(NOT_YET)
        return
    why = (
        "It says yes to its diagonal, wherever that lies, and clearly less to all the rest. "
        "That is what a learned filter does."
    )
    if hint := _what_is_wrong_with(_as_filter(answer), kind_of(answer)):
        nearer = "Try positive weights on the diagonal and negative ones beside it, 0 in sum."
        correct(why, hint, nearer)
    else:
        approve(why)


def _as_filter(answer: Any) -> Tensor | None:
    """Return an answer as a tensor of numbers; None for what is none."""
    try:
        weights = torch.as_tensor(answer).detach().cpu()
        return None if weights.is_complex() else weights.to(torch.float64)
    except Exception:  # an answer may be any object, and its methods may raise anything
        return None


def _what_is_wrong_with(weights: Tensor | None, kind: str) -> str:
    """Return a hint on a filter for diagonals; "" if it is good."""
    if weights is None:
        return f"A filter is a list of three rows of three numbers, or a tensor, not this {kind}."
    while weights.ndim > 2 and len(weights) == 1:  # the weight of an nn.Conv2d
        weights = weights[0]
    if weights.shape != (3, 3):
        got = "x".join(map(str, weights.shape)) or "one number"
        return f"A filter has three rows of three numbers; yours is {got}."
    if not weights.isfinite().all():
        return "Every weight has to be a finite number."
    if not weights.any():
        return "All weights are 0, so it answers 0 to everything."
    wanted, name, most = _answers(weights)
    if wanted > 0 and wanted >= CLEARLY * most:
        return ""
    no, _, least = _answers(-weights)
    if no > 0 and no >= CLEARLY * least:
        return "It finds the diagonal and says no to it. Flip all signs: yes is positive."
    if wanted <= 0:
        return f"To its diagonal it answers {wanted:.3g}. A yes has to be positive."
    close = "That is not yet one and a half times as much. " if wanted > most else ""
    answers = f"To its diagonal it answers {wanted:.3g}, and to {name} {most:.3g}."
    return f"{answers} {close}{_ADVICE[name]}"


def _answers(weights: Tensor) -> tuple[float, str, float]:
    """Return the largest answer to the diagonal, and what else gets most, and how much."""
    answers = {name: _largest(sheet, weights) for name, sheet in _sheets().items()}
    wanted = answers.pop("its diagonal")
    other = max(answers, key=lambda name: answers[name])
    return wanted, other, answers[other]


_ADVICE = {
    "the other diagonal": "Which corners does that one run through? Or did you mirror yours?",
    "a horizontal line": "Ink in a whole row should cancel out.",
    "a vertical line": "Ink in a whole column should cancel out.",
    "a sheet full of ink": "What should all nine weights add up to, so that plain ink gets 0?",
}


def _sheets() -> dict[str, Tensor]:
    """Return small pictures, 1 for ink and 0 for paper; the first is what has to be found."""
    diagonal = torch.eye(SHEET, dtype=torch.float64)
    line = torch.zeros_like(diagonal)
    line[SHEET // 2] = 1
    return {
        "its diagonal": diagonal,
        "the other diagonal": diagonal.flip(1),
        "a horizontal line": line,
        "a vertical line": line.T,
        "a sheet full of ink": torch.ones_like(diagonal),
        # Blank paper always gets 0, as there is no bias.
    }


def _largest(sheet: Tensor, weights: Tensor) -> float:
    return float(functional.conv2d(sheet[None, None], weights[None, None]).max())


def check_output_size(answer: Any) -> None:
    """At how many places does a window fit, moving in steps of that stride, without padding?"""

    def right(width: int, window: int, stride: int) -> int:
        return (width - window) // stride + 1

    judge_function(
        answer,
        right,
        cases=[(28, 3, 1), (28, 5, 2), (22, 2, 2), (11, 3, 1), (7, 7, 1), (10, 3, 4), (13, 2, 2)],
        why="One place to begin with, and one more for each whole step that is left.",
        mistakes={
            "Whole windows only: half a step is no place to stand. What do you do with the rest?":
                lambda width, window, stride: (width - window) / stride + 1,
            "A window that hangs over the rim does not count, so do not round up.":
                lambda width, window, stride: math.ceil((width - window) / stride) + 1,
            "You count the steps. Is the place where the window starts among them?":
                lambda width, window, stride: (width - window) // stride,
            "You count the steps, and broken ones too. Where does the window start?":
                lambda width, window, stride: (width - window) / stride,
            "That is right for steps of 1. What does a larger stride leave out?":
                lambda width, window, stride: width - window + 1,
            "That is how far the window can go. In steps of what length, and from where?":
                lambda width, window, stride: width - window,
            "Nearly. With steps of 2 and an odd number of places, do you keep the first?":
                lambda width, window, stride: (width - window + 1) // stride,
            "The window has a width too: near the rim it no longer fits.":
                lambda width, window, stride: width // stride,
            "That is with padding. Without it the window stays inside.":
                lambda width, window, stride: (width - window + 2 * (window // 2)) // stride + 1,
        },
        nearer="Draw 7 pixels, a window of 3 and steps of 2: it stands at pixels 0, 2 and 4.",
    )  # fmt: skip


def check_parameters(answer: Any) -> None:
    """How many parameters does DigitNet have with conv6, 3x3, 128 to 64, before its scores?"""
    whole, new = 189_984, 128 * 64 * 9
    judge(
        answer,
        right=whole + new - 1280 + 640,
        why="conv6 brings 73,728 weights, and scores, which now sees 64 channels, loses 640.",
        hints={
            whole + new: "What about scores? It still expects 128 channels.",
            new: "That is conv6 alone. Add the rest of the network, and think of scores.",
            whole + new + 640: "Scores does not get a second set of weights: it gets a new one.",
            whole + new - 1280: "You took the old scores away. Do the new ones have no weights?",
            whole + new - 640 + 64: "There is no bias in this network.",
            whole + new - 640 + 74: "There is no bias in this network.",
            whole + 128 * 64 - 640: "That would be a 1x1 window. conv6 has 3x3.",
            whole + 64 * 9 - 640: "Each of the 64 filters has 3x3 weights for all 128 channels.",
            whole + 128 * 9 - 640: "That is a single filter. How many filters does conv6 have?",
            whole: "That is the network as it was. What does conv6 add?",
        },
        otherwise="Two layers change: conv6 is new, and scores sees other channels than before.",
        nearer="A layer has channels in times channels out times 9 for 3x3, or times 1 for 1x1.",
    )


def check_field(answer: Any) -> None:
    """How many pixels wide is what a number after conv6 sees?"""
    judge(
        answer,
        right=20,
        why="Since the pool, neighbours are 2 pixels apart, and a 3x3 window spans two steps.",
        hints={
            18: "That would be before the pool. How far apart are neighbours after it?",
            19: "A 3x3 window spans three numbers, so there are two steps between them.",
            22: "Three numbers have two gaps between them, not three.",
            24: "That would be after a second pool. How far apart are neighbours here?",
            16: "That is what a number after conv5 sees. What do its neighbours add?",
            28: "Only the average sees all of it.",
            32: "The field grows by steps; it does not double.",
            48: "Fields do not multiply. What do two more neighbours add?",
        },
        otherwise="Start from the 16 pixels after conv5, and think of neighbours in its maps.",
        nearer="How many pixels does each of the last two layers before it add?",
    )
