"""One checkpoint, with all a resume restores: saved whole, checked on loading, never executed."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_helpers.config import as_path
from mnist_helpers.data.idx import digest, open_regular, replacing
from mnist_helpers.errors import CheckpointError, DamagedError
from mnist_helpers.machine.hardware import pick_device

REQUIRED = (
    "epoch", "model_state_dict", "optimizer_state_dict", "train_accuracy", "test_accuracy",
)  # fmt: skip
TRAINED = "trained_state_dict"  # the weights that go on learning, if averaged ones are tested
SCALER = "scaler_state_dict"
PICTURE = "a picture, not a network; to read a digit, type `mnist-helpers predict PICTURE`"
# Files of other kinds: at which byte they hold what, and what to say of them.
OTHER_KINDS: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (8, b'{"', "a safetensors file; read it with `safetensors.torch.load_file`"),
    (0, (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM"), PICTURE), (8, b"WEBP", PICTURE),
)  # fmt: skip


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
    path = as_path(path)
    if missing := [key for key in REQUIRED if key not in checkpoint]:
        raise CheckpointError(f"a checkpoint needs {', '.join(missing)}; save those too")
    content = io.BytesIO()  # torch would hide a full disk, and Ctrl-C, behind errors of its own
    try:
        torch.save({**checkpoint, "digest": digest(checkpoint)}, content)
    except (RuntimeError, AttributeError, TypeError, pickle.PicklingError) as error:
        raise CheckpointError(
            f"{path} was not written: a checkpoint holds tensors and plain types only ({error}); "
            "what was there before is untouched"
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())
            load_checkpoint(temporary)  # only replace the old file once the new one can be read
    except CheckpointError as error:
        reason = str(error).replace(str(temporary), "it")
        reason = f"{path} was not written, because the new file failed its check: {reason}"
        raise CheckpointError(reason) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room, or choose another folder; what was "
            "there before is untouched"
        ) from error
    return path


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint and prove that it is what `save_checkpoint` wrote.

    Nothing in it is executed (`weights_only=True`, with torch 2.10 or newer), and its digest
    must match: otherwise a single flipped bit in the weights would load without a word.

    Raises
    ------
    DamagedError
        The file was read, and isn't whole or isn't what was written.
    CheckpointError
        It is missing, cannot be read, or is not a checkpoint of this package.
    ConfigError
        This machine has no device of the name in `map_location`.
    """
    path = as_path(path)
    return checked(path, read_file(path, pick_device(map_location)))


def checked(path: Path, loaded: Any) -> dict[str, Any]:
    """Return a checkpoint of this package that was just read, less its digest, or raise."""
    keys = loaded if isinstance(loaded, dict) else {}
    if lacking := [key for key in (*REQUIRED, "digest") if key not in keys]:
        raise CheckpointError(
            f"{path} is not a checkpoint of mnist_helpers: it lacks {', '.join(lacking)}. A run "
            "cannot go on from it, but the commands evaluate and predict can use other weights"
        )
    try:
        if keys.pop("digest") != digest(keys):
            raise DamagedError(f"{path} is damaged: its contents do not match its digest")
        _check_values(path, keys)
    except CheckpointError:
        raise
    except Exception as error:  # of values that nobody would save
        raise CheckpointError(f"{path} holds what no checkpoint holds: {error}") from error
    return keys


def read_file(path: Path, device: torch.device) -> Any:
    """Unpack a file that anybody may have made, without executing anything in it."""
    content, damaged = _bytes_of(path), f"{path} is damaged, or was not saved by torch.save"
    for start, beginning, kind in OTHER_KINDS:
        if content.startswith(beginning, start):
            raise CheckpointError(f"{path} is {kind}")
    file = io.BytesIO(content)
    try:
        if content.startswith(b"PK"):  # PyTorch's own reader lets some damage pass
            with zipfile.ZipFile(file) as parts:
                if broken := parts.testzip():
                    raise zipfile.BadZipFile(f"{broken} does not match its checksum")
            file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that are refused below
            return torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        if content.startswith((b"PK", b"\x80")):  # whole, or of PyTorch's format before 1.6
            raise CheckpointError(
                f"{path} holds something other than tensors and plain values, such as a whole "
                "model; it was not executed. Save `model.state_dict()` instead"
            ) from None
        raise DamagedError(damaged) from None
    except Exception as error:  # of damaged archives, nearly anything
        if "TorchScript" in str(error):
            raise CheckpointError(f"{path} is a TorchScript file; save a state_dict") from None
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise CheckpointError(f"{path} cannot be read: not enough memory") from error
        reason = f"{error} ".splitlines()[0]  # the rest tells people to load it unsafely
        raise DamagedError(f"{damaged}: {reason}" if content[:2] == b"PK" else damaged) from None


def _bytes_of(path: Path) -> bytes:
    """Read a whole file; a CheckpointError says why that isn't possible."""
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError as error:
        cure = "name another, or train first (`mnist-helpers train`, or `make run`)"
        raise CheckpointError(f"there is no file {path}; {cure}") from error
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
        cure = "; name a .pth file in it" * (reason == "it is a folder")
        raise CheckpointError(f"{path} cannot be read: {reason}{cure}") from error


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
        raise CheckpointError(f"{path} has weights that are NaN or infinite; train again")


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Put a checkpoint's weights into a model; raises CheckpointError if they don't fit it."""
    weights = checkpoint["model_state_dict"]
    if said := differences(weights, model.state_dict()):
        raise CheckpointError(f"{path} holds a different network: {said}")
    model.load_state_dict(dict(weights))  # without `_metadata`, which no digest covers


def differences(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say which layers of two networks differ, and how."""

    def form(state: Mapping[str, Tensor], name: str) -> str:
        if name not in state:
            return "missing"
        kind = str(state[name].dtype).removeprefix("torch.")
        return f"{kind} {tuple(state[name].shape)}"

    said = [
        f"{name} is {form(weights, name)} in the file, {form(wanted, name)} in the model"
        for name in dict.fromkeys([*weights, *wanted])
        if form(weights, name) != form(wanted, name)
    ]
    return "; ".join(said[:3]) + f"; and {len(said) - 3} more" * (len(said) > 3)
