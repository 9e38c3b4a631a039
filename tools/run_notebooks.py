"""Execute the notebooks headless, showing what their cells print as it comes.

Usage: python tools/run_notebooks.py [--in-place] [NOTEBOOK ...]

Without --in-place the executed notebooks (the four of the core, unless you name some)
and one HTML page each go to `build/`, and the notebooks themselves stay as they are (with
MNIST_HOME set, to `build/` in that folder: the project's can be read-only then). With
it all of them, or those you name, are rewritten, to be committed; if such a run was
interrupted, the next one leaves finished notebooks alone, and training goes on from the
last checkpoint.
MNIST_PROFILE chooses the profile.
"""

# ruff: noqa: E402
import os
import signal
from typing import Any, NoReturn


def stop(*_: Any) -> NoReturn:
    """End at once: what is saved is whole, and the kernel sees that we are gone, and ends too."""
    os.write(1, b"\nStopped. What was finished is saved.\n")
    os._exit(130)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
if __name__ == "__main__":  # here, as the imports take seconds
    for number in SIGNALS:
        signal.signal(number, stop)

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from page import page_of

from mnist_helpers.config import DataSource
from mnist_helpers.data.download import MIRROR_VARIABLE, own_mirror
from mnist_helpers.errors import MnistHelpersError
from mnist_helpers.history import History
from mnist_helpers.training.checkpoint import load_checkpoint
from mnist_helpers.training.folder import BEST_NAME, epoch_checkpoints, move_to_previous, owned
from mnist_helpers.tutorial.profiles import (
    RESUME_VARIABLE,
    home_folder,
    profile_config,
    project_folder,
    resume_wanted,
)

PROJECT = project_folder()
BUILD = home_folder() / "build"


class LoudClient(NotebookClient):
    """A client that writes to this terminal what the cells print, and leaves signals alone."""

    handlers: dict[int, Any]

    async def async_start_new_kernel(self, **options: Any) -> None:
        for number in SIGNALS:  # what nbclient does with them ends in tracebacks
            with contextlib.suppress(NotImplementedError):  # on Windows it has none
                asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, self.handlers[number])
        await super().async_start_new_kernel(**options)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "stream":
            sys.stdout.write(msg["content"]["text"])
            sys.stdout.flush()
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, profile: str) -> Any:
    """Return the notebook with its outputs; raises CellExecutionError if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = LoudClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns about TCP on loopback
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.handlers = {number: signal.getsignal(number) for number in SIGNALS}
    client.execute()
    for cell in notebook.cells:  # when each cell ran is of no use to a reader, and differs
        cell.metadata.pop("execution", None)
        describe_pictures(cell)
    notebook.metadata["mnist_profile"] = profile
    notebook.metadata.pop("widgets", None)
    return notebook


def describe_pictures(cell: Any) -> None:
    """Give a cell's pictures the alternative text that its metadata has."""
    for output in cell.get("outputs", []):
        if "alt" in cell.metadata and "image/png" in output.get("data", {}):
            output.metadata["image/png"] = {"alt": cell.metadata["alt"]}


def source_hash(path: Path) -> str:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()


class Unfinished:
    """What a run in place has finished, in a folder that an interruption leaves behind.

    It goes once all notebooks are done that the run was started for; others may come between.
    """

    def __init__(self, profile: str, paths: Sequence[Path]) -> None:
        self.folder = BUILD / f"unfinished_{profile}"
        self.is_resumed = self.folder.is_dir()
        if not self.is_resumed:
            self.folder.mkdir()
            (self.folder / "wanted").write_text("\n".join(map(str, paths)), "utf-8")

    def has(self, path: Path) -> bool:
        stamp = self.folder / path.stem
        return stamp.is_file() and stamp.read_text() == source_hash(path)

    def add(self, path: Path) -> None:
        (self.folder / path.stem).write_text(source_hash(path))

    def finish(self) -> None:
        wanted = (self.folder / "wanted").read_text("utf-8").splitlines()
        if all(self.has(Path(one)) for one in wanted):
            shutil.rmtree(self.folder)


