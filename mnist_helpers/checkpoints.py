"""Checkpoints: whole or not at all, checked on loading, never executed."""

import contextlib
import hashlib
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnist_helpers.errors import CheckpointError

REQUIRED = (
    "epoch",
    "model_state_dict",
    "optimizer_state_dict",
    "train_accuracy",
    "test_accuracy",
)
WEIGHTS = ("model_state_dict", "trained_state_dict")  # the second where weights are averaged
MAX_BYTES = 256 * 2**20  # unpacked; our own hold 1.5 MB, and a bomb shall not fill the memory
MAX_VALUES = 100_000  # our own hold some 2,000, most of them random states
MAX_DEPTH = 20


def digest(value: Any) -> str:
    """Return a SHA-256 over tensors, numbers, texts and what holds them.

    Two state dicts have the same digest exactly if they are equal to the last bit;
    where a tensor lives and how its memory is laid out make no difference.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        sha.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        sha.update(value.flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        sha.update(f"map {len(value)};".encode())
        for key, item in value.items():
            _feed(sha, key)
            _feed(sha, item)
    elif isinstance(value, list | tuple):
        sha.update(f"list {len(value)};".encode())
        for item in value:
            _feed(sha, item)
    elif isinstance(value, float):
        sha.update(b"float " + struct.pack("<d", value))
    elif not isinstance(value, str | int | bytes | None):
        raise TypeError(f"{type(value).__name__} is not a type that a checkpoint holds")
    else:
        text = f"{type(value).__name__} {len(str(value))} {value};"
        sha.update(text.encode("utf-8", "backslashreplace"))


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> Path:
    """Write a checkpoint, with its digest, so that it is there whole or not at all.

    It is written under a temporary name in the same folder, flushed to the disk and
    renamed: whoever looks sees the old file or the new one, never a part.

    Parameters
    ----------
    path
        The file; its folder is made where it is missing.
    checkpoint
        At least the keys in `REQUIRED`, in types that `torch.load` takes with
        `weights_only=True`. Accuracies are fractions.

    Raises
    ------
    CheckpointError
        A key is missing, or the file cannot be written; an older one is still there.
    """
    path = Path(path)
    missing = [key for key in REQUIRED if key not in checkpoint]
    if missing:
        raise CheckpointError(f"a checkpoint needs {', '.join(missing)}; save those too")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({**checkpoint, "digest": digest(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        load_checkpoint(temporary)  # what could not be read again shall not replace anything
        temporary.replace(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} was not written, since it would not load: {error}"
        ) from error
    except (OSError, RuntimeError, AttributeError, TypeError, pickle.PicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room, choose another "
            "folder or save plain types; what was there before is untouched"
        ) from error
    finally:
        remove(temporary)
    return path


def remove(temporary: Path) -> None:
    """Remove a temporary file, if it is there and can be removed."""
    # Its folder may be a file, or read-only: then there is nothing to remove.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint and prove that it is what `save_checkpoint` wrote.

    Nothing in it is executed (`weights_only=True`), and its digest must fit: a single
    flipped bit in the weights would load without a word otherwise.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, not a checkpoint of this package or not its own.
    """
    path = Path(path)
    loaded = _read(path, map_location)
    if not isinstance(loaded, dict) or any(key not in loaded for key in (*REQUIRED, "digest")):
        raise CheckpointError(f"{path} is not a checkpoint of mnist_helpers: its keys differ")
    try:
        _check_size(loaded)
        fits = loaded.pop("digest") == digest(loaded)
    # Values that nobody would save can make the hashing raise nearly anything.
    except Exception as error:
        raise CheckpointError(f"{path} holds what no checkpoint holds: {error}") from error
    if not fits:
        raise CheckpointError(f"{path} is damaged: its contents do not fit its digest")
    _check_values(path, loaded)
    return loaded


def _check_size(value: Any) -> None:
    """Refuse what is too much to be looked at: a small file can say a thing very often."""
    left, bytes_left, todo = MAX_VALUES, MAX_BYTES, [(value, 0)]
    while todo:
        item, depth = todo.pop()
        left -= 1
        if isinstance(item, Tensor):
            if item.layout != torch.strided or item.is_meta:
                raise ValueError("a tensor that is not dense")
            bytes_left -= item.numel() * item.element_size()
        elif isinstance(item, Mapping):
            todo += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            todo += [(part, depth + 1) for part in item]
        if left < len(todo) or bytes_left < 0 or depth > MAX_DEPTH:
            raise ValueError("too many values, or nested too deeply")


def _read(path: Path, map_location: str | torch.device) -> Any:
    """Unpack a file that anybody may have made, without executing anything in it."""
    try:
        if not path.is_file():  # reading from a pipe could wait for ever
            raise CheckpointError(f"{path} does not exist as a file; train first, or name another")
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > MAX_BYTES:
                raise CheckpointError(f"{path} is too large to be a checkpoint of this network")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about files we are about to refuse
            return torch.load(path, map_location=map_location, weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds something other than tensors and plain values, or is damaged; "
            "it was not executed: use one that this package has written"
        ) from error
    # A damaged archive makes torch's reader raise nearly anything.
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read; it is damaged ({error})") from error


def _check_values(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse what has a fitting digest and still no sense: anybody can compute a digest."""
    weights = [checkpoint[key] for key in WEIGHTS if key in checkpoint]
    accuracies = (checkpoint["train_accuracy"], checkpoint["test_accuracy"])
    sound = (
        type(checkpoint["epoch"]) is int
        and checkpoint["epoch"] >= 1
        and all(isinstance(value, float) and 0 <= value <= 1 for value in accuracies)
        and all(isinstance(part, Mapping) for part in weights)
        and all(isinstance(weight, Tensor) for part in weights for weight in part.values())
        and isinstance(checkpoint["optimizer_state_dict"], Mapping)
    )
    if not sound:
        raise CheckpointError(f"{path} holds values of the wrong type or range; train again")
    if not all(torch.isfinite(weight).all() for part in weights for weight in part.values()):
        raise CheckpointError(f"{path} holds weights that are not numbers; train again")
