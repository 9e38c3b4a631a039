"""What a loader gives, looked at before an hour is spent on it."""

import torch

from mnist_helpers.batches import Loader
from mnist_helpers.errors import InputError

# Far beyond normalised pixels (-0.42 to 2.82), far below raw ones (255).
MAX_PIXEL = 10.0


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