def run_one(path: Path, profile: str, in_place: bool) -> bool:
    """Execute one notebook; write it and its page; return whether all cells ran."""
    print(f"\n=== {path.name} ===", flush=True)
    started = time.perf_counter()
    try:
        notebook = execute(path, profile)
    except CellExecutionError as error:
        print(f"\n{path.name} failed:\n{error}", file=sys.stderr)
        return False
    seconds = time.perf_counter() - started
    print(f"=== {path.name}: {seconds:.0f} s ===", flush=True)
    if not resume_wanted():  # after a resume it would be the time of a part
        note_seconds(path.stem, profile, seconds)
    target = path if in_place else BUILD / path.name
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)
    (BUILD / f"{path.stem}.html").write_text(page_of(notebook, path.stem), encoding="utf-8")
    return True


def note_seconds(name: str, profile: str, seconds: float) -> None:
    """Keep how long a notebook took, for tools/record.py."""
    page = BUILD / f"seconds_{profile}.json"
    known = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    page.write_text(json.dumps(known | {name: round(seconds, 1)}, indent=1), "utf-8")


def say_result(names: Sequence[str]) -> None:
    """Name the page to open and the accuracy reached: the last lines on the screen."""
    folder = checkpoints()
    saved = epoch_checkpoints(folder)
    if not any(name.startswith("03") for name in names) or not saved:
        return
    for name in names:
        if name.startswith("04"):
            page = os.path.relpath(BUILD / f"{name}.html", PROJECT)
            print(f"\nOpen {page} in a browser to see the curves.")
    last = load_checkpoint(saved[-1])
    source, history = (
        DataSource(last["data"]["train_source"]),
        History.from_records(last["history"]),
    )
    data = "" if source == DataSource.MNIST else f", on {source.words}"
    print(f"Test accuracy after epoch {last['epoch']}, the last: {last['test_accuracy']:.2%}{data}")
    if history.best is not None:
        chosen = f"epoch {history.best.epoch}, chosen by {history.chosen_by} accuracy"
        print(f"{folder / BEST_NAME} holds the best: {chosen}.")


def checkpoints() -> Path:
    """Return where this profile's checkpoints are."""
    folder = profile_config().checkpoint_dir
    assert folder is not None  # every profile has one
    return folder


def prepare_environment(in_place: bool) -> str:
    """Set what the kernels inherit; return the profile."""
    profile = os.environ.setdefault("MNIST_PROFILE", "full" if in_place else "quick")
    mirror = own_mirror()
    if isinstance(mirror, Path):  # the kernels work in another folder
        os.environ[MIRROR_VARIABLE] = str(mirror.resolve())
    profile_config()  # sees now whether all these variables can be used
    # Plots go into the page, whatever backend this terminal is set to.
    os.environ.pop("MPLBACKEND", None)
    return profile


def run_in_place(paths: Sequence[Path], profile: str) -> bool:
    """Rewrite the notebooks, except those that an interrupted run had finished."""
    unfinished = Unfinished(profile, paths)
    os.environ[RESUME_VARIABLE] = str(int(unfinished.is_resumed))
    if not unfinished.is_resumed and any(path.stem.startswith("03") for path in paths):
        with owned(checkpoints()):  # which says so if a run is going on there
            move_to_previous(checkpoints())  # an older run is not to be resumed
    for path in paths:
        if unfinished.has(path):
            print(f"{path.name}: finished before the interruption")
        elif run_one(path, profile, in_place=True):
            unfinished.add(path)
        else:
            return False
    unfinished.finish()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="Execute the notebooks headless.")
    parser.add_argument("--in-place", action="store_true", help="rewrite the notebooks")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the terminal may lack a bar's characters
    profile = prepare_environment(options.in_place)
    BUILD.mkdir(parents=True, exist_ok=True)
    which = "[0-9][0-9]_*.ipynb" if options.in_place else "0[1-4]_*.ipynb"
    paths = [path.resolve() for path in options.notebooks]
    paths = paths or sorted((PROJECT / "notebooks").glob(which))
    if options.in_place:
        done = run_in_place(paths, profile)
    else:
        done = all(run_one(path, profile, in_place=False) for path in paths)
    if done:
        say_result([path.stem for path in paths])
    return 0 if done else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MnistHelpersError as wrong:  # a variable that main reads
        sys.exit(f"run_notebooks: {wrong}")
