"""Execute the notebooks headless, with what their cells print shown as it comes.

Usage: python tools/run_notebooks.py [--in-place] [NOTEBOOK ...]

Without --in-place the executed notebooks (the four of the core, unless some are named)
and one HTML page each go to `build/`, and the notebooks themselves stay as they are. With
it all of them, or those named, are rewritten, to be committed; when such a run was
interrupted, the next one leaves alone what it had finished, and its training goes on from
the last checkpoint.
MNIST_PROFILE chooses the profile.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from page import page_of

from mnist_helpers.checkpoints import load_checkpoint
from mnist_helpers.config import MNIST
from mnist_helpers.mirrors import MIRROR_VARIABLE
from mnist_helpers.profiles import RESUME_VARIABLE, profile_config, project_folder, resume_wanted
from mnist_helpers.runfolder import BEST_NAME, move_to_previous

PROJECT = project_folder()
BUILD = PROJECT / "build"


class LoudClient(NotebookClient):
    """A client that also writes to this terminal what the cells print."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            sys.stdout.write(msg["content"]["text"])
            sys.stdout.flush()
        return super().process_message(msg, cell, cell_index)


def execute(path, profile):
    """Return the notebook with its outputs; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = LoudClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns of TCP on loopback
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    for cell in notebook.cells:  # when each cell ran is of no use to a reader, and differs
        cell.metadata.pop("execution", None)
    notebook.metadata["mnist_profile"] = profile
    notebook.metadata.pop("widgets", None)
    return notebook


def source_hash(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()


class Unfinished:
    """What an interrupted run in place had finished: a folder that is there until the end.

    The end is when all notebooks are done that it was begun for; others may come between.
    """

    def __init__(self, profile, paths):
        self.folder = BUILD / f"unfinished_{profile}"
        self.is_resumed = self.folder.is_dir()
        if not self.is_resumed:
            self.folder.mkdir()
            (self.folder / "wanted").write_text("\n".join(map(str, paths)), "utf-8")

    def has(self, path):
        stamp = self.folder / path.stem
        return stamp.is_file() and stamp.read_text() == source_hash(path)

    def add(self, path):
        (self.folder / path.stem).write_text(source_hash(path))

    def finish(self):
        wanted = (self.folder / "wanted").read_text("utf-8").splitlines()
        if all(self.has(Path(one)) for one in wanted):
            shutil.rmtree(self.folder)


def run_one(path, profile, in_place):
    """Execute one notebook and write it; return where to, or None where a cell failed."""
    print(f"\n=== {path.name} ===", flush=True)
    started = time.perf_counter()
    try:
        notebook = execute(path, profile)
    except CellExecutionError as error:
        print(f"\n{path.name} failed:\n{error}", file=sys.stderr)
        return None
    seconds = time.perf_counter() - started
    print(f"=== {path.name}: {seconds:.0f} s ===", flush=True)
    if not resume_wanted():  # or it is the time of a part
        note_seconds(path.stem, profile, seconds)
    target = path if in_place else BUILD / path.name
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)
    return target


def write_page(path):
    notebook = nbformat.read(path, as_version=4)
    (BUILD / f"{path.stem}.html").write_text(page_of(notebook, path.stem), encoding="utf-8")


def note_seconds(name, profile, seconds):
    """Keep how long a notebook took, for tools/record.py."""
    page = BUILD / f"seconds_{profile}.json"
    known = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    page.write_text(json.dumps(known | {name: round(seconds, 1)}, indent=1), "utf-8")


def say_result(pages):
    """Name the page to open and the accuracy reached, the last things on the screen."""
    best = profile_config().checkpoint_dir / BEST_NAME
    if not any(page.stem.startswith("03") for page in pages) or not best.is_file():
        return
    checkpoint = load_checkpoint(best)
    data = "" if checkpoint["data"] == MNIST else f", on the {checkpoint['data']}"
    for page in pages:
        if page.stem.startswith("04"):
            print(f"\nOpen {page.relative_to(PROJECT)} in a browser to see the curves.")
    print(f"Test accuracy reached: {checkpoint['test_accuracy']:.2%}{data}")


def main():
    parser = argparse.ArgumentParser(description="Execute the notebooks headless.")
    parser.add_argument("--in-place", action="store_true", help="rewrite the notebooks")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args()
    profile = os.environ.setdefault("MNIST_PROFILE", "full" if options.in_place else "quick")
    sys.stdout.reconfigure(errors="replace")  # a bar may not fit the terminal's letters
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if mirror and "://" not in mirror:  # the kernels work in another folder
        os.environ[MIRROR_VARIABLE] = str(Path(mirror).resolve())
    # Plots go into the page, whatever backend this terminal is set to.
    os.environ.pop("MPLBACKEND", None)
    BUILD.mkdir(exist_ok=True)
    which = "[0-9][0-9]_*.ipynb" if options.in_place else "0[1-4]_*.ipynb"
    paths = [p.resolve() for p in options.notebooks]
    paths = paths or sorted((PROJECT / "notebooks").glob(which))
    if options.in_place:
        unfinished = Unfinished(profile, paths)
        os.environ[RESUME_VARIABLE] = str(int(unfinished.is_resumed))
        if not unfinished.is_resumed and any(path.stem.startswith("03") for path in paths):
            move_to_previous(profile_config().checkpoint_dir)  # an older run is not to be resumed
    for path in paths:
        if options.in_place and unfinished.has(path):
            print(f"{path.name}: finished before the interruption")
            continue
        written = run_one(path, profile, options.in_place)
        if written is None:
            return 1
        if options.in_place:
            unfinished.add(path)
        write_page(written)
    if options.in_place:
        unfinished.finish()
    say_result([BUILD / f"{path.stem}.html" for path in paths])
    return 0


if __name__ == "__main__":
    sys.exit(main())
