"""The order of an epoch's samples, and the loaders that turn them into batches."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mnist_helpers.config import ResolvedConfig, TrainConfig
from mnist_helpers.data.digits import (
    DigitDataset,
    check_labels,
    generator,
    hold_back,
    normalise,
    shown_labels,
    size_of,
)
from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.machine import distributed

# Images per step in testing: larger batches were slower on a CPU, and keep a GPU busy.
CPU_TEST_BATCH_SIZE, GPU_TEST_BATCH_SIZE = 250, 2000
# Far beyond normalised pixels (-0.42 to 2.82), far below raw ones (255).
MAX_PIXEL = 10.0


class EpochSampler(Sampler[int]):
    """The order of `size` samples, decided by seed and epoch and nothing else.

    Call `set_epoch` before each epoch, as with PyTorch's DistributedSampler. Then any loop
    meets the samples in the same order, whatever else has drawn random numbers.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 1, whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(generator(self.seed, self.epoch).permutation(self.size).tolist())


class InMemory(Dataset[tuple[Tensor, Tensor]]):
    """Digits normalised once and held on a device, 188 MB for the 60,000 of MNIST.

    An item is an image (1, 28, 28) and its label; a DataLoader gets a batch at a time. Each of
    several processes gets its `share` of a batch; no image is dropped or doubled.
    """

    def __init__(self, digits: DigitDataset, device: torch.device) -> None:
        self.images = normalise(digits.images).unsqueeze(1).to(device)  # (N, 1, 28, 28)
        self.labels = digits.labels.to(device)
        self.share = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return this process's part of a batch; in testing it may be empty."""
        own = indices[distributed.rank() :: distributed.world_size()]
        self.share = len(own) / len(indices)
        index = torch.tensor(own).to(self.labels.device, torch.int64, non_blocking=True)
        return self.images[index], self.labels[index]


def make_loader(
    dataset: Dataset[Any], config: TrainConfig | ResolvedConfig | None = None, *, train: bool
) -> DataLoader[Any]:
    """Return the loader that `fit` would use, for a loop of your own.

    Parameters
    ----------
    dataset
        Anything with a length that gives (image, label) by index.
    config
        Gives batch size, seed and device; `in_memory` only changes where the batches are.
    train
        Shuffle, in another order each epoch: call `loader.sampler.set_epoch(epoch)` before
        it. False keeps the order of the data set.

    Raises
    ------
    InputError, ConfigError
        The data set is not map-style; several processes cannot share its batches.
    """
    settings = (config or TrainConfig()).resolved()
    size, batch_size, sampler = size_of(dataset), settings.batch_size, None
    if train:
        sampler = EpochSampler(size, settings.recipe.seed)
    else:
        batch_size = CPU_TEST_BATCH_SIZE if settings.device.type == "cpu" else GPU_TEST_BATCH_SIZE
    if settings.recipe.in_memory and type(dataset) is DigitDataset:  # a subclass may do more
        if train:
            _check_shares(size, batch_size)
        held = InMemory(dataset, settings.device)
        return DataLoader(held, batch_size, sampler=sampler, collate_fn=lambda batch: batch)
    if distributed.world_size() > 1:
        raise ConfigError(
            "several processes can only share batches in memory: use a DigitDataset and in_memory"
        )
    return DataLoader(dataset, batch_size, sampler=sampler)


def make_loaders(
    train_set: Dataset[Any], test_set: Dataset[Any], config: ResolvedConfig
) -> dict[str, DataLoader[Any]]:
    """Return the loaders of a run by name: training, validation (if some is held back), test."""
    sets = {"training": train_set, "test": test_set}
    if count := config.recipe.validation:
        rest, held = hold_back(train_set, count, config.recipe.seed)
        sets = {"training": rest, "validation": held, "test": test_set}
    return {name: make_loader(s, config, train=name == "training") for name, s in sets.items()}


def _check_shares(size: int, batch_size: int) -> None:
    """Refuse training batches of which a process would get nothing: all take every step."""
    smallest = size % batch_size or batch_size
    if size and smallest < distributed.world_size():
        raise ConfigError(
            f"{size:,} images in batches of {batch_size} leave {smallest} for the smallest batch, "
            f"too few for {distributed.world_size()} processes; choose another batch size"
        )


def check_loader(loader: DataLoader[Any], which: str) -> None:
    """Look at the first batch, and at all labels the data set shows, before any step.

    Raises InputError unless they are normalised images (N, 1, 28, 28) and labels (N,) from 0
    to 9; `which` names the data set in the message: "training", "validation" or "test".
    """
    batch = _first_batch(loader, which)
    if batch is None:
        return
    images, labels = batch
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28) or images.dtype != torch.float32:
        raise InputError(
            f"the {which} set gives images of {images.dtype} and shape {tuple(images.shape)}; "
            "the network takes float32 (N, 1, 28, 28)"
        )
    if not images.isfinite().all() or images.abs().max() > MAX_PIXEL:
        raise InputError(
            f"the {which} images range from {images.min():g} to {images.max():g}; normalised ones "
            "lie between -0.5 and 3: divide by 255, subtract 0.1307, divide by 0.3081"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"the {which} set gives labels of {labels.dtype} and shape {tuple(labels.shape)}; "
            f"cross-entropy takes int64 ({len(images)},)"
        )
    for known in (labels, shown_labels(loader.dataset)):
        if known is not None:
            check_labels(known, f"the {which}")


def _first_batch(loader: DataLoader[Any], which: str) -> tuple[Tensor, Tensor] | None:
    """Return a loader's first batch; None if only other processes have images."""
    try:
        batch = next(iter(loader), None)
    except Exception as error:  # the data set may be anybody's code, and raise anything
        raise InputError(
            f"the {which} set can't be batched ({type(error).__name__}: {error}); it has to return "
            "an image as a tensor (1, 28, 28) and a label from 0 to 9 for each index"
        ) from error
    if batch is None:
        raise InputError(f"the {which} set is empty; give it at least one image")
    if len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        raise InputError(f"the {which} set does not give pairs of (image, label)")
    images, labels = batch
    return (images, labels) if len(labels) else None
