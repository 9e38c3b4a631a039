"""The exercises of notebook 05: a map of votes, a push into another class, reliability."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mnist_helpers.tutorial.exercises.verdicts import is_right, judge_function


def class_map(features: Any, weights: Any, digit: int) -> Any:
    """Return where in the picture there is evidence for a digit."""
    return (features * weights[digit][:, None, None]).sum(0)


def push(image: Any, gradient: Any, epsilon: float) -> Any:
    """Move each pixel by epsilon in the direction that raises the loss."""
    return (image + epsilon * gradient.sign()).clamp(0, 1)


def reliability(confidence: Any, correct: Any, low: float, high: float) -> Any:
    """Return mean confidence and accuracy of the answers between two confidences."""
    chosen = (confidence > low) & (confidence <= high)
    return torch.stack([confidence[chosen].mean(), correct[chosen].float().mean()])


def _random(*shape: int, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# As many channels as digits, so that a wrong choice of axis is a wrong answer and no error.
_MAP_CASES: list[tuple[Any, ...]] = [
    (_random(10, 3, 4, seed=1), _random(10, 10, seed=2) - 0.5, 3),
    (_random(10, 7, 7, seed=3), _random(10, 10, seed=4) - 0.5, 8),
]
_PIXELS = torch.tensor([[0.0, 0.1, 0.5, 1.0], [1.0, 0.8, 0.05, 0.0]])
_SLOPES = torch.tensor([[-2.0, 0.02, 0.3, 0.001], [-0.5, -3.0, 0.0, 0.7]])
_PUSH_CASES: list[tuple[Any, ...]] = [
    (_PIXELS, _SLOPES, 0.1),
    (_random(28, 28, seed=5), _random(28, 28, seed=6) - 0.5, 0.25),
]
_SURE = torch.tensor([0.55, 0.95, 0.72, 0.8, 0.91, 0.78, 0.99, 0.75, 0.9])
_FINE = torch.tensor([False, True, True, True, True, False, True, False, False])
_RELIABILITY_CASES: list[tuple[Any, ...]] = [(_SURE, _FINE, 0.7, 0.8), (_SURE, _FINE, 0.8, 0.95)]


def class_map_of(answer: Any) -> Any:
    """Return the reader's `class_map` once it is right, else ours."""
    return answer if is_right(answer, class_map, _MAP_CASES) else class_map


def push_of(answer: Any) -> Any:
    """Return the reader's `push` once it is right, else ours."""
    return answer if is_right(answer, push, _PUSH_CASES) else push


def reliability_of(answer: Any) -> Any:
    """Return the reader's `reliability` once it is right, else ours."""
    return answer if is_right(answer, reliability, _RELIABILITY_CASES) else reliability


def _all_ten(features: Any, weights: Any, digit: int) -> Any:
    return (weights[:, :, None, None] * features).sum(1)


def _scaled(factor: float) -> Callable[..., Any]:
    return lambda features, weights, digit: factor * class_map(features, weights, digit)


def check_class_map(answer: Any) -> None:
    """Write the map of votes for one digit, from features and weights."""
    judge_function(
        answer,
        class_map,
        _MAP_CASES,
        "Ten such maps are exactly what the last convolution computes: a 1x1 convolution is this "
        "sum at every place.",
        {
            "That adds up all channels as they are. Each has its own weight in this vote.":
                lambda f, w, d: f.sum(0),
            "Those are the channels of one digit, weighted, but not added up yet.":
                lambda f, w, d: f * w[d][:, None, None],
            "Those are the maps of all ten digits. Which one was asked for?": _all_ten,
            "You took a column of the weights: what one channel says about all ten digits. Take "
            "the row of the digit.": lambda f, w, d: class_map(f, w.T, d),
            "That is the mean over the channels. The votes are added up.": _scaled(0.1),
            "One number: that is the logit already, the mean over all places. Keep the places.":
                lambda f, w, d: class_map(f, w, d).mean(),
            "You added up the places as well. Keep them: the map has rows and columns.":
                lambda f, w, d: class_map(f, w, d).sum(),
            "Votes against the digit are missing: yours has no negative numbers. Leave out the "
            "ReLU.": lambda f, w, d: class_map(f, w, d).relu(),
            "One weight for all channels? `weights[digit]` has one for each.":
                lambda f, w, d: w[d][0] * f.sum(0),
            "Your map is turned: its rows are columns.": lambda f, w, d: class_map(f, w, d).T,
        },
        nearer="A loop will do: start from 0, and for each channel add its weight in "
        "`weights[digit]` times its map.",
    )  # fmt: skip


