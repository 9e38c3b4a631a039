"""One epoch of learning, and one of measuring: the loop that notebook 03 writes by hand."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from tqdm.std import tqdm

from mnist_helpers import workers
from mnist_helpers.batches import Loader
from mnist_helpers.errors import InputError, TrainingError
from mnist_helpers.hardware import PRECISIONS
from mnist_helpers.model import evaluation_mode

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

    def gather(self) -> None:
        """Add what the other processes have counted, if there are any."""
        if workers.count() > 1:
            count = torch.tensor([self.count], device=self.sums.device)
            workers.total(self.sums)
            workers.least(self.first_bad)
            self.count = int(workers.total(count))

    def mean(self) -> Metrics:
        """Return the means so far; on a GPU this waits for its work to be done."""
        loss, right = self.sums.tolist()
        return Metrics(loss / self.count, right / self.count)

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
    loader: Loader,
    loss_fn: LossFn,
    optimizer: Optimizer,
    device: str | torch.device = "cpu",
    bar: tqdm | None = None,
    *,
    precision: str = "float32",
    scaler: GradScaler | None = None,
    after_step: Callable[[], None] | None = None,
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
    precision
        What the network computes in, one of `hardware.PRECISIONS`; weights, loss and
        steps are float32 in all of them.
    scaler
        Keeps float16 gradients from vanishing; for that precision only.
    after_step
        Called after each step, to move a learning rate for instance.

    Returns
    -------
    Metrics
        Over the epoch and over all processes, each batch as the network stood just before
        learning from it.

    Raises
    ------
    InputError
        The loader has no batch.
    TrainingError
        The loss is infinite or not a number.
    """
    model.train()
    device = torch.device(device)
    scaler = scaler or GradScaler(device.type, enabled=False)  # then it does nothing
    running = RunningMetrics(device)
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        with lower_precision(device, precision):
            logits = model(images)
        loss = loss_fn(logits.float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if after_step is not None:
            after_step()
        running.add(loss, logits, labels)
        if bar is not None and bar.update(1):  # true when it has just been drawn
            # With others, only the sum at the end is one that all see, and stop at, alike.
            alone = workers.count() == 1
            so_far = running.check(_lr(optimizer)) if alone else running.mean()
            bar.set_postfix_str(in_training(*so_far), refresh=False)
    return _whole(running, "training").check(_lr(optimizer))


def lower_precision(device: torch.device, precision: str) -> AbstractContextManager:
    """Return a context in which PyTorch computes products in that precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
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
    return _whole(running, "test").check()


def _lr(optimizer: Optimizer) -> float:
    return optimizer.param_groups[0]["lr"]


def _whole(running: RunningMetrics, which: str) -> RunningMetrics:
    """Return the metrics over all processes; there must be some."""
    running.gather()
    if running.count == 0:
        raise InputError(f"the {which} loader is empty; give it at least one image")
    return running
