"""The exercises of notebook 01: judging answers, a better reader of digits, batches."""

import functools
import itertools
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
    is_right,
    judge_function,
)

HELD_BACK = 1000  # digits by which a reader's classifier is judged
LEARNED_FROM = 6000  # few enough for comparing each with each, within the time a call may take
ANSWERS = [  # predictions and labels, to try an accuracy on
    (torch.tensor(predictions), torch.tensor(labels))
    for predictions, labels in [
        ([7, 2, 1, 0, 4], [7, 2, 1, 0, 9]),
        ([1, 1, 1, 1], [2, 1, 3, 4]),
        ([3, 8, 5], [5, 3, 8]),
        ([8, 6], [8, 6]),
        ([7, 7, 0, 9, 4, 6, 1, 2], [7, 1, 0, 4, 9, 6, 1, 2]),
    ]
]


def check_accuracy(answer: Any) -> None:
    """Write `accuracy(predictions, labels)`: which fraction of the predictions is right?"""
    judge_function(
        answer,
        right=_accuracy,
        cases=ANSWERS,
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


def yours_or_ours(answer: Any) -> Callable[[Tensor, Tensor], Any]:
    """Return the reader's accuracy, or ours as long as theirs isn't right."""
    return answer if is_right(answer, _accuracy, ANSWERS) else _accuracy


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
    """Write `batches(images, labels, size)`: an epoch in shuffled batches, as DataLoader does."""
    if not is_function(answer):
        return
    why = "Every digit once, with its own label, in a new order each time. That is an epoch."
    for count, size in ((50, 16), (50, 16), (40, 8)):
        labels = torch.arange(count) * 3 % 10
        images = torch.arange(count).float().reshape(count, 1, 1).expand(count, 2, 2)
        orders = []
        for _ in range(2):
            found, trouble = attempt(answer, images.clone(), labels, size)
            if not trouble and (found is None or found is ...):
                announce(f"{NOT_YET} Your function returns nothing so far.")
                return
            if not trouble:
                found, trouble = _all_of(found)
            if hint := trouble or _fault_of_batches(found, labels, size):
                correct(why, f"{hint} That was with {count} images, size = {size}.", CUT)
                return
            orders.append(torch.cat([torch.as_tensor(batch[0])[:, 0, 0] for batch in found]))
        if torch.equal(*orders):
            correct(why, "The order is the same each time. Every epoch needs a new one.", CUT)
            return
    approve(why)


CUT = (
    "Draw `order = torch.randperm(len(labels))` first. Then take `order[start : start + size]` "
    "for every start in `range(0, len(labels), size)`, and use it on both."
)


def _all_of(found: Any) -> tuple[list[Any], str]:
    """Return what a list or a generator holds; of one without end only the beginning."""
    try:
        take: Callable[[], Any] = functools.partial(list, itertools.islice(found, 1000))
    except Exception:  # a result may be any object, and its methods may raise anything
        return (
            [],
            f"Return a list of batches, or yield them one by one; this is a {kind_of(found)}.",
        )
    values, trouble = attempt(take)  # a generator's code runs only now
    return values or [], trouble


def _fault_of_batches(found: list[Any], labels: Tensor, size: int) -> str:
    """Return the hint for what is wrong with the batches of an epoch; "" if nothing is."""
    try:
        if len(found) == 2 and torch.as_tensor(found[0]).shape == (size, 2, 2):
            return "That is only the first batch: `return` ends a function. Use `yield`, or a list."
        pairs = [tuple(torch.as_tensor(part) for part in batch) for batch in found]
        ids = [int(place) for batch, _ in pairs for place in batch.reshape(-1, 2, 2)[:, 0, 0]]
        fits = all(batch.shape == (len(y), 2, 2) and y.ndim == 1 for batch, y in pairs)
    except Exception:  # a result may be any object, and its methods may raise anything
        fits = False
    if not fits:
        return "Each batch is two things: some images, and as many labels."
    sizes, count = [len(y) for _, y in pairs], len(labels)
    rest = count % size
    if sizes == [size] * (count // size) and rest:
        return f"The last {rest} digits are left out. They make a smaller batch."
    if sizes != [size] * (count // size) + [rest] * (rest > 0):
        return f"Your batches have the sizes {', '.join(map(str, sizes[:6])) or 'of nothing'}."
    if sorted(ids) != list(range(count)):
        return "Some digits come twice, and others not at all. Shuffle the places; don't draw them."
    answers = torch.cat([y for _, y in pairs])
    if ids == list(range(count)):
        only = not torch.equal(answers, labels)
        return "Only the labels are shuffled." if only else "Well cut, but nothing is shuffled."
    if torch.equal(answers, labels):
        return "Only the images are shuffled; the labels stay where they were."
    if not torch.equal(answers, labels[ids]):
        return "Both are shuffled, but each in an order of its own, so the pairs are torn apart."
    return ""
