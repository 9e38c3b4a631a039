"""A run's folder: its checkpoints, the best, which to resume from, moving an older run aside."""

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

from mnist_helpers.config import DataSource, ResolvedConfig, TrainConfig
from mnist_helpers.errors import CheckpointError, DataError
from mnist_helpers.history import History
from mnist_helpers.machine.progress import announce
from mnist_helpers.training.checkpoint import load_checkpoint, save_checkpoint

BEST_NAME = "best_mnist_model.pth"
EPOCH_PATTERN = re.compile(r"mnist_model_epoch_(\d+)\.pth")
# What a run needs to go on, in addition to what every checkpoint holds.
NEEDED_TO_RESUME = {
    "history": list, "random_states": dict, "config": dict, "data": dict, "run_id": str,
}  # fmt: skip


def epoch_name(epoch: int) -> str:
    """Return the file name of an epoch's checkpoint, counted from 1."""
    return f"mnist_model_epoch_{epoch}.pth"


def epoch_checkpoints(folder: str | Path) -> list[Path]:
    """Return the epoch checkpoints in a folder, the first epoch first."""
    found = []
    for path in Path(folder).glob("mnist_model_epoch_*.pth"):
        if match := EPOCH_PATTERN.fullmatch(path.name):
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def find_run(config: TrainConfig, source: DataSource = DataSource.MNIST) -> dict[str, Any] | None:
    """Return the last checkpoint of a finished run of this recipe, from `config.checkpoint_dir`.

    None if the folder holds no run, an unfinished one, or one of other settings or digits.
    Raises CheckpointError if that checkpoint is damaged.
    """
    found = epoch_checkpoints(config.checkpoint_dir) if config.checkpoint_dir else []
    if not found:
        return None
    checkpoint = load_checkpoint(found[-1])
    saved, data = checkpoint.get("config"), checkpoint.get("data")
    if not isinstance(saved, dict) or not isinstance(data, dict):
        return None
    is_same = not config.resolved().differences(saved) and data.get("source") == source
    return checkpoint if is_same and checkpoint["epoch"] == config.epochs else None


def find_checkpoint(path: Path, own_folder: Path | None) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint that a path means: itself, or the last intact one of a folder.

    Only `own_folder`, where the run itself saves, need not exist yet. Raises CheckpointError
    if there is no such file or folder, or the file cannot be read.
    """
    if path.is_file() or path.suffix == ".pth":
        return path, load_checkpoint(path)
    if not path.is_dir() and path != own_folder:
        raise CheckpointError(f"{path} does not exist; name a checkpoint or a folder of them")
    return last_intact_checkpoint(path)


def last_intact_checkpoint(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last epoch's checkpoint that is not damaged, with its path.

    Damaged ones are named along the way. None if the folder holds no checkpoint at all; raises
    CheckpointError if all of them are damaged.
    """
    found = epoch_checkpoints(folder)
    for path in reversed(found):
        try:
            return path, load_checkpoint(path)
        except CheckpointError as error:
            announce(f"{error}. Trying the one before it.")
    if found:
        raise CheckpointError(f"every checkpoint in {folder} is damaged; start a new run")
    return None


def check_fits(
    path: Path, checkpoint: dict[str, Any], config: ResolvedConfig, data: dict[str, Any]
) -> None:
    """Raise CheckpointError, with each setting that differs, unless a run can go on from it."""
    missing = [key for key in NEEDED_TO_RESUME if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: a run cannot go on from it")
    sound = all(isinstance(checkpoint[key], kind) for key, kind in NEEDED_TO_RESUME.items())
    values = [*checkpoint["config"].values(), *checkpoint["data"].values()] if sound else []
    if not sound or not all(
        value is None or isinstance(value, str | float | int) for value in values
    ):
        raise CheckpointError(f"{path} holds values of the wrong type; train again")
    before = checkpoint["data"]
    differences = config.differences(checkpoint["config"]) + [
        f"{name}: {before.get(name)!r} then, {value!r} now"
        for name, value in data.items()
        if before.get(name) != value
    ]
    if differences:
        raise CheckpointError(
            f"{path} was made with a different configuration ({'; '.join(differences)}): "
            "use the same settings, or start a new run"
        )


def read_history(path: Path, checkpoint: dict[str, Any], source: DataSource) -> History:
    """Return a checkpoint's history; raises CheckpointError unless it covers its epochs."""
    try:
        history = History.from_records(checkpoint["history"], source)
    except (DataError, TypeError) as error:
        raise CheckpointError(f"{path} holds no history: {error}") from error
    if history.column("epoch") != list(range(1, checkpoint["epoch"] + 1)):
        raise CheckpointError(f"{path} holds a history that doesn't match its epochs")
    return history


def repair_best(folder: Path, epochs_folder: Path, epoch: int, run_id: str) -> None:
    """Write the best checkpoint again, from its epoch's, if it is another run's or damaged."""
    with contextlib.suppress(CheckpointError):
        best = load_checkpoint(folder / BEST_NAME)
        # One of a later epoch is kept if that epoch is there, though this run starts before it.
        known = best["epoch"] == epoch or (folder / epoch_name(best["epoch"])).is_file()
        if best.get("run_id") == run_id and known:
            return
    try:
        save_checkpoint(folder / BEST_NAME, load_checkpoint(epochs_folder / epoch_name(epoch)))
    except CheckpointError as error:
        announce(f"The best checkpoint, of epoch {epoch}, is lost: {error}")


def make_ready(folder: Path) -> None:
    """Make a folder, see that it can be written, and remove what a killed run left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(
            f"no checkpoints can be written to {folder} ({error}); choose another folder"
        ) from error
    for path in folder.glob(".*.pth.tmp"):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def move_to_previous(folder: str | Path) -> Path | None:
    """Move an older run's checkpoints out of the way; return where they went, if there were any.

    They go to `previous/`, or to `previous-2/` and so on: nothing is overwritten.
    """
    folder = Path(folder)
    old = [*epoch_checkpoints(folder), *folder.glob(BEST_NAME)]
    if not old:
        return None
    target, number = folder / "previous", 1
    while target.exists():
        number += 1
        target = folder / f"previous-{number}"
    try:
        target.mkdir()
        for path in old:
            path.rename(target / path.name)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be changed ({error}); choose another") from error
    return target
