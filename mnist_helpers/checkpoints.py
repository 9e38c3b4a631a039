"""Checkpoints: whole or not at all, checked on loading, never executed."""

import contextlib
import hashlib
import os
import pickle
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_helpers.config import MNIST, TrainConfig
from mnist_helpers.errors import CheckpointError

BEST_NAME = "best_mnist_model.pth"
EPOCH_PATTERN = re.compile(r"mnist_model_epoch_(\d+)\.pth")
REQUIRED = (
    "epoch",
    "model_state_dict",
    "optimizer_state_dict",
    "train_accuracy",
    "test_accuracy",
)
EXTRAS = ("history", "random_states", "config", "data", "run_id")  # what `fit` adds


def epoch_name(epoch: int) -> str:
    """Return the file name of an epoch's checkpoint, counted from 1."""
    return f"mnist_model_epoch_{epoch}.pth"


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
    else:
        text = str(value)
        sha.update(f"{type(value).__name__} {len(text)} {text};".encode())


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({**checkpoint, "digest": digest(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, AttributeError, TypeError, pickle.PicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room, choose another "
            "folder or save plain types; what was there before is untouched"
        ) from error
    finally:
        _remove(temporary)
    return path


def _remove(temporary: Path) -> None:
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about files we are about to refuse
            loaded = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train first, or name another") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds something other than tensors and plain values, or is damaged; "
            "it was not executed: use one that this package has written"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read; it is damaged ({error})") from error
    if not isinstance(loaded, dict) or any(key not in loaded for key in (*REQUIRED, "digest")):
        raise CheckpointError(f"{path} is not a checkpoint of mnist_helpers: its keys differ")
    if loaded.pop("digest") != digest(loaded):
        raise CheckpointError(f"{path} is damaged: its contents do not fit its digest")
    return loaded


def epoch_checkpoints(folder: str | Path) -> list[Path]:
    """Return the epoch checkpoints in a folder, the first epoch first."""
    found = []
    for path in Path(folder).glob("mnist_model_epoch_*.pth"):
        if match := EPOCH_PATTERN.fullmatch(path.name):
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def find_run(config: TrainConfig, source: str = MNIST) -> dict[str, Any] | None:
    """Return the last checkpoint of a finished run with this recipe on these data.

    Parameters
    ----------
    config
        Its `checkpoint_dir` is looked into; epochs and recipe have to be the same.
    source
        The data set, as `DigitDataset.source` names it.

    Returns
    -------
    dict or None
        None where the folder holds no run, an unfinished one, or another one.

    Raises
    ------
    CheckpointError
        The checkpoint is damaged.
    """
    config = config.resolved()
    found = epoch_checkpoints(config.checkpoint_dir) if config.checkpoint_dir else []
    if not found:
        return None
    checkpoint = load_checkpoint(found[-1])
    differences = config.differences(checkpoint.get("config", {}))
    same = not differences and checkpoint.get("data") == source
    return checkpoint if same and checkpoint["epoch"] == config.epochs else None


def move_to_previous(folder: str | Path) -> Path | None:
    """Move an older run's checkpoints out of the way; return where they went.

    They go to `previous/`, or to `previous-2/` and so on where that is taken:
    nothing is overwritten. None where there was nothing to move.
    """
    folder = Path(folder)
    old = [*epoch_checkpoints(folder), *folder.glob(BEST_NAME)]
    if not old:
        return None
    target, number = folder / "previous", 1
    while target.exists():
        number += 1
        target = folder / f"previous-{number}"
    target.mkdir()
    for path in old:
        path.rename(target / path.name)
    return target


def random_states() -> dict[str, Any]:
    """Return the states of all random generators in types a checkpoint can hold."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put all random generators back to where `random_states` found them."""
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
