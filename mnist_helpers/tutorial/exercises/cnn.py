"""The exercises of notebook 02: a filter, sizes, a network, and a deeper one."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnist_helpers.machine.progress import announce
from mnist_helpers.tutorial.exercises.running import attempt, kind_of
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


class DigitNet(nn.Module):
    """The network that the notebook writes; it takes images of any size, not only of 28x28."""

    names: tuple[str, ...] = ("squeeze", "conv4", "conv5")  # between the pool and the scores

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, bias=False)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.conv3 = nn.Conv2d(64, 128, 3, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.squeeze = nn.Conv2d(128, 32, 1, bias=False)
        self.conv4 = nn.Conv2d(32, 64, 3, bias=False)
        self.conv5 = nn.Conv2d(64, 128, 3, bias=False)
        self.scores = nn.Conv2d(128, 10, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 10) of images (N, 1, height, width)."""
        return self.maps(x).mean(dim=(2, 3))

    def maps(self, x: Tensor, linear: str = "", pool: bool = True) -> Tensor:
        """Return the ten maps of votes; without ReLU after one layer, or without the pool."""
        x = self.conv3(self.conv2(self.conv1(x).relu()).relu())
        x = (self.pool(x) if pool else x).relu()
        for name in self.names:
            x = getattr(self, name)(x)
            x = x if name == linear else x.relu()
        votes: Tensor = self.scores(x)
        return votes


class DeeperNet(DigitNet):
    """The same with one more layer."""

    names = (*DigitNet.names, "conv6")

    def __init__(self) -> None:
        super().__init__()
        self.conv6 = nn.Conv2d(128, 64, 3, bias=False)
        self.scores = nn.Conv2d(64, 10, 1, bias=False)


def yours_or_ours(answer: Any) -> Any:
    """Return the reader's `DigitNet`, or ours as long as theirs isn't right."""
    waits, hint = _what_is_wrong_with_network(answer, DigitNet)
    return DigitNet if waits or hint else answer


def check_network(answer: Any) -> None:
    """Complete the class `DigitNet`."""
    _judge_network(answer, DigitNet, "Its ten scores are those of our own network.")


def check_deeper(answer: Any) -> None:
    """Write the class `DeeperNet`: `DigitNet` with conv6, 3x3, 128 to 64, before its scores."""
    _judge_network(answer, DeeperNet, "Six convolutions of 3x3, and a ReLU after each of them.")


def _judge_network(answer: Any, ours: type[DigitNet], why: str) -> None:
    waits, hint = _what_is_wrong_with_network(answer, ours)
    if waits:
        announce(NOT_YET)
    elif hint:
        nearer = "Write the shape behind each line of forward, as in the lines above yours."
        correct(why, hint, nearer)
    else:
        approve(why)


def _what_is_wrong_with_network(answer: Any, ours: type[DigitNet]) -> tuple[bool, str]:
    """Return whether there is no answer yet, and otherwise the hint for a class; "" if none."""
    if answer is ...:
        return True, ""
    if not issubclass(type(answer), type):  # isinstance believes what an object says of itself
        return False, f"This takes the class itself, {ours.__name__}, not a {kind_of(answer)}."
    images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    net, trouble = attempt(answer)
    if trouble or not isinstance(net, nn.Module):
        return False, _of_network(trouble) or "Write class NAME(nn.Module): the brackets matter."
    reference = ours()
    scores, trouble = attempt(net.forward, images)  # not net(images), which hides the line
    if not trouble and (scores is None or scores is ...):
        return True, ""
    hint = _wrong_layers(net, reference) or _of_network(trouble)
    for count, side in () if hint else ((2, 28), (1, 44)):
        images = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            scores, trouble = attempt(net.forward, images)
            hint = hint or _of_network(trouble) or _wrong_scores(scores, reference, images)
    return False, hint


def _of_network(trouble: str) -> str:
    return trouble.replace("Your function", "Your network")


def _wrong_layers(net: nn.Module, reference: DigitNet) -> str:
    """Return a hint on layers of a network; "" if all are there, which then get good weights."""
    weights = net.state_dict()
    for name, layer in reference.named_modules():
        theirs = getattr(net, name, None) if name else net
        if isinstance(layer, nn.Conv2d):
            if not isinstance(theirs, nn.Conv2d):
                return f"{name} is not a convolution yet: it is a {kind_of(theirs)}."
            if theirs.bias is not None:
                return f"{name} has a bias. Here every layer is made with bias=False."
            got, wanted = tuple(theirs.weight.shape), tuple(layer.weight.shape)
            if got != wanted:
                return (
                    f"The weights of {name} have the shape {got}; they should have {wanted}: "
                    "channels out, channels in, rows, columns."
                )
            if theirs.padding != layer.padding or theirs.stride != layer.stride:
                return f"{name} should do without padding, and move on by one pixel at a time."
            nn.init.kaiming_normal_(layer.weight)
    if extra := [name for name in weights if name not in reference.state_dict()]:
        return f"What is {extra[0]} for? This network does without it."
    net.load_state_dict(reference.state_dict())
    return ""


def _wrong_scores(scores: Any, net: DigitNet, images: Tensor) -> str:
    """Return the hint for what `forward` does wrong; "" if it does all of it right."""
    maps, count = net.maps(images), len(images)
    if not isinstance(scores, Tensor):
        return f"forward returns a {kind_of(scores)}; ten scores for each image are wanted."
    if scores.shape == maps.shape:
        return "Those are ten maps for each image. Take the mean of each map."
    if scores.shape == (count, 10, 1, 1):
        return "Nearly: the shape is (N, 10, 1, 1). .mean(dim=(2, 3)) gives (N, 10)."
    if scores.shape != (count, 10):
        return (
            f"For {count} images of {images.shape[3]}x{images.shape[3]} it returns the shape "
            f"{tuple(scores.shape)}; it should be {(count, 10)}. Which dimensions do you average?"
        )
    mistakes = {
        "There is a ReLU after the last layer, too: scores may be negative.": maps.relu(),
        "The pool is missing.": net.maps(images, pool=False),
    }
    for name in net.names:
        mistakes[f"There is no ReLU after {name}."] = net.maps(images, linear=name)
    wrong = {hint: votes.mean(dim=(2, 3)) for hint, votes in mistakes.items()}
    right = maps.mean(dim=(2, 3))
    wrong |= {
        "There is a softmax at the end. Leave the scores as they are.": right.softmax(dim=1),
        "There is a ReLU after the average. Scores may be negative.": right.relu(),
        "You take the largest vote of each map, not the mean.": maps.amax(dim=(2, 3)),
        "You add up the votes of each map. Take their mean.": maps.sum(dim=(2, 3)),
    }
    if torch.allclose(scores, right, rtol=1e-3, atol=1e-4):
        return ""
    known = (h for h, bad in wrong.items() if torch.allclose(scores, bad, rtol=1e-3, atol=1e-4))
    return next(known, "The shapes are right, the scores are not. Is every layer used just once?")
