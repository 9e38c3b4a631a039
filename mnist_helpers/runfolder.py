"""The folder of a run: which checkpoints it holds, and what becomes of older ones."""

import re
import tempfile
from pathlib import Path
from typing import Any

from mnist_helpers.checkpoints import load_checkpoint, remove
from mnist_helpers.config import MNIST, TrainConfig
from mnist_helpers.errors import CheckpointError
from mnist_helpers.progress import announce

BEST_NAME = "best_mnist_model.pth"
EPOCH_PATTERN = re.compile(r"mnist_model_epoch_(\d+)\.pth")


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
    saved = checkpoint.get("config")
    differences = config.differences(saved if isinstance(saved, dict) else {})
    same = not differences and checkpoint.get("data") == source
    return checkpoint if same and checkpoint["epoch"] == config.epochs else None


def last_whole_checkpoint(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last epoch's checkpoint that is not damaged, with its path.

    Each damaged one is named on the way; None where the folder holds no checkpoint.

    Raises
    ------
    CheckpointError
        There are some, and all are damaged.
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


def make_ready(folder: Path) -> None:
    """Make a folder, see that it can be written, and remove what a killed run left there.

    Raises
    ------
    CheckpointError
        It cannot be written: said before an epoch is trained for nothing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(
            f"no checkpoints can be written to {folder} ({error}); choose another folder"
        ) from error
    for path in folder.glob(".*.pth.tmp"):
        remove(path)


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
    try:
        target.mkdir()
        for path in old:
            path.rename(target / path.name)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be changed ({error}); choose another") from error
    return target
