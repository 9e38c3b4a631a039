"""A run's folder: its lock, its checkpoints, the best, where to resume, moving others aside."""

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnist_helpers.config import DataSource, ResolvedConfig, TrainConfig
from mnist_helpers.data.idx import replacing
from mnist_helpers.errors import CheckpointError, DamagedError, DataError
from mnist_helpers.history import History
from mnist_helpers.machine.progress import announce
from mnist_helpers.training.checkpoint import load_checkpoint, save_checkpoint

BEST_NAME = "best_mnist_model.pth"
EPOCH_PATTERN = re.compile(r"mnist_model_epoch_(\d+)\.pth")
LOCK_NAME, OWNER_NAME, TRIAL_NAME = ".run.lock", ".run.owner", ".trial.pth"
OLD_SECONDS = 3600.0  # a temporary file as old as that is nobody's any more
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # some drives
# What a run needs to go on, in addition to what every checkpoint holds.
NEEDED_TO_RESUME = {
    "history": list, "random_states": dict, "config": dict, "data": dict, "threads": int,
    "run_id": str,
}  # fmt: skip
SIZES = {DataSource.MNIST: (60_000, 10_000), DataSource.SAMPLE: (4_000, 1_000)}  # train, test


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[int | None]:
    """Prepare a folder for a run and keep other runs out, but not readers; yield its `lock_of`.

    The system's lock ends with its process, however that ends. Raises CheckpointError if another
    run has it, or the folder cannot be written or listed.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _lock(folder, stack)
            stack.callback(_give_up, folder, lock_of(folder))
            with replacing(folder / OWNER_NAME) as temporary:
                temporary.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
            epoch_checkpoints(folder)  # a folder that can't be listed would be overwritten
        except OSError as error:
            raise CheckpointError(
                f"no checkpoints can be written to {folder} ({error}); choose another folder"
            ) from error
        with contextlib.suppress(OSError):
            for path in folder.glob(".*.pth.*.tmp"):  # of a run that was killed
                if path.stat().st_mtime < time.time() - OLD_SECONDS:
                    path.unlink()
        yield lock_of(folder)


def lock_of(folder: Path) -> int | None:
    """Return what tells a folder's lock from one that somebody made there later."""
    path = folder / LOCK_NAME
    return path.stat().st_ino if path.exists() else None


def _give_up(folder: Path, own: int | None) -> None:
    with contextlib.suppress(OSError):
        if lock_of(folder) == own:
            (folder / OWNER_NAME).unlink(missing_ok=True)
            (folder / LOCK_NAME).unlink()


