"""One checkpoint, with all a resume restores: saved whole, checked on loading, never executed."""

import contextlib
import hashlib
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_helpers.errors import CheckpointError

REQUIRED = (
    "epoch", "model_state_dict", "optimizer_state_dict", "train_accuracy", "test_accuracy",
)  # fmt: skip
TRAINED = "trained_state_dict"  # the weights that go on learning, if averaged ones are tested
SCALER = "scaler_state_dict"
MAX_BYTES = 256 * 2**20  # unpacked; our own hold 1.5 MB, so this must be something else


def digest(value: Any) -> str:
    """Return a SHA-256 over tensors, numbers, strings and the containers that hold them.

    Two state dicts with the same keys in the same order have the same digest exactly if they
    are equal to the last bit; where a tensor lives and its memory format make no difference.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        sha.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        sha.update(value.flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping | list | tuple):
        sha.update(f"{'map' if isinstance(value, Mapping) else 'list'} {len(value)};".encode())
        for part in chain(*value.items()) if isinstance(value, Mapping) else value:
            _feed(sha, part)
    elif isinstance(value, float):
        sha.update(b"float " + struct.pack("<d", value))
    elif not isinstance(value, str | int | bytes | None):
        raise TypeError(f"{type(value).__name__} is not a type that a checkpoint holds")
    else:
        text = f"{type(value).__name__} {len(str(value))} {value!s};"
        sha.update(text.encode("utf-8", "backslashreplace"))


def save_checkpoint(path: str | Path, checkpoint: Mapping[str, Any]) -> Path:
    """Write a checkpoint with its digest, so that it is there whole or not at all.

    It holds at least the keys in `REQUIRED`; accuracies are fractions. It is written beside
    its path, flushed to the disk, read back and renamed: anyone who looks sees the old file
    or the new one, never a part.

    Raises
    ------
    CheckpointError
        A key is missing, or the file cannot be written; an older one is still there.
    """
    path = Path(path)
    if missing := [key for key in REQUIRED if key not in checkpoint]:
        raise CheckpointError(f"a checkpoint needs {', '.join(missing)}; save those too")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({**checkpoint, "digest": digest(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        load_checkpoint(temporary)  # only replace the old file once the new one can be read
        temporary.replace(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path} was not written: it would not load: {error}") from error
    except (OSError, RuntimeError, AttributeError, TypeError, pickle.PicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room, choose another folder or save "
            "plain types; what was there before is untouched"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # its folder may be a file, or read-only
            temporary.unlink(missing_ok=True)
    return path


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint and prove that it is what `save_checkpoint` wrote.

    Nothing in it is executed (`weights_only=True`, with torch 2.10 or newer), and its digest
    must match: otherwise a single flipped bit in the weights would load without a word. Raises
    CheckpointError if the file is missing, damaged, or not a checkpoint of this package.
    """
    path = Path(path)
    loaded = _read(path, map_location)
    if not isinstance(loaded, dict) or any(key not in loaded for key in (*REQUIRED, "digest")):
        raise CheckpointError(f"{path} is not a checkpoint of mnist_helpers: its keys differ")
    try:
        fits = loaded.pop("digest") == digest(loaded)
    # Values that nobody would save can make the hashing raise nearly anything.
    except Exception as error:
        raise CheckpointError(f"{path} holds what no checkpoint holds: {error}") from error
    if not fits:
        raise CheckpointError(f"{path} is damaged: its contents do not match its digest")
    _check_values(path, loaded)
    return loaded


def _read(path: Path, map_location: str | torch.device) -> Any:
    """Unpack a file that anybody may have made, without executing anything in it."""
    try:
        if not path.is_file():  # reading from a pipe could wait forever
            raise CheckpointError(f"there is no file {path}; train first, or name another")
        with zipfile.ZipFile(path) as parts:
            if sum(part.file_size for part in parts.infolist()) > MAX_BYTES:
                raise CheckpointError(f"{path} is too large to be a checkpoint of this network")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that are refused below
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
    """Refuse values that make no sense though the digest matches: anybody can compute one."""
    weights = [checkpoint[key] for key in ("model_state_dict", TRAINED) if key in checkpoint]
    accuracies = [checkpoint[f"{part}_accuracy"] for part in ("train", "test")]
    epoch = checkpoint["epoch"]
    if not (
        (type(epoch) is int and epoch >= 1)
        and all(isinstance(value, float) and 0 <= value <= 1 for value in accuracies)
        and all(isinstance(part, Mapping) for part in weights)
        and all(isinstance(weight, Tensor) for part in weights for weight in part.values())
        and isinstance(checkpoint["optimizer_state_dict"], Mapping)
    ):
        raise CheckpointError(f"{path} holds values of the wrong type or range; train again")
    if not all(torch.isfinite(weight).all() for part in weights for weight in part.values()):
        raise CheckpointError(f"{path} holds weights that are not numbers; train again")


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Put a checkpoint's weights into a model; raises CheckpointError if they don't fit it."""

    def layout(state: Mapping[str, Tensor]) -> dict[str, Any]:
        return {name: (weight.shape, weight.dtype) for name, weight in state.items()}

    weights = checkpoint["model_state_dict"]
    if layout(weights) != layout(model.state_dict()):
        raise CheckpointError(f"{path} holds a different network: its layers aren't the model's")
    model.load_state_dict(weights)
