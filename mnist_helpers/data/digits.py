"""Digits as tensors: all of them, or a part in which every class keeps its share."""

import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from mnist_helpers.config import DataSource, TrainConfig, as_path
from mnist_helpers.data.download import download_mnist, own_mirror
from mnist_helpers.data.idx import (
    FILES,
    digest,
    find_mnist,
    is_sample,
    raw_folder,
    read_idx,
    root_of,
)
from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.machine.hardware import random_states_kept, seed_everything
from mnist_helpers.machine.progress import announce

# Of all 47,040,000 training pixels, on the scale from 0 to 1; notebook 01 computes them.
MEAN, STD = 0.1307, 0.3081


def normalise(images: Tensor) -> Tensor:
    """Bring pixels from 0..255 to mean 0 and standard deviation 1, in torchvision's steps."""
    return images.to(torch.float32).div(255).sub(MEAN).div(STD)


class DigitDataset(Dataset[tuple[Tensor, int]]):
    """Digits in memory; an item is a normalised image (1, 28, 28) and its label.

    `images` are (N, 28, 28) uint8, 0 for the background and 255 for full ink; `labels` are (N,)
    whole numbers from 0 to 9; tensors or NumPy arrays. Anything else raises InputError.
    """

    def __init__(
        self, images: Tensor | np.ndarray, labels: Tensor | np.ndarray,
        source: DataSource = DataSource.MNIST,
    ) -> None:  # fmt: skip
        try:
            images, labels = torch.as_tensor(images), torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"images and labels must be tensors or arrays: {error}") from error
        if images.dtype != torch.uint8 or images.shape[1:] != (28, 28):
            got = f"{images.dtype} {tuple(images.shape)}"
            raise InputError(f"images must be uint8 of shape (N, 28, 28), got {got}")
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise InputError(f"labels must be whole numbers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            raise InputError(f"{len(images)} images need as many labels, got {tuple(labels.shape)}")
        self.images, self.labels = images, labels.to(torch.int64)
        check_labels(self.labels)
        self.source = source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return normalise(self.images[index]).unsqueeze(0), int(self.labels[index])

    def at(self, indices: np.ndarray) -> "DigitDataset":
        """Return a data set of the digits at these places."""
        index = torch.as_tensor(indices)
        return DigitDataset(self.images[index], self.labels[index], self.source)

    def part(self, limit: int | None, seed: int) -> "DigitDataset":
        """Return a seeded part of `limit` digits in which each class keeps its share.

        None takes all; a limit below 1 or above the number of digits raises ConfigError.
        """
        if limit is None:
            return self
        return self.at(stratified(self.labels.numpy(), limit, seed))


def stratified(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Return the places, ascending, of `limit` labels in which each class keeps its share."""
    if not isinstance(limit, numbers.Integral) or isinstance(limit, bool) or limit < 1:
        raise ConfigError(f"a limit must be a whole number of at least 1, got {limit!r}")
    if limit > len(labels):
        raise ConfigError(f"a limit of {limit:,} images is more than the {len(labels):,} there are")
    labels = np.asarray(labels)
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
    shown = shown_labels(dataset)
    labels = _labels_of(dataset, size) if shown is None else shown
    check_labels(labels, "the training")
    chosen = stratified(labels, count, seed)
    parts = np.setdiff1d(np.arange(size), chosen), chosen
    rest, held = (Subset(dataset, p.tolist()) if ours is None else ours.at(p) for p in parts)
    return rest, held


def shown_labels(dataset: Any) -> np.ndarray | None:
    """Return the labels that a data set keeps as `labels` or `targets`; None if it has none."""
    if isinstance(dataset, Subset):
        whole = shown_labels(dataset.dataset)
        return None if whole is None else whole[np.asarray(dataset.indices, dtype=np.int64)]
    if getattr(dataset, "target_transform", None) is not None:  # items have other labels
        return None
    for name in ("labels", "targets"):
        try:
            shown = torch.as_tensor(getattr(dataset, name, None)).cpu().numpy()
        except Exception:  # noqa: S112  # it calls something else so
            continue
        if shown.shape == (len(dataset),) and shown.dtype.kind in "iu":
            return np.asarray(shown)
    return None


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


def fingerprint(dataset: Dataset[Any]) -> str | None:
    """Return a digest that tells other images and labels of the same number apart.

    It covers all of a `DigitDataset`, a `TensorDataset` or a `Subset` of these. Of anything else
    it covers 64 items, drawn with fixed seeds, and all labels that it shows: None if no seed
    decides how the items come out.
    """
    if type(dataset) is DigitDataset:
        return digest([dataset.images, dataset.labels])
    if type(dataset) is TensorDataset:
        return digest(list(dataset.tensors))
    if type(dataset) is Subset and (whole := fingerprint(dataset.dataset)):
        return digest([whole, [int(index) for index in dataset.indices]])

    def look() -> str:
        seed_everything(0)
        items = [dataset[int(place)] for place in np.linspace(0, size_of(dataset) - 1, 64)]
        labels = shown_labels(dataset)
        shown = None if labels is None else torch.as_tensor(labels)
        return digest([shown, [[torch.as_tensor(image), int(label)] for image, label in items]])

    try:
        with random_states_kept():
            first, second = look(), look()
    except Exception as error:  # the data set may be anybody's code, and raise anything
        raise InputError(f"each item of a data set must be (image, label): {error!r}") from error
    return first if first == second else None


def identity_of(dataset: Dataset[Any], which: str) -> dict[str, str | int | None]:
    """Return what tells a data set from others, as a checkpoint keeps it."""
    mark = fingerprint(dataset)
    if mark is None:
        announce(f"The {which} set has random numbers of its own, which no resume can repeat.")
    return {
        f"{which}_source": source_of(dataset).value,
        f"{which}_size": size_of(dataset),
        f"{which}_digits": mark,
    }


def generator(*seeds: int) -> np.random.RandomState:
    """Return a generator for these seeds, of a kind that NumPy will never change (NEP 19)."""
    if not all(isinstance(seed, numbers.Integral) and seed >= 0 for seed in seeds):
        raise ConfigError(f"a seed must be a whole number of at least 0, got {seeds[0]!r}")
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seeds)))


def load_mnist(
    root: str | Path = "data", *, allow_sample: bool = True, train_limit: int | None = None,
    test_limit: int | None = None, seed: int = 1,
) -> tuple[DigitDataset, DigitDataset]:  # fmt: skip
    """Load the training and the test set, downloading them if they are missing.

    Arguments are those of `download_mnist`, but a sample that is there already is taken as it
    is, unless `MNIST_MIRROR` says where MNIST is. The limits load a stratified part of that
    size, which `seed` decides.

    Raises
    ------
    DataError
        The files cannot be had, or cannot be read: see `download_mnist`.
    ConfigError
        `root` or `MNIST_MIRROR` is not a path; a limit or the seed is out of range.
    """
    path = root_of(as_path(root))
    TrainConfig(train_limit=train_limit, test_limit=test_limit, seed=seed)  # which checks them
    found = find_mnist(path)
    has_sample = found is not None and is_sample(raw_folder(found))
    # A real file beside the sample, damaged or still packed, deserves a try.
    names = {f"{file.name}{ending}" for file in FILES for ending in ("", ".gz")}
    begun = found != path and any(os.path.lexists(raw_folder(path) / name) for name in names)
    if found is None or begun or (has_sample and (own_mirror() or not allow_sample)):
        found = download_mnist(path, allow_sample=allow_sample)
    source = DataSource.SAMPLE if is_sample(raw_folder(found)) else DataSource.MNIST
    sets = []
    for prefix, limit in (("train", train_limit), ("t10k", test_limit)):
        images = read_idx(raw_folder(found) / f"{prefix}-images-idx3-ubyte")
        labels = read_idx(raw_folder(found) / f"{prefix}-labels-idx1-ubyte")
        whole = DigitDataset(torch.tensor(images), torch.tensor(labels), source)
        sets.append(whole.part(limit, seed))
    return sets[0], sets[1]