def _lock(folder: Path, stack: contextlib.ExitStack) -> None:
    try:
        # Anyone who can write to the folder can lock it, too.
        stack.enter_context(FileLock(folder / LOCK_NAME, timeout=0, mode=0o666))
    except Timeout as error:
        owner = "another run"
        with contextlib.suppress(OSError, UnicodeError):
            owner = (folder / OWNER_NAME).read_text("utf-8")
        raise CheckpointError(
            f"{owner} is training in {folder}: wait for it to end, stop it, or "
            "choose another folder"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        announce(f"{folder} is on a drive without locks: make sure only one run trains there.")


def epoch_name(epoch: int) -> str:
    """Return the file name of an epoch's checkpoint, counted from 1."""
    return f"mnist_model_epoch_{epoch}.pth"


def epoch_checkpoints(folder: str | Path) -> list[Path]:
    """Return a folder's epoch checkpoints in order; CheckpointError if it can't be listed."""
    try:
        paths = list(Path(folder).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"{folder} cannot be listed: {error.strerror}; check its permissions"
        raise CheckpointError(message) from error
    found = [(int(match[1]), p) for p in paths if (match := EPOCH_PATTERN.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def find_run(config: TrainConfig, source: DataSource = DataSource.MNIST) -> dict[str, Any] | None:
    """Return the last checkpoint of a finished run of this recipe, from `config.checkpoint_dir`.

    None if there is none: no run, an unfinished one, other settings, other or fewer digits.
    Raises CheckpointError if that checkpoint is damaged or cannot be read.
    """
    if not (found := epoch_checkpoints(config.checkpoint_dir) if config.checkpoint_dir else []):
        return None
    checkpoint = load_checkpoint(found[-1])
    saved, data = checkpoint.get("config"), checkpoint.get("data")
    if not (isinstance(saved, dict) and isinstance(data, dict)):
        return None
    wanted: dict[str, Any] = {"train_source": source, "test_source": source}
    if source in SIZES:
        wanted["train_size"] = config.train_limit or SIZES[source][0]
        wanted["test_size"] = config.test_limit or SIZES[source][1]
    with contextlib.suppress(RuntimeError):  # of a tensor in a forged file
        is_same = not config.resolved().differences(saved) and wanted.items() <= data.items()
        return checkpoint if is_same and checkpoint["epoch"] == config.epochs else None
    return None


def find_checkpoint(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint that a path means: itself, or the last intact one of a folder.

    None if the folder holds none. Raises CheckpointError if what it names can't be read.
    """
    try:
        if path.is_dir():
            return last_intact_checkpoint(path)
        if path.exists() or path.suffix == ".pth":
            return path, load_checkpoint(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    raise CheckpointError(f"{path} does not exist; name a checkpoint or a folder of them")


def last_intact_checkpoint(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last epoch's checkpoint that is not damaged, with its path.

    Damaged ones are named along the way. None if the folder holds no checkpoint at all; raises
    CheckpointError if all of them are damaged, or one cannot be read: it may be whole.
    """
    found = epoch_checkpoints(folder)
    for path in reversed(found):
        try:
            return path, load_checkpoint(path)
        except DamagedError as error:
            announce(f"{error}. Trying the one before it.")
    if not found:
        return None
    raise CheckpointError(f"every checkpoint in {folder} is damaged; start a new run")


def check_fits(
    path: Path, checkpoint: dict[str, Any], config: ResolvedConfig, data: dict[str, Any]
) -> None:
    """Raise CheckpointError, with each setting that differs, unless a run can go on from it."""
    if missing := [key for key in NEEDED_TO_RESUME if key not in checkpoint]:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}: a run cannot go on from it")
    sound = all(isinstance(checkpoint[key], kind) for key, kind in NEEDED_TO_RESUME.items())
    if sound:
        values = [*checkpoint["config"].values(), *checkpoint["data"].values()]
        sound = all(value is None or isinstance(value, str | float | int) for value in values)
    if not sound:
        raise CheckpointError(f"{path} holds values of the wrong type; train again")
    before = checkpoint["data"]
    differences = config.differences(checkpoint["config"]) + [
        f"{name}: {before.get(name)!r} then, {value!r} now"
        if not name.endswith("digits")
        else f"other {name.partition('_')[0]} images or labels"
        for name, value in data.items()
        if before.get(name) != value
    ]
    if differences:
        raise CheckpointError(
            f"{path} was made with a different configuration ({'; '.join(differences)}): "
            "use the same settings and data, or start a new run"
        )


def read_history(path: Path, checkpoint: dict[str, Any], source: DataSource) -> History:
    """Return a checkpoint's history; raises CheckpointError unless it covers its epochs."""
    try:
        history = History.from_records(checkpoint["history"], source)
    except (DataError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} lacks a history; a run cannot go on from it") from error
    epochs = [*range(1, len(history) + 1)]
    if len(history) != checkpoint["epoch"] or history.column("epoch") != epochs:
        raise CheckpointError(f"{path} holds a history that doesn't match its epochs")
    return history


def repair_best(folder: Path, epochs_folder: Path, history: History) -> None:
    """Copy the best epoch's checkpoint over the best one if that is lost, damaged or another."""
    if history.best is None:
        return
    path, epoch = folder / BEST_NAME, history.best.epoch
    try:
        if path.exists() and load_checkpoint(path)["epoch"] == epoch:
            return
    except DamagedError as error:
        announce(f"{error}. Writing it again.")
    try:
        save_checkpoint(path, load_checkpoint(epochs_folder / epoch_name(epoch)))
    except CheckpointError as error:
        announce(f"The best checkpoint, of epoch {epoch}, is lost: {error}")


def move_to_previous(folder: str | Path, run_id: str | None = None) -> Path | None:
    """Move the checkpoints of other runs out of the way; return where they went, if any did.

    They go to `previous/`, or to `previous-2/` and so on. Those of `run_id`, and damaged ones
    beside these, stay.
    """
    folder = Path(folder)
    found = [*epoch_checkpoints(folder), *folder.glob(BEST_NAME)]
    old = [path for path in found if run_id is None or _is_another_run(path, run_id)]
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
        for path in old:  # all of them, or none
            with contextlib.suppress(OSError):
                (target / path.name).rename(path)
        raise CheckpointError(f"{folder} cannot be changed ({error}); choose another") from error
    return target


def _is_another_run(path: Path, run_id: str) -> bool:
    with contextlib.suppress(DamagedError):
        return bool(load_checkpoint(path).get("run_id") != run_id)
    return False
