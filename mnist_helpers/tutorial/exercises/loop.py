"""The exercises of notebook 03: momentum, a training step, learning rates, broken loops."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mnist_helpers.machine.progress import announce
from mnist_helpers.tutorial.exercises.running import attempt, kind_of
from mnist_helpers.tutorial.exercises.verdicts import (
    NOT_YET,
    approve,
    correct,
    is_function,
    judge_function,
    same_numbers,
)

ROOM = 1.5  # a learning rate is the largest if this many times as much does not survive


# Where a walk starts, the slope of its valley there, lr, momentum and the number of steps.
WALKS = [(-4.0, lambda w: 2 * w, 0.1, 0.5, 4), (1.0, math.sin, 0.3, 0.8, 3)]


def _walk(
    w: float, gradient_at: Callable[[float], float], lr: float, momentum: float, steps: int,
    factors: Callable[[float, float], tuple[float, float, float]] = lambda lr, m: (m, 1, lr),
) -> list[float]:  # fmt: skip
    """Walk downhill; `factors` say what the velocity keeps, how it takes the gradient, the step."""
    path, velocity = [w], 0.0
    keep, take, step = factors(lr, momentum)
    for _ in range(steps):
        velocity = keep * velocity + take * gradient_at(w)
        w = w - step * velocity
        path.append(w)
    return path


WRONG_FACTORS: dict[str, Callable[[float, float], tuple[float, float, float]]] = {
    "You walk uphill. Which sign does the step have?": lambda lr, m: (m, 1, -lr),
    "Your velocity never forgets anything. How much of itself should it keep?":
        lambda lr, m: (1, 1, lr),
    "You keep 0.9 of the velocity, whatever `momentum` says.": lambda lr, m: (0.9, 1, lr),
    "Your w never moves. Is the gradient added to the velocity?": lambda lr, m: (m, 0, lr),
    "Momentum fades the new gradient as well. Only the old velocity should fade.":
        lambda lr, m: (m, m, lr),
    "That is an average of the gradients. Here the new one counts in full.":
        lambda lr, m: (m, 1 - m, lr),
    "The learning rate counts twice: in the velocity and again in the step.":
        lambda lr, m: (m, lr, lr),
    "The learning rate is missing: a step is lr times the velocity.": lambda lr, m: (m, 1, 1),
}  # fmt: skip


def check_momentum(answer: Any) -> None:
    """Turn plain steps downhill into steps with momentum."""
    if not is_function(answer):
        return
    value, trouble = attempt(answer, *WALKS[0])
    if not trouble and _alike(value, _walk(*WALKS[0], factors=lambda lr, m: (0, 1, lr))):
        announce(f"{NOT_YET} These are plain steps: no velocity lasts from one to the next.")
        return
    mistakes: dict[str, Callable[..., Any]] = {
        hint: partial(_walk, factors=factors) for hint, factors in WRONG_FACTORS.items()
    }
    mistakes["The gradient changes on the way: ask for it where w is now."] = (
        lambda w, gradient_at, *others: _walk(w, lambda _: gradient_at(w), *others)
    )
    mistakes["The path should begin with the start."] = lambda *case: _walk(*case)[1:]
    judge_function(
        answer, _walk, WALKS,
        why="The velocity fades, takes the new gradient, and moves w: momentum in two lines.",
        mistakes=mistakes,
        nearer="First velocity = momentum * velocity + gradient, then w = w - lr * velocity.",
    )  # fmt: skip


class Pupil(nn.Sequential):
    """A small network that notes what is done to it; copies are the network itself."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(4, 3))
        self.log: list[str] = []
        next(self.parameters()).register_hook(self._note_backward)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: Any) -> "Pupil":
        return self

    def forward(self, images: Tensor) -> Any:
        """Give scores, and note it."""
        self.log.append("predict")
        return super().forward(images)  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget, and note it."""
        self.log.append("forget")
        super().zero_grad(set_to_none)

    def _note_backward(self, _: Tensor) -> None:
        self.log.append("ask")


class NotedSGD(torch.optim.SGD):
    """An optimizer that notes what is done with it; copies are the optimizer itself."""

    def __init__(self, pupil: Pupil) -> None:
        super().__init__(pupil.parameters(), lr=0.5, momentum=0.9)
        self.log = pupil.log

    def __deepcopy__(self, memo: Any) -> "NotedSGD":
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget, and note it."""
        self.log.append("forget")
        super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        """Move the weights, and note it."""
        self.log.append("step")
        return super().step(closure)


