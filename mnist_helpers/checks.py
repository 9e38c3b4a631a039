"""Whether training can succeed: what a loader gives, and whether the loss has moved."""

import math

import torch

from mnist_helpers import workers
from mnist_helpers.batches import Loader
from mnist_helpers.errors import InputError
from mnist_helpers.history import EpochRecord
from mnist_helpers.progress import announce

# Far beyond normalised pixels (-0.42 to 2.82), far below raw ones (255).
MAX_PIXEL = 10.0
LOSS_OF_GUESSING = math.log(10)  # cross-entropy of one in ten
STUCK_MARGIN = 0.05
# By then a network that learns at all has begun: with He's weights the loss falls after
# some 30 steps, with PyTorch's own after some 340 (measured, batches of 64).
STUCK_STEPS = 500


def check_batch(loader: Loader, which: str) -> None:
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
    with torch.random.fork_rng(devices=[]):  # starting a loader draws a random number
        batch = next(iter(loader), None)
    if batch is None:
        if workers.count() > 1 and len(loader.dataset):
            return  # fewer images than processes: the others have them
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


def warn_if_stuck(record: EpochRecord, steps: int) -> None:
    """Say so, once, when the network knows nothing after steps enough to have begun.

    Parameters
    ----------
    record
        Of the epoch just finished.
    steps
        Those of one epoch.
    """
    before, after = steps * (record.epoch - 1), steps * record.epoch
    if before < STUCK_STEPS <= after and record.train_loss > LOSS_OF_GUESSING - STUCK_MARGIN:
        announce(
            f"After {after} steps the loss is still {record.train_loss:.2f}, no better than "
            "guessing (ln 10 = 2.30). Likely causes: a learning rate far too small, or so "
            "large that every ReLU has died; labels of other images; init='default'."
        )
