"""Digits as tensors: all of them, or a part in which every class keeps its share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mnist_helpers.config import MNIST, SAMPLE
from mnist_helpers.download import download_mnist
from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.files import SAMPLE_FOLDER, find_mnist, raw_folder, read_idx

# Mean and standard deviation of all 47,040,000 pixels of the training set, on the
# scale from 0 to 1; notebook 01 computes them.
MEAN, STD = 0.1307, 0.3081


def normalise(images: Tensor) -> Tensor:
    """Bring pixels from 0..255 to mean 0 and standard deviation 1, as floats.

    The same steps as torchvision's `ToTensor` and `Normalize`, to the last bit.
    """
    return images.to(torch.float32).div(255).sub(MEAN).div(STD)


class DigitDataset(Dataset):
    """Digits in memory: images (N, 28, 28) uint8 and labels (N,) int64.

    An item is what the network takes: a normalised image (1, 28, 28) and its label.

    Parameters
    ----------
    images
        Shape (N, 28, 28), dtype uint8, 0 for the background and 255 for full ink.
    labels
        Shape (N,), whole numbers from 0 to 9.
    source
        Which data these are, `config.MNIST` or `config.SAMPLE`.

    Raises
    ------
    InputError
        Shapes, dtypes or labels are others.
    """

    def __init__(self, images: Tensor, labels: Tensor, source: str = MNIST) -> None:
        if images.dtype != torch.uint8 or images.shape[1:] != (28, 28):
            raise InputError(
                "images must be uint8 of shape (N, 28, 28), "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        if labels.is_floating_point():
            raise InputError(f"labels must be whole numbers, got {labels.dtype}")
        if labels.shape != images.shape[:1]:
            raise InputError(f"{len(images)} images need as many labels, got {tuple(labels.shape)}")
        if len(labels) and not (labels.min() >= 0 and labels.max() <= 9):
            raise InputError(f"labels must be 0 to 9, got {labels.min()} to {labels.max()}")
        self.images = images
        self.labels = labels.to(torch.int64)
        self.source = source

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return normalise(self.images[index]).unsqueeze(0), int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return several items, normalised in one go: DataLoader asks for a batch this way."""
        index = torch.as_tensor(indices)
        images = normalise(self.images[index]).unsqueeze(1)  # (N, 1, 28, 28)
        return list(zip(images, self.labels[index].tolist(), strict=True))

    def part(self, limit: int | None, seed: int) -> "DigitDataset":
        """Return a seeded part of `limit` digits in which each class keeps its share.

        Raises
        ------
        ConfigError
            The set is smaller than `limit`.
        """
        if limit is None:
            return self
        if limit > len(self):
            raise ConfigError(f"a limit of {limit} images is more than the {len(self)} there are")
        index = torch.from_numpy(stratified(self.labels.numpy(), limit, seed))
        return DigitDataset(self.images[index], self.labels[index], self.source)


def stratified(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Choose `limit` of the labels so that each class keeps its share, to within one.

    Every class spreads its members, in random order, evenly over the way from 0 to 1;
    the first `limit` met on that way are chosen.

    Returns
    -------
    np.ndarray
        Their indices, ascending.
    """
    order = generator(seed).permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(order[np.argsort(position[order], kind="stable")[:limit]])


def generator(*seeds: int) -> np.random.RandomState:
    """Return a generator for these seeds.

    The old RandomState, because NumPy has promised never to change what it draws
    (NEP 19); SeedSequence keeps (1, 2) and (2, 1) apart.
    """
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seeds)))


def load_mnist(
    root: str | Path = "data",
    *,
    allow_sample: bool = True,
    train_limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 1,
) -> tuple[DigitDataset, DigitDataset]:
    """Load the training and the test set, downloading them where they are missing.

    Parameters
    ----------
    root
        The folder that holds `MNIST/raw`.
    allow_sample
        Be content with the sample of 5,000 digits (see `download_mnist`). One that is
        there already is used without asking the mirrors again: `download_mnist` asks.
    train_limit, test_limit
        Load a stratified part of so many digits.
    seed
        Decides which ones a limit takes.

    Returns
    -------
    tuple of DigitDataset
        The training set and the test set.

    Raises
    ------
    DataError
        The files cannot be had; see `download_mnist`.
    ConfigError
        A limit is larger than the set.
    """
    root = Path(root)
    found = find_mnist(root)
    # A real file beside the sample, damaged or still packed, deserves a try.
    begun = found != root and raw_folder(root).is_dir() and any(raw_folder(root).iterdir())
    if found is None or begun or (found != root and not allow_sample):
        found = download_mnist(root, allow_sample=allow_sample)
    source = SAMPLE if found == root / SAMPLE_FOLDER else MNIST
    sets = []
    for prefix, limit in (("train", train_limit), ("t10k", test_limit)):
        images = read_idx(raw_folder(found) / f"{prefix}-images-idx3-ubyte")
        labels = read_idx(raw_folder(found) / f"{prefix}-labels-idx1-ubyte")
        whole = DigitDataset(torch.tensor(images), torch.tensor(labels), source)
        sets.append(whole.part(limit, seed))
    return sets[0], sets[1]