def _three_steps(function: Any) -> tuple[Pupil, Tensor, list[Any], str]:
    """Let a training step run three times; return network, start, what it returned, trouble."""
    random = torch.Generator().manual_seed(1)
    pupil = Pupil()
    results: list[Any] = []
    with torch.no_grad():
        for weights in pupil.parameters():
            weights.copy_(torch.randn(weights.shape, generator=random))
    before, optimizer = _weights_of(pupil), NotedSGD(pupil)
    for _ in range(3):
        images = torch.randn((6, 1, 2, 2), generator=random)
        labels = torch.tensor([0, 1, 2, 0, 1, 1])
        arguments = pupil, images, labels, nn.CrossEntropyLoss(), optimizer
        value, trouble = attempt(function, *arguments)
        if trouble:
            return pupil, before, results, trouble
        results.append(value)
    return pupil, before, results, ""


def _weights_of(network: nn.Module) -> Tensor:
    return torch.cat([weights.detach().flatten() for weights in network.parameters()])


def _good_step(
    model: nn.Module, images: Tensor, labels: Tensor, loss_fn: Any, optimizer: Any,
    before: Callable[[Tensor], Tensor] = lambda scores: scores,
) -> Tensor:  # fmt: skip
    loss: Tensor = loss_fn(before(model(images)), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def check_train_step(answer: Any) -> None:
    """Write a training step: predict and measure, forget, go backward, step."""
    if not is_function(answer):
        return
    why = "Predict, measure, forget, go backward, step: that trains nearly every network there is."
    nearer = "You need, in this order: the loss, zero_grad(), backward(), step()."
    pupil, before, results, trouble = _three_steps(answer)
    moved = not torch.equal(_weights_of(pupil), before)
    if trouble:
        correct(why, trouble, nearer)
    elif not pupil.log and all(value is None or value is ... for value in results):
        announce(f"{NOT_YET} Your function does nothing so far.")
    elif hint := _fault_of_step(pupil, results, moved):
        correct(why, hint, nearer)
    else:
        approve(why)


def working_step(answer: Any) -> Callable[..., float]:
    """Return the reader's step if it is right, else the notebook's; it gives a plain number."""
    pupil, before, results, trouble = _three_steps(answer)
    moved = not torch.equal(_weights_of(pupil), before)
    if trouble or _fault_of_step(pupil, results, moved):
        announce("Exercise 1 is still open, so the five lines from above fill in.")
        answer = _good_step
    else:
        announce("From here on, every step is taken by your own train_step.")
    return lambda *arguments: torch.as_tensor(answer(*arguments)).item()


def _fault_of_step(pupil: Pupil, results: list[Any], moved: bool) -> str:
    """Return the hint for what a training step does wrong; "" if it does all of it right."""
    ideal, _, losses, _ = _three_steps(_good_step)
    soft, _, _, _ = _three_steps(partial(_good_step, before=lambda z: z.softmax(dim=1)))
    weights, log = _weights_of(pupil), pupil.log
    is_right = _alike(weights, _weights_of(ideal))
    if is_right and all(map(_alike, results, losses)):
        return ""
    if "predict" not in log:
        return "The images never go through the network. Call model(images) first."
    if "ask" not in log:
        return "Nobody asks for gradients, so the optimizer does not know where to go."
    if "step" not in log:
        return "The gradients are there, but no weight moves. Which of the five words is missing?"
    if "forget" not in log:
        return "It works once. From the second batch on, old gradients are still in there."
    if log.index("step") < log.index("ask"):
        return "You step before you ask where to go. Look at the order of the last two."
    if not moved:
        return "You forget the gradients between finding and using them, so no weight moves."
    if _alike(weights, _weights_of(soft)):
        return "You apply a softmax, and loss_fn applies another. Give it the plain scores."
    if is_right:
        return _fault_of_result(results)
    return "The weights move, but not as one step of the optimizer on this batch would move them."


def _fault_of_result(results: list[Any]) -> str:
    if all(value is None or value is ... for value in results):
        return "It learns as it should, but it returns nothing. The caller wants the loss."
    return "It learns as it should, but what it returns is not the loss of this batch."


def _alike(value: Any, expected: Any) -> bool:
    try:
        return same_numbers(value, expected)
    except Exception:  # a result may be any object, and its methods may raise anything
        return False


def check_largest_rate(answer: Any, losses_at: Any) -> None:
    """Find the largest learning rate that survives on a batch; `losses_at` gives its losses."""
    why = "Half as much again is too much: you are at the edge. Real training keeps off it."
    nearer = "Take the middle between a rate that survives and one that does not, and repeat."
    if answer is ...:
        announce(NOT_YET)
        return
    try:
        rate = math.nan if isinstance(answer, bool | str | bytes) else float(answer)
    except Exception:  # an answer may be any object, and its methods may raise anything
        rate = math.nan
    if 0 < rate < math.inf:
        try:
            hint = _fault_of_rate(rate, losses_at)
        except Exception as error:  # the notebook's function may have been rewritten
            hint = f"losses_at({rate:g}) stopped with {kind_of(error)}; run its cell again."
    else:
        hint = "A learning rate is a number above 0, such as 0.003."
    if hint:
        correct(why, hint, nearer)
    else:
        approve(why)


def _fault_of_rate(rate: float, losses_at: Callable[[float], Sequence[float]]) -> str:
    if not _survives(losses := losses_at(rate)):
        return f"{rate:g} does not survive: the loss climbs to {max(losses):.1f}. Go down."
    if _survives(losses_at(ROOM * rate)):
        return f"{rate:g} survives, but so does {ROOM * rate:g}. Be bolder."
    return ""


def _survives(losses: Sequence[float]) -> bool:
    """Return whether a loss never climbs above where it started, and stays a number."""
    return all(loss <= losses[0] for loss in losses)


def check_diagnosis(answer: Any) -> None:
    """Say which of three curves belongs to which of three faults."""
    right = {"A": "labels", "B": "gradients", "C": "softmax"}
    clues = {
        "A": "loop A never gets away from 2.30. What makes it impossible to learn anything?",
        "B": "loop B sets off well, then goes wild. What piles up with every step?",
        "C": "loop C learns smoothly but stops far too high. What squeezes its answers?",
    }
    if not issubclass(type(answer), dict):
        announce(NOT_YET if answer is ... else "Your diagnosis must be a dictionary.")
        return
    said = {letter: answer.get(letter, ...) for letter in right}
    if any(fault is ... for fault in said.values()):
        announce(NOT_YET)
        return
    words = {letter: _word(fault) for letter, fault in said.items()}
    why = "Now you can read three of the most frequent faults off a curve."
    wrong = [letter for letter in right if words[letter] != right[letter]]
    unknown = [letter for letter in right if words[letter] not in right.values()]
    if unknown:
        correct(why, f"For {unknown[0]} choose one of: gradients, softmax, labels.")
    elif wrong:
        count = len(right) - len(wrong)
        hint = f"{count} of 3 are right. Look again: {clues[wrong[0]]}"
        nearer = "The numbers help: 2.30 is ln 10, and a softmax twice can't get below 1.46."
        correct(why, hint, nearer)
    else:
        approve(why)


def _word(fault: Any) -> str:
    return str(fault).strip().lower() if issubclass(type(fault), str) else ""


def check_shuffle(answer: Any) -> None:
    """Mend a function that shuffles labels apart from their images."""
    if not is_function(answer):
        return
    why = "One order for both, so every image keeps its label."
    nearer = "Draw torch.randperm once, and use it twice."
    results = []
    for count in (40, 41):
        labels = torch.arange(count) % 10
        images = torch.arange(count).float().reshape(count, 1, 1, 1).expand(count, 1, 2, 2)
        value, trouble = attempt(answer, images.clone(), labels)
        if trouble:
            correct(why, f"{trouble} That was with {count} images.", nearer)
            return
        results.append((value, images, labels))
    if all(value is None or value is ... for value, _, _ in results):
        announce(f"{NOT_YET} Your function returns nothing so far.")
        return
    hint = next((hint for result in results if (hint := _fault_of_shuffle(*result))), "")
    if hint:
        correct(why, hint, nearer)
    else:
        approve(why)


def _fault_of_shuffle(value: Any, images: Tensor, labels: Tensor) -> str:
    """Return the hint for what a shuffle does wrong; "" if it does all of it right."""
    try:
        shuffled, of_them = value
        shuffled, of_them = torch.as_tensor(shuffled), torch.as_tensor(of_them)
        fits = shuffled.shape[1:] == images.shape[1:] and of_them.ndim == 1
    except Exception:  # a result may be any object, and its methods may raise anything
        fits = False
    if not fits:
        return "Return two things, images and labels, in the shapes they came in."
    places = shuffled[:, 0, 0, 0].long()  # each image holds its own place
    if len(places) != len(images) or len(of_them) != len(labels):
        return f"Of {len(images)} images and labels, {len(places)} and {len(of_them)} come back."
    if not torch.equal(places.sort().values, torch.arange(len(images))):
        return "Some images come back twice, and others not at all. Each place belongs in once."
    if torch.equal(places, torch.arange(len(images))):
        kept = torch.equal(of_them, labels)
        return "The images are not shuffled at all." if kept else "Only the labels are shuffled."
    if torch.equal(of_them, labels):
        return "Only the images are shuffled; the labels stay where they were."
    if torch.equal(of_them, labels[places]):
        return ""
    return "Both are shuffled, but each in an order of its own, so the pairs are torn apart."
