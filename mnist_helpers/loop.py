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

LossFn = Callable[[Tensor, Tensor], Tensor]


class Metrics(NamedTuple):
    """Means over samples; accuracy is a fraction from 0 to 1."""

    loss: float
    accuracy: float


class RunningMetrics:
    """Sums of loss and of right answers; they stay on the device until somebody asks."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, device=device)  # loss, right answers
        self.count = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch whose mean loss is `loss`."""
        right = (logits.argmax(dim=1) == labels).sum()
        self.sums += torch.stack([loss.detach() * len(labels), right])
        self.count += len(labels)

    def mean(self) -> Metrics:
        """Return the means so far; on a GPU this waits for its work to be done."""
        loss, right = (self.sums / self.count).tolist()
        return Metrics(loss, right)


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
            bar.set_postfix_str(in_training(*running.mean()), refresh=False)
    return _checked(running, "training")


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
    was_training = model.training
    model.eval()
    running = RunningMetrics(torch.device(device))
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        running.add(loss_fn(logits, labels), logits, labels)
    model.train(was_training)
    return _checked(running, "test")


def _checked(running: RunningMetrics, which: str) -> Metrics:
    if running.count == 0:
        raise InputError(f"the {which} loader is empty; give it at least one image")
    metrics = running.mean()
    if not math.isfinite(metrics.loss):
        raise TrainingError(
            f"the {which} loss is {metrics.loss}: the weights have grown beyond all bounds. "
            "Lower the learning rate (0.01 is the recipe's), and look for wrong images."
        )
    return metrics
