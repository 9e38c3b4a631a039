"""Going on from a checkpoint: finding it, and refusing that of another run."""

import contextlib
from pathlib import Path
from typing import Any

from mnist_helpers.checkpoints import load_checkpoint, save_checkpoint
from mnist_helpers.config import TrainConfig
from mnist_helpers.errors import CheckpointError, DataError
from mnist_helpers.history import History
from mnist_helpers.progress import announce
from mnist_helpers.runfolder import BEST_NAME, epoch_name, last_whole_checkpoint

# What a run can go on from, besides what every checkpoint holds.
EXTRAS = ("history", "random_states", "config", "data", "loaders", "run_id")


def find(path: Path, own_folder: Path | None) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint that a path means: itself, or the last whole one of a folder.

    Parameters
    ----------
    path
        A file or a folder.
    own_folder
        Where the run itself saves: the only folder that need not exist yet.

    Raises
    ------
    CheckpointError
        There is no such file or folder, or the file cannot be read.
    """
    if path.is_file() or path.suffix == ".pth":
        return path, load_checkpoint(path)
    if not path.is_dir() and path != own_folder:
        raise CheckpointError(f"{path} does not exist; name a checkpoint or a folder of them")
    return last_whole_checkpoint(path)


def check_fits(
    path: Path,
    checkpoint: dict[str, Any],
    config: TrainConfig,
    source: str,
    loaders: dict[str, Any],
) -> None:
    """Raise unless a run with this recipe, on these data, can go on from a checkpoint.

    Raises
    ------
    CheckpointError
        It lacks something, or names each setting that differs.
    """
    missing = [key for key in EXTRAS if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: a run cannot go on from it")
    kinds = {"config": dict, "loaders": dict, "run_id": str}
    if not all(isinstance(checkpoint[key], kind) for key, kind in kinds.items()):
        raise CheckpointError(f"{path} holds values of the wrong type; train again")
    differences = config.differences(checkpoint["config"])
    if checkpoint["data"] != source:
        differences.append(f"data: {checkpoint['data']!r} then, {source!r} now")
    if {"processes": 1} | checkpoint["loaders"] != loaders:  # older ones were of one
        differences.append(f"loaders: {checkpoint['loaders']} then, {loaders} now")
    if differences:
        raise CheckpointError(
            f"{path} comes from another configuration ({'; '.join(differences)}): "
            "use the same settings, or start a new run"
        )


def history_in(path: Path, checkpoint: dict[str, Any]) -> History:
    """Return a checkpoint's history; raises CheckpointError where it is not one of its epochs."""
    try:
        history = History.from_records(checkpoint["history"], checkpoint["data"])
    except (DataError, TypeError) as error:
        raise CheckpointError(f"{path} holds no history: {error}") from error
    if history.column("epoch") != list(range(1, checkpoint["epoch"] + 1)):
        raise CheckpointError(f"{path} holds a history of other epochs than its own")
    return history


def mend_best(folder: Path, epochs_folder: Path, epoch: int, run_id: str) -> None:
    """Write the best checkpoint again, from its epoch's, where it is another or damaged."""
    with contextlib.suppress(CheckpointError):
        best = load_checkpoint(folder / BEST_NAME)
        # One of a later epoch is kept where that epoch is, though this run starts before it.
        known = best["epoch"] == epoch or (folder / epoch_name(best["epoch"])).is_file()
        if best.get("run_id") == run_id and known:
            return
    try:
        save_checkpoint(folder / BEST_NAME, load_checkpoint(epochs_folder / epoch_name(epoch)))
    except CheckpointError as error:
        announce(f"The best checkpoint, of epoch {epoch}, is lost: {error}")
