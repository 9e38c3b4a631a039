"""Digits as tensors: all of them, or a part in which every class keeps its share."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from mnist_helpers.config import DataSource
from mnist_helpers.data.download import download_mnist
from mnist_helpers.data.idx import FILES, SAMPLE_FOLDER, find_mnist, raw_folder, read_idx
from mnist_helpers.errors import ConfigError, InputError

# Of all 47,040,000 training pixels, on the scale from 0 to 1; notebook 01 computes them.
MEAN, STD = 0.1307, 0.3081


def normalise(images: Tensor) -> Tensor:
    """Bring pixels from 0..255 to mean 0 and standard deviation 1, in torchvision's steps."""
    return images.to(torch.float32).div(255).sub(MEAN).div(STD)


class DigitDataset(Dataset[tuple[Tensor, int]]):
    """Digits in memory; an item is a normalised image (1, 28, 28) and its label.

    `images` are (N, 28, 28) uint8, 0 for the background and 255 for full ink; `labels` are (N,)
    whole numbers from 0 to 9. Anything else raises InputError.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, source: DataSource = DataSource.MNIST
    ) -> None:
        if images.dtype != torch.uint8 or images.shape[1:] != (28, 28):
            got = f"{images.dtype} {tuple(images.shape)}"
            raise InputError(f"images must be uint8 of shape (N, 28, 28), got {got}")
        if labels.is_floating_point():
            raise InputError(f"labels must be whole numbers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            raise InputError(f"{len(images)} images need as many labels, got {tuple(labels.shape)}")
        check_labels(labels)
        self.images = images
        self.labels = labels.to(torch.int64)
        self.source = source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return normalise(self.images[index]).unsqueeze(0), int(self.labels[index])

    def at(self, indices: np.ndarray) -> "DigitDataset":
        """Return a data set of the digits at these places."""
        index = torch.from_numpy(indices)
        return DigitDataset(self.images[index], self.labels[index], self.source)

    def part(self, limit: int | None, seed: int) -> "DigitDataset":
        """Return a seeded part of `limit` digits in which each class keeps its share."""
        if limit is None:
            return self
        if limit > len(self):
            raise ConfigError(f"a limit of {limit} images is more than the {len(self)} there are")
        return self.at(stratified(self.labels.numpy(), limit, seed))


def stratified(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Return the places, ascending, of `limit` labels in which each class keeps its share."""
    # Every class spreads its members, in random order, evenly over the way from 0 to 1; the
    # first `limit` met along the way are chosen, so that shares are right to within one.
    order = generator(seed).permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(order[np.argsort(position[order], kind="stable")[:limit]])


def check_labels(labels: Tensor | np.ndarray, which: str = "") -> None:
    """Raise InputError unless all labels lie between 0 and 9."""
    if len(labels) and (labels.min() < 0 or labels.max() > 9):
        span = f"{labels.min()} to {labels.max()}"
        raise InputError(f"{which} labels must be 0 to 9, got {span}".lstrip())


def hold_back(dataset: Dataset[Any], count: int, seed: int) -> tuple[Dataset[Any], Dataset[Any]]:
    """Split off `count` stratified items for validation; return the rest, then those items."""
    size = size_of(dataset)
    if count >= size:
        raise ConfigError(f"validation={count} leaves none of the {size} images to train on")
    ours = dataset if type(dataset) is DigitDataset else None  # a subclass may do more
    labels = _labels_of(dataset, size) if ours is None else ours.labels.numpy()
    check_labels(labels, "the training")
    chosen = stratified(labels, count, seed)
    parts = np.setdiff1d(np.arange(size), chosen), chosen
    rest, held = (Subset(dataset, p.tolist()) if ours is None else ours.at(p) for p in parts)
    return rest, held


def _labels_of(dataset: Dataset[Any], size: int) -> np.ndarray:
    try:
        return np.array([int(dataset[index][1]) for index in range(size)])
    except Exception as error:  # the data set may be anybody's code, and raise anything
        message = f"the training set has an item that is no (image, label): {error!r}"
        raise InputError(message) from error


def size_of(dataset: Dataset[Any]) -> int:
    """Return how many items a data set has; raises InputError if it lacks length or index."""
    is_stream = isinstance(dataset, IterableDataset)
    if is_stream or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(
            f"a {type(dataset).__name__} is not a map-style data set: give the data set itself, "
            "with len() and (image, label) for dataset[index], such as DigitDataset"
        )
    return len(dataset)


def source_of(dataset: Dataset[Any]) -> DataSource:
    """Return which digits a data set holds; those of a part are those of the whole."""
    if isinstance(dataset, Subset):
        return source_of(dataset.dataset)
    source = getattr(dataset, "source", None)
    return source if isinstance(source, DataSource) else DataSource.OTHER


def generator(*seeds: int) -> np.random.RandomState:
    """Return a generator for these seeds, of a kind that NumPy will never change (NEP 19)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seeds)))


def load_mnist(
    root: str | Path = "data", *, allow_sample: bool = True, train_limit: int | None = None,
    test_limit: int | None = None, seed: int = 1,
) -> tuple[DigitDataset, DigitDataset]:  # fmt: skip
    """Load the training and the test set, downloading them if they are missing.

    Arguments are those of `download_mnist`, but a sample that is there already is taken as it
    is. The limits load a stratified part of that size, which `seed` decides.

    Raises
    ------
    DataError, ConfigError
        The files cannot be had (see `download_mnist`); a limit is larger than the set.
    """
    root = Path(root)
    found = find_mnist(root)
    # A real file beside the sample, damaged or still packed, deserves a try.
    names = {f"{file.name}{ending}" for file in FILES for ending in ("", ".gz")}
    begun = found != root and any((raw_folder(root) / name).exists() for name in names)
    if found is None or begun or (found != root and not allow_sample):
        found = download_mnist(root, allow_sample=allow_sample)
    source = DataSource.SAMPLE if found == root / SAMPLE_FOLDER else DataSource.MNIST
    sets = []
    for prefix, limit in (("train", train_limit), ("t10k", test_limit)):
        images = read_idx(raw_folder(found) / f"{prefix}-images-idx3-ubyte")
        labels = read_idx(raw_folder(found) / f"{prefix}-labels-idx1-ubyte")
        whole = DigitDataset(torch.tensor(images), torch.tensor(labels), source)
        sets.append(whole.part(limit, seed))
    return sets[0], sets[1]