def check_push(answer: Any) -> None:
    """Write the step of FGSM: by epsilon along the sign of the gradient, within 0 and 1."""
    judge_function(
        answer,
        push,
        _PUSH_CASES,
        "Every pixel that matters at all goes as far as it may. That is the whole attack.",
        {
            "You used the gradient itself, and most of its numbers are tiny. Use only its sign.":
                lambda i, g, e: (i + e * g).clamp(0, 1),
            "That goes downhill: it makes the network surer of the right answer. The loss should "
            "rise.": lambda i, g, e: (i - e * g.sign()).clamp(0, 1),
            "Some of your pixels are lighter than paper or darker than ink. Keep them between 0 "
            "and 1.": lambda i, g, e: i + e * g.sign(),
            "Only the change. Add the picture to it.": lambda i, g, e: e * g.sign(),
            "Every pixel moves by 1. It should move by epsilon.":
                lambda i, g, e: (i + g.sign()).clamp(0, 1),
            "You scaled the gradient by its largest number, so only one pixel goes all the way. "
            "With the sign, all of them do.":
                lambda i, g, e: (i + e * g / g.abs().max()).clamp(0, 1),
            "That is the gradient scaled to length 1: nearly all pixels hardly move. Use the sign "
            "of each number.": lambda i, g, e: (i + e * g / g.norm()).clamp(0, 1),
            "Every pixel gets more ink, whatever its gradient. Some have to get lighter.":
                lambda i, g, e: (i + e).clamp(0, 1),
            "You limited the change before you added it: the sum still leaves 0 to 1.":
                lambda i, g, e: i + (e * g.sign()).clamp(0, 1),
            "It lets pixels go below 0: 0 is paper.":
                lambda i, g, e: (i + e * g.sign()).clamp(-1, 1),
        },
        nearer="Three steps: the sign of the gradient, times epsilon, added to the image; then "
        "`.clamp(0, 1)`.",
    )  # fmt: skip


def _of_bin(inside: Callable[..., Any]) -> Callable[..., Any]:
    """Return a reliability that chooses the answers of a bin in another way."""

    def function(confidence: Any, correct: Any, low: float, high: float) -> Any:
        chosen = inside(confidence, low, high)
        return torch.stack([confidence[chosen].mean(), correct[chosen].float().mean()])

    return function


def _right_ones_only(confidence: Any, correct: Any, low: float, high: float) -> Any:
    fine = reliability(confidence, correct, low, high)[1]
    chosen = (confidence > low) & (confidence <= high) & correct
    return torch.stack([confidence[chosen].mean(), fine])


def _shares(confidence: Any, correct: Any, low: float, high: float) -> Any:
    chosen = (confidence > low) & (confidence <= high)
    return torch.stack([confidence[chosen].mean(), (chosen & correct).float().mean()])


def _counted(confidence: Any, correct: Any, low: float, high: float) -> Any:
    chosen = (confidence > low) & (confidence <= high)
    return torch.stack([confidence[chosen].mean(), (chosen & correct).sum().float()])


def _middle(confidence: Any, correct: Any, low: float, high: float) -> Any:
    fine = reliability(confidence, correct, low, high)[1]
    return torch.stack([torch.tensor((low + high) / 2), fine])


def check_reliability(answer: Any) -> None:
    """Write mean confidence and accuracy of the answers in one bin."""
    judge_function(
        answer,
        reliability,
        _RELIABILITY_CASES,
        "If the two are equal in every bin, the network's percentages mean what they say.",
        {
            "The other way round: first the mean confidence, then the accuracy.":
                lambda *case: reliability(*case).flip(0),
            "Those are the figures of all answers. Choose those of the bin first.":
                _of_bin(lambda c, low, high: c >= 0),
            "Your bin has no upper end.": _of_bin(lambda c, low, high: c > low),
            "Your bin has no lower end.": _of_bin(lambda c, low, high: c <= high),
            "An answer exactly at `high` belongs to the bin, and one exactly at `low` to the bin "
            "below.": _of_bin(lambda c, low, high: (c >= low) & (c < high)),
            "An answer exactly at `high` belongs to the bin.":
                _of_bin(lambda c, low, high: (c > low) & (c < high)),
            "An answer exactly at `low` belongs to the bin below, or it would count twice.":
                _of_bin(lambda c, low, high: (c >= low) & (c <= high)),
            "Your confidence is the mean of the right answers only. Take all in the bin.":
                _right_ones_only,
            "Your accuracy divides by all answers. Divide by those in the bin.": _shares,
            "You counted the right answers. An accuracy is their share of the bin.": _counted,
            "The middle of the bin is only near the mean confidence. Take the mean.": _middle,
        },
        nearer="`chosen = (confidence > low) & (confidence <= high)` picks the answers; then two "
        "means over them.",
    )  # fmt: skip
