"""One epoch of learning, and one of measuring: the loop that notebook 03 writes by hand."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm.std import tqdm

from mnist_helpers.errors import InputError, TrainingError
from mnist_helpers.model import evaluation_mode

# Far beyond normalised pixels (-0.42 to 2.82), far below raw ones (255).
MAX_PIXEL = 10.0

LossFn = Callable[[Tensor, Tensor], Tensor]


class Metrics(NamedTuple):
    """Means over samples; accuracy is a fraction from 0 to 1."""

    loss: float
    accuracy: float


class RunningMetrics:
    """Sums of loss and of right answers; they stay on the device until somebody asks."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, device=device)  # loss, right answers
        self.first_bad = torch.full((), math.inf, device=device)  # step whose loss is no number
        self.count = 0
        self.steps = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch whose mean loss is `loss`."""
        right = (logits.argmax(dim=1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), right])
        self.count += len(labels)
        self.steps += 1
        # No `if`: looking at the loss here would wait for the device at every step.
        self.first_bad.clamp_(max=torch.where(loss.isfinite(), math.inf, float(self.steps)))

    def mean(self) -> Metrics:
        """Return the means so far; on a GPU this waits for its work to be done."""
        loss, right = (self.sums / self.count).tolist()
        return Metrics(loss, right)

    def check(self, lr: float | None = None) -> Metrics:
        """Return the means so far.

        Raises
        ------
        TrainingError
            A loss was infinite or not a number; the message names the first such step.
        """
        metrics = self.mean()
        if not math.isfinite(metrics.loss):
            step = "the sum" if math.isinf(self.first_bad) else f"step {int(self.first_bad)}"
            raise TrainingError(
                f"the loss is {metrics.loss} since {step}"
                + ("" if lr is None else f" (learning rate {lr:g})")
                + ": the weights have grown beyond all bounds. Lower the learning rate (the "
                "recipe's is 0.01), and look for images that are no numbers."
            )
        return metrics


def in_training(loss: float, accuracy: float) -> str:
    """Say how training stands, as a bar shows it."""
    return f"loss {loss:.4f} train {accuracy:.2%}"


def train_one_epoch(
    model: nn.Module,
    loader: DataLoader,
    loss_fn: LossFn,
    optimizer: Optimizer,
    device: str | torch.device = "cpu",
    bar: tqdm | None = None,
) -> Metrics:
    """Show the network each training image once, and learn from every batch.

    Parameters
    ----------
    model
        On `device` already.
    loader
        Gives images (N, 1, 28, 28) and labels (N,).
    loss_fn
        Takes logits and labels, returns their mean loss.
    optimizer
        Holds the parameters of `model`.
    device
        Where the batches go.
    bar
        Is moved on by one a batch, with the running loss and accuracy behind it.

    Returns
    -------
    Metrics
        Over the epoch, each batch as the network stood just before learning from it.

    Raises
    ------
    InputError
        The loader has no batch.
    TrainingError
        The loss is infinite or not a number.
    """
    model.train()
    running = RunningMetrics(torch.device(device))
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = model(images)
        loss = loss_fn(logits, labels)
        loss.backward()
        optimizer.step()
        running.add(loss, logits, labels)
        if bar is not None and bar.update(1):  # true when it has just been drawn
            bar.set_postfix_str(in_training(*running.check(_lr(optimizer))), refresh=False)
    return _not_empty(running, "training").check(_lr(optimizer))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: DataLoader,
    loss_fn: LossFn | None = None,
    device: str | torch.device = "cpu",
) -> Metrics:
    """Measure loss and accuracy over all samples of a loader, without learning.

    Parameters
    ----------
    model
        On `device` already; left in the mode (training or not) it came in.
    loader
        Gives images (N, 1, 28, 28) and labels (N,).
    loss_fn
        Cross-entropy where it is None.
    device
        Where the batches go.

    Raises
    ------
    InputError
        The loader has no batch.
    TrainingError
        The loss is infinite or not a number.
    """
    loss_fn = loss_fn or nn.CrossEntropyLoss()
    running = RunningMetrics(torch.device(device))
    with evaluation_mode(model):
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            logits = model(images)
            running.add(loss_fn(logits, labels), logits, labels)
    return _not_empty(running, "test").check()


def _lr(optimizer: Optimizer) -> float:
    return optimizer.param_groups[0]["lr"]


def _not_empty(running: RunningMetrics, which: str) -> RunningMetrics:
    if running.count == 0:
        raise InputError(f"the {which} loader is empty; give it at least one image")
    return running


def check_batch(loader: DataLoader, which: str) -> None:
    """Look at the first batch, and at all labels the dataset shows, before any step.

    Parameters
    ----------
    loader
        Should give normalised images (N, 1, 28, 28) and labels (N,) from 0 to 9.
    which
        What to call the loader in a message.

    Raises
    ------
    InputError
        It gives something else; the message says what.
    """
    with torch.random.fork_rng():  # starting a loader draws a random number
        batch = next(iter(loader), None)
    if batch is None:
        raise InputError(f"the {which} loader is empty; give it at least one image")
    images, labels = batch
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28) or images.dtype != torch.float32:
        raise InputError(
            f"the {which} loader gives images of {images.dtype} and shape {tuple(images.shape)}; "
            "the network takes float32 (N, 1, 28, 28)"
        )
    if not images.isfinite().all() or images.abs().max() > MAX_PIXEL:
        raise InputError(
            f"the {which} images range from {images.min():g} to {images.max():g}; normalised ones "
            "lie between -0.5 and 3: divide by 255, take 0.1307 away, divide by 0.3081"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"the {which} loader gives labels of {labels.dtype} and shape {tuple(labels.shape)}; "
            f"cross-entropy takes int64 ({len(images)},)"
        )
    for known in (labels, torch.as_tensor(getattr(loader.dataset, "labels", labels))):
        if known.min() < 0 or known.max() > 9:
            raise InputError(
                f"the {which} labels must be 0 to 9, got {known.min()} to {known.max()}"
            )
