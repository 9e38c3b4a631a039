"""One training step, an epoch of steps, and evaluation: notebook 03 writes this loop by hand."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from mnist_helpers.data.digits import check_labels
from mnist_helpers.errors import InputError, TrainingError
from mnist_helpers.history import training_text
from mnist_helpers.machine import distributed
from mnist_helpers.machine.hardware import PRECISIONS, device_of
from mnist_helpers.machine.progress import Bar, announce
from mnist_helpers.model import evaluation_mode

LOSS_OF_GUESSING = math.log(10)  # cross-entropy of one in ten
STUCK_MARGIN = 0.05
# By then a network that learns has begun: after some 30 steps with He's weights, after some 340
# with PyTorch's own (measured, batches of 64).
STUCK_STEPS = 500

NO_SCALER = GradScaler("cpu", enabled=False)  # it does nothing, on any device
LossFn = Callable[[Tensor, Tensor], Tensor]
Batches = Iterable[Any]  # of (images, labels)


class Metrics(NamedTuple):
    """Means over samples; accuracy is a fraction from 0 to 1."""

    loss: float
    accuracy: float


class RunningMetrics:
    """Sums of loss and of right answers; they stay on the device until somebody asks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
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

    def gather(self, which: str) -> "RunningMetrics":
        """Add what the other processes have counted; together they must have some image."""
        if distributed.world_size() > 1:
            count = torch.tensor([self.count], device=self.sums.device)
            distributed.all_reduce_sum(self.sums)
            distributed.all_reduce_min(self.first_bad)
            self.count = int(distributed.all_reduce_sum(count))
        if self.count == 0:
            raise InputError(f"the {which} loader is empty; give it at least one image")
        return self

    def mean(self) -> Metrics:
        """Return the means so far; on a GPU this waits for its work to be done."""
        loss, right = self.sums.tolist()
        return Metrics(loss / self.count, right / self.count)

    def check(self, optimizer: Optimizer | None = None) -> Metrics:
        """Return the means so far; if they are not finite, raise TrainingError with the step."""
        metrics = self.mean()
        if not math.isfinite(metrics.loss):
            step = "when summed" if math.isinf(self.first_bad) else f"at step {int(self.first_bad)}"
            cause = "the weights are far too large (load another checkpoint)"
            if optimizer is not None:
                rate = optimizer.param_groups[0]["lr"]
                cause = f"the learning rate, {rate:g}, is too high (lower it)"
            raise TrainingError(
                f"the loss became {metrics.loss} {step}: either {cause}, or some images hold "
                "values that are NaN or infinite (check them)"
            )
        return metrics


def train_step(
    model: nn.Module, images: Tensor, labels: Tensor, loss_fn: LossFn, optimizer: Optimizer,
    precision: str = "float32", scaler: GradScaler | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Learn from one batch; return its mean loss and its logits, from before the step.

    Images are (N, 1, 28, 28), labels (N,); `scaler` keeps float16 gradients from vanishing.
    """
    scaler = scaler or NO_SCALER
    optimizer.zero_grad()
    is_lower = precision != "float32"
    with torch.autocast(images.device.type, PRECISIONS[precision], enabled=is_lower):
        logits = model(images)  # (N, 10)
    loss = loss_fn(logits.float(), labels)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    scaler.update()
    return loss, logits


def train_one_epoch(
    model: nn.Module, loader: Batches, loss_fn: LossFn, optimizer: Optimizer,
    bar: Bar | None = None, *, precision: str = "float32", scaler: GradScaler | None = None,
    after_step: Callable[[], None] | None = None,
) -> Metrics:  # fmt: skip
    """Learn from every batch once; return the means, each batch measured before its step.

    Parameters
    ----------
    model, loss_fn, optimizer, precision, scaler
        As `train_step` takes them.
    loader
        Gives images (N, 1, 28, 28) and labels (N,), which go to the model's device: a
        `DataLoader`, or a list or a generator of such pairs, of tensors or NumPy arrays.
    bar
        Advances by one per batch, and shows the running loss and accuracy after it.
    after_step
        Called after each step, to move a learning rate for instance.

    Raises
    ------
    InputError, TrainingError
        The loader has no batch, or one that does not fit; the loss is infinite or not a number.
    """
    model.train()
    running = RunningMetrics(device_of(model))
    for images, labels in batches_for(model, loader, "training"):
        loss, logits = train_step(model, images, labels, loss_fn, optimizer, precision, scaler)
        if after_step is not None:
            after_step()
        running.add(loss, logits, labels)
        if bar is not None and bar.update(1):  # true when it has just been drawn
            # With several processes only the sum at the end is one that all see, and stop at.
            alone = distributed.world_size() == 1
            so_far = running.check(optimizer) if alone else running.mean()
            bar.set_postfix_str(training_text(*so_far), refresh=False)
    return running.gather("training").check(optimizer)


@torch.no_grad()
def evaluate(
    model: nn.Module, loader: Batches, loss_fn: LossFn | None = None, which: str = "test"
) -> Metrics:
    """Measure loss and accuracy over all samples of a loader, without learning.

    The model is left in the mode (training or not) it came in. Without a `loss_fn` it is
    cross-entropy; `which` is what a message calls the loader.

    Raises as `train_one_epoch` does.
    """
    loss_fn = loss_fn or nn.CrossEntropyLoss()
    running = RunningMetrics(device_of(model))
    with evaluation_mode(model):
        for images, labels in batches_for(model, loader, which):
            logits = model(images)
            running.add(loss_fn(logits, labels), logits, labels)
    return running.gather(which).check()


def warn_if_stuck(epoch: int, steps: int, loss: float) -> None:
    """Say once, after enough epochs of so many steps, that the network still knows nothing."""
    before, after = steps * (epoch - 1), steps * epoch
    if before < STUCK_STEPS <= after and loss > LOSS_OF_GUESSING - STUCK_MARGIN:
        announce(
            f"After {after:,} steps the loss is still {loss:.2f}, no better than guessing "
            "(ln 10 = 2.30). Likely causes: a learning rate far too small, or so large that "
            "every ReLU has died; labels that don't match the images; init='default'."
        )


def batches_for(model: nn.Module, loader: Batches, which: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a loader's batches, of tensors or NumPy arrays, on a model's device.

    Raises InputError for what is no batch of images and labels; `which` names the loader.
    """
    weights = next(model.parameters(), torch.zeros(()))
    for number, batch in enumerate(loader, start=1):
        try:
            images, labels = map(torch.as_tensor, batch)
            fits = images.is_floating_point() and not labels.is_floating_point()
            fits = fits and labels.ndim == 1 and labels.shape == images.shape[:1]
        except (TypeError, ValueError, RuntimeError):
            fits = False
        if not fits:
            raise InputError(
                f"batch {number} of the {which} loader is {_in_words(batch)}; it must be a pair of "
                "normalised images (N, 1, 28, 28) and whole labels (N,), as make_loader gives them"
            )
        if not len(labels):  # of several processes one may have nothing to do
            continue
        if labels.device.type == "cpu":  # elsewhere a look would wait for the device
            check_labels(labels.numpy(), f"batch {number}: the {which}")
        yield images.to(weights.device, weights.dtype), labels.to(weights.device, torch.int64)


def _in_words(value: Any) -> str:
    """Say what a batch is: types and shapes."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return f"a {kind} with the keys {', '.join(map(repr, value))}"
    if isinstance(value, tuple | list):
        return f"a {kind} of {', '.join(map(_in_words, value[:3])) or 'nothing'}"
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else kind
