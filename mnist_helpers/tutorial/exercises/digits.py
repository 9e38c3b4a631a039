"""The exercises of notebook 01: judging answers, a better reader of digits, batches."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_helpers.machine.progress import announce
from mnist_helpers.tutorial.exercises.running import attempt, kind_of
from mnist_helpers.tutorial.exercises.verdicts import (
    NOT_YET,
    approve,
    correct,
    is_function,
    judge,
    judge_function,
)

HELD_BACK = 1000  # digits by which a reader's classifier is judged
LEARNED_FROM = 6000  # few enough for comparing each with each, within the time a call may take


def check_accuracy(answer: Any) -> None:
    """Write `accuracy(predictions, labels)`: which fraction of the predictions is right?"""
    pairs = [
        ([7, 2, 1, 0, 4], [7, 2, 1, 0, 9]),
        ([1, 1, 1, 1], [2, 1, 3, 4]),
        ([3, 8, 5], [5, 3, 8]),
        ([8, 6], [8, 6]),
        ([7, 7, 0, 9, 4, 6, 1, 2], [7, 1, 0, 4, 9, 6, 1, 2]),
    ]
    judge_function(
        answer,
        right=_accuracy,
        cases=[(torch.tensor(predictions), torch.tensor(labels)) for predictions, labels in pairs],
        why="The mean of ones and zeros is the fraction of ones: that is all an accuracy is.",
        mistakes={
            "You count the right ones. Of how many?": lambda p, y: (p == y).sum(),
            "That is per cent; a fraction runs from 0 to 1.": lambda p, y: 100 * _accuracy(p, y),
            "That is the fraction of wrong ones.": lambda p, y: 1 - _accuracy(p, y),
            "You say for each prediction whether it is right. Now sum that up in one number.": (
                lambda p, y: p == y
            ),
            "All or nothing: `//` and int() cut off what comes after the point, and .all() asks "
            "whether every single one is right.": lambda p, y: (p == y).all(),
            "A fraction that is rounded to a whole number is lost.": (
                lambda p, y: torch.round(_accuracy(p, y))
            ),
            "Divide by how many there are this time, not always by 10,000.": (
                lambda p, y: (p == y).sum() / 10_000
            ),
            "Ten is the number of kinds of digits. How many predictions are there?": (
                lambda p, y: (p == y).sum() / 10
            ),
            "A 7 taken for a 1 is no worse than one taken for a 6: right or wrong, no more.": (
                lambda p, y: (p - y).abs().float().mean()
            ),
        },
        nearer="`predictions == labels` has a True for each right one, and True counts as 1.",
    )


def _accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    return (predictions == labels).float().mean()


def check_classifier(answer: Any, images: Tensor, labels: Tensor) -> None:
    """Write `classify(images, labels, new)`, and beat nearest mean.

    It learns from some of these digits, and is judged by others, which it doesn't get to see.
    """
    if not is_function(answer):
        return
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    order = torch.tensor(np.random.RandomState(1).permutation(len(images)))
    held = min(HELD_BACK, len(images) // 4)
    new, truth = images[order[:held]], labels[order[:held]]
    known = order[held : held + LEARNED_FROM]
    value, trouble = attempt(answer, images[known], labels[known], new)
    if not trouble and (value is None or value is ...):
        announce(f"{NOT_YET} Your function returns nothing so far.")
        return
    hint, praise = trouble, ""
    if not hint:
        answers, hint = _as_answers(value, held)
        if not hint:
            mark = _nearest_mean(images[known], labels[known], new)
            hint, praise = _compare(answers, mark, truth)
    if hint:
        correct("beat the mark", hint, NEARER)
    else:
        approve(praise)


NEARER = (
    "(An idea: one mean for all 7s, with a bar and without, upright and leaning, fits none of "
    "them well. What if you compared with more pictures than ten?)"
)


def _as_answers(value: Any, count: int) -> tuple[Tensor, str]:
    """Return a function's result as whole numbers; or, in a sentence, why it can't be that."""
    nothing = torch.zeros(0)
    try:
        answers = torch.as_tensor(value).cpu()
        if answers.dtype == torch.bool or answers.is_complex():
            raise TypeError
    except Exception:  # a result may be any object, and its methods may raise anything
        return nothing, f"Return a tensor with a digit for each new one, not a {kind_of(value)}."
    shape = tuple(answers.shape)
    if shape == (count, 10):
        return nothing, "Those are ten numbers for each new digit. Which of the ten is smallest?"
    if shape != (count,):
        return nothing, f"There are {count:,} new digits; your answers have the shape {shape}."
    if not bool(((answers >= 0) & (answers <= 9) & (answers == answers.round())).all()):
        return nothing, (
            "An answer is a whole number from 0 to 9. Are these places in a list, or distances, "
            "where `labels[...]` or `.argmin(dim=1)` would make digits of them?"
        )
    return answers.long(), ""


def _nearest_mean(images: Tensor, labels: Tensor, new: Tensor, pick: str = "argmin") -> Tensor:
    means = torch.stack([images[labels == digit].mean(dim=0) for digit in range(10)])
    choose: Callable[..., Tensor] = getattr(torch, pick)
    return choose(torch.cdist(new.flatten(1), means.flatten(1)), dim=1)


def _compare(answers: Tensor, mark: Tensor, truth: Tensor) -> tuple[str, str]:
    """Return a hint; or none, and what to say of answers that are better than the mark's."""
    ours, theirs = answers == truth, mark == truth
    score, limit = float(ours.float().mean()), float(theirs.float().mean())
    board = f"Your reader: {score:.1%} of {len(truth):,} held-back digits. The mark: {limit:.1%}."
    if answers.min() == answers.max():
        return f"{board} It says {int(answers[0])} to everything.", ""
    if bool((answers == mark).all()):
        return f"{board} All answers are those of nearest mean: your change changes nothing.", ""
    if score < 0.05:
        return f"{board} Worse than guessing! Do you pick the farthest, not the nearest?", ""
    if score < 0.2:
        return f"{board} That is hardly more than guessing: are images and labels in step?", ""
    better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if better <= worse:
        return f"{board} A result like any other: this idea doesn't help. What is the next one?", ""
    if better - worse <= 2 * math.sqrt(better + worse):
        return (
            f"{board} Better! But it won {better} digits and lost {worse} others, and luck alone "
            "can do that. Look for a clearer lead."
        ), ""
    return "", f"{board} You lead by {100 * (score - limit):.1f} points, more than luck explains."


def check_batches(answer: Any) -> None:
    """How many batches of 64 does an epoch over 60,000 images have?"""
    judge(
        answer,
        right=938,
        why="937 full ones, and a last one of 32 digits: nobody is left out.",
        hints={
            937: "And the digits that are left after 937 full batches?",
            937.5: "There are no half batches. What happens to the last digits?",
            60_000 * 64: "A batch takes 64 of the 60,000 digits: divide.",
            64: "That is the size of a batch. How many of them are there?",
            60_000: "That would be batches of a single digit.",
        },
        otherwise="How many times do 64 digits go into 60,000?",
        nearer="Divide, and think of what is left over: it makes a smaller batch.",
    )
