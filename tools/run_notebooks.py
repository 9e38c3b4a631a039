"""Execute the notebooks headless, on a calm screen, and make the book of them.

Usage: python tools/run_notebooks.py [--in-place] [NOTEBOOK ...]

Each notebook gets one line, with its place and a bar over its cells; below it runs the bar of
the training that goes on. What else the cells print is in the book.

Without --in-place the executed notebooks (the four of the core, unless you name some) go to
`build/` and into the book there, and the notebooks themselves stay as they are (with
MNIST_HOME set, to `build/` in that folder: the project's can be read-only then). With
it all of them, or those you name, are rewritten, to be committed; if such a run was
interrupted, the next one leaves finished notebooks alone, and training goes on from the
last checkpoint.
MNIST_PROFILE chooses the profile.
"""

# ruff: noqa: E402
import contextlib
import os
import signal
from typing import Any, NoReturn

KERNELS: list[int] = []  # process groups that end with us


def stop(*_: Any) -> NoReturn:
    """End at once, in one line, together with the kernel: what is saved is whole."""
    clear = "\r\033[J" if os.isatty(1) else ""  # the bars, down to the end of the screen
    text = "Stopped. Nothing had begun."
    with contextlib.suppress(Exception):  # while this is still being imported, a NameError
        text = f"Stopped. {what_is_saved()}"
    os.write(1, f"{clear}{text}\n".encode())
    for group in KERNELS:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    os._exit(130)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
if __name__ == "__main__":  # here, as the imports take seconds
    for number in SIGNALS:
        signal.signal(number, stop)
    if os.isatty(1):
        print("Loading PyTorch ...", end="\r", flush=True)  # the next line takes its place

import argparse
import asyncio
import hashlib
import io
import json
import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from book import BookError, build_book
from hygiene import WIDGET
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbclient.util import run_sync
from tqdm.std import tqdm

from mnist_helpers.config import DataSource
from mnist_helpers.data.download import MIRROR_VARIABLE, own_mirror
from mnist_helpers.errors import MnistHelpersError
from mnist_helpers.history import History
from mnist_helpers.machine.progress import in_words, is_terminal
from mnist_helpers.training.checkpoint import load_checkpoint
from mnist_helpers.training.folder import (
    BEST_NAME,
    SIZES,
    epoch_checkpoints,
    move_to_previous,
    owned,
)
from mnist_helpers.tutorial.profiles import (
    PROFILES,
    RESUME_VARIABLE,
    home_folder,
    profile_config,
    project_folder,
    results_folder,
    resume_wanted,
    seen_from_here,
)

PROJECT = project_folder()
BUILD = home_folder() / "build"
BEGAN = time.time()
WRITTEN: list[Path] = []  # the notebooks that this run has finished
LINE = "{{desc}} |{{bar}}| {{percentage:3.0f}}% {}"
WIDTH = 80  # a wider line is no easier to read
ROOM = 3  # at its end, for the ^C that a terminal writes there
LONG_SECONDS = 5.0  # a bar that took less is not worth a line in a log
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # with which bars inside bars move the cursor
# What a bar can do without on a narrow screen, in this order: its blocks, its time.
SPARE = (re.compile(r" *\|[^|]*\| *"), re.compile(r" *[\d:]+<[\d:?]+,? *"))


class Screen:
    """One notebook's line, and below it the bar that its kernel draws.

    Where nobody watches, each bar that took a while becomes a line, and the notebook another.
    """

    def __init__(self, title: str, cells: int) -> None:
        self.title, self.number, self.row, self.is_live = title, 0, "", is_terminal()
        self.heading = ""  # shown while a cell has no bar of its own
        line = LINE.format("{elapsed}")
        self.cells = tqdm(total=cells, desc=title, bar_format=line, **on_screen())
        self.below = tqdm(bar_format="{desc}", leave=False, **on_screen())
        self.row_began = time.monotonic()

    def show(self, text: str) -> None:
        """Show the last bar in what a cell writes: a line that returned to its start."""
        *done, self.row = (self.row + ESCAPES.sub("", text)).split("\n")
        for row in done:
            is_long = time.monotonic() - self.row_began >= LONG_SECONDS
            if "\r" in row and is_long and not self.is_live:
                print(" ", row.rpartition("\r")[2].strip(), flush=True)
            self.row_began = time.monotonic()
        _, is_bar, now = self.row.rpartition("\r")
        self.row = is_bar + now  # not all that it once was
        self.below.set_description_str(fitting(f"  {now.strip() if is_bar else self.heading}"))

    def note_heading(self, cell: Any, **_: Any) -> None:
        headings = re.findall(r"^##+ (.+)", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and headings:
            self.heading = headings[-1]
            self.show("")

    def begin_cell(self, **_: Any) -> None:
        self.number += 1  # as JupyterLab counts

    def end_cell(self, **_: Any) -> None:
        self.show("\n")  # its bar is done
        self.cells.update()

    def end(self, outcome: str) -> None:
        """Leave one whole line."""
        self.below.close()
        self.cells.bar_format = LINE.format(f"{outcome:>5}")
        self.cells.close()
        if not self.is_live:
            print(f"{self.title}  {outcome}", flush=True)


def on_screen() -> dict[str, Any]:
    """Return tqdm's settings for a bar on this screen, which it may not have."""
    size = {"ncols": screen_width() - ROOM, "nrows": 20}  # some terminals say that they have none
    return {"file": sys.stdout, "disable": not is_terminal()} | size


def screen_width() -> int:
    return min(shutil.get_terminal_size().columns, WIDTH)


def fitting(line: str) -> str:
    """Shorten a bar's line to the screen: its numbers stay longest."""
    width = screen_width() - ROOM
    for spare in SPARE:
        if len(line) > width:
            line = spare.sub(" ", line)
    return line[:width]


class CalmClient(NotebookClient):
    """A client that shows bars alone, and leaves signals to us."""

    screen: Screen
    handlers: dict[int, Any]

    async def async_execute(self, *given: Any, **options: Any) -> Any:
        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                self.screen.cells.refresh()

        ticking = asyncio.create_task(tick())
        try:
            return await super().async_execute(*given, **options)
        finally:
            ticking.cancel()
            KERNELS.clear()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    execute = run_sync(async_execute)

    async def async_start_new_kernel(self, **options: Any) -> None:
        for number in SIGNALS:  # what nbclient does with them ends in tracebacks
            with contextlib.suppress(NotImplementedError):  # on Windows it has none
                asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, self.handlers[number])
        await super().async_start_new_kernel(**options)
        group = getattr(self.km and self.km.provisioner, "pgid", None)  # on Windows there are none
        KERNELS.extend([] if group in (None, os.getpgid(0)) else [group])

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "stream":
            self.screen.show(msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)


def execute(notebook: Any, path: Path, screen: Screen) -> None:
    """Fill in the notebook's outputs; raises CellExecutionError if a cell fails."""
    client = CalmClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it warns about TCP on loopback
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=screen.note_heading,
        on_cell_execute=screen.begin_cell,
        on_cell_executed=screen.end_cell,
    )
    client.screen = screen
    client.handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        client.execute()
    finally:
        for cell in notebook.cells:  # when each cell ran is of no use to a reader, and differs
            cell.metadata.pop("execution", None)
            describe_pictures(cell)
            for output in [*cell.get("outputs", [])]:  # a widget is nothing without its kernel
                if output.get("data", {}).pop(WIDGET, None) and len(output.data) == 1:
                    cell.outputs.remove(output)  # what is left names it, in text
        notebook.metadata.pop("widgets", None)


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


def run_one(path: Path, paths: Sequence[Path], profile: str, in_place: bool) -> bool:
    """Execute one of the notebooks and write it; return whether all cells ran."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises whatever its parser does
        print(f"{path} is not a notebook that can be read: {error}", file=sys.stderr)
        return False
    notebook.metadata["mnist_profile"] = profile
    for cell in notebook.cells:  # what an error leaves undone must not show an older run
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    place = f"{paths.index(path) + 1}/{len(paths)}"
    title = f"{place} {title_of(notebook, path):24}"  # so that the bars begin together
    screen = Screen(title, sum(c.cell_type == "code" for c in notebook.cells))
    target = path if in_place else BUILD / path.name
    started = time.perf_counter()
    try:
        execute(notebook, path, screen)
    except (CellExecutionError, DeadKernelError) as error:
        screen.end("stopped by an error")
        target = BUILD / f"{path.stem}_failed.ipynb"
        save(notebook, target)
        say_failure(f"{path.name} failed in cell [{screen.number}]", error, target)
        return False
    seconds = time.perf_counter() - started
    if not resume_wanted():  # after a resume it would be the time of a part
        note_seconds(path.stem, profile, seconds)
    save(notebook, target)
    WRITTEN.append(target)
    screen.end(in_words(seconds))
    return True


def title_of(notebook: Any, path: Path) -> str:
    """Return a notebook's heading, from after its number up to its colon."""
    words = [cell.source for cell in notebook.cells[:1] if cell.cell_type == "markdown"]
    heading = re.match("# (?:\\d+\\. )?([^:\\n]+)", "".join(words))
    return heading[1] if heading else path.stem


def save(notebook: Any, target: Path) -> None:
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(target)


def say_failure(where: str, error: Exception, written: Path) -> None:
    """Say why a cell failed, and where to see more."""
    why = "its Python died, mostly for lack of memory; close other programs"
    if isinstance(error, CellExecutionError):
        why = f"{error.ename}: {error.evalue}"
    print(f"{where}: {why}", file=sys.stderr)
    print(
        f"The whole error is in {seen_from_here(written)}; open it in JupyterLab.", file=sys.stderr
    )


def note_seconds(name: str, profile: str, seconds: float) -> None:
    """Keep how long a notebook took, for tools/record.py."""
    page = BUILD / f"seconds_{profile}.json"
    known = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    page.write_text(json.dumps(known | {name: round(seconds, 1)}, indent=1), "utf-8")


def say_result(profile: str, book: Path | None) -> None:
    """Say what was reached, where the book is, and what to type next."""
    print()
    if trained := new_checkpoint():
        say_accuracy(load_checkpoint(trained))
    if book is None:
        return
    print(f"The book of this run, other notebooks as saved: {book.resolve().as_uri()}\n")
    has_make = "MAKELEVEL" in os.environ
    print("Change and run the notebooks  ", "make lab" if has_make else "jupyter lab notebooks")
    if longer := list(PROFILES)[list(PROFILES).index(profile) + 1 :]:
        size = PROFILES[longer[0]].get("train_limit", SIZES[DataSource.MNIST][0])
        reached = History.load(results_folder() / f"history_{longer[0]}.csv")[-1].test_accuracy
        again = "make run PROFILE" if has_make else "the same with MNIST_PROFILE"
        print(f"Train on {size:,}, reach {reached:.1%}   {again}={longer[0]}")
    print("Read a digit of your own      ", command_to_predict())
    best = trained and trained.with_name(BEST_NAME)
    if best and best.absolute() != Path("model_checkpoints", BEST_NAME).absolute():
        named = shlex.join(["--checkpoint", str(seen_from_here(best))])
        print("  with the network just trained, add", named)


def say_accuracy(last: Mapping[str, Any]) -> None:
    data, source = last["data"], DataSource(last["data"]["train_source"])
    text = (
        f"Trained on {data['train_size']:,} digits of {source.words}, tested on "
        f"{data['test_size']:,}: {last['test_accuracy']:.2%} right."
    )
    if source == DataSource.SAMPLE:
        text += " No mirror had MNIST itself; run this again with internet, or set MNIST_MIRROR."
    print(textwrap.fill(text, screen_width()))


def command_to_predict() -> str:
    """Return the command that reads a picture, as it can be typed here."""
    program = Path(sys.executable).with_name("mnist-helpers")
    words = ["mnist-helpers", "predict", "photo.png"]
    if shutil.which(words[0]) != str(program):  # its environment is not switched on
        words[0] = str(seen_from_here(program))
    return shlex.join(words)


def new_checkpoint() -> Path | None:
    """Return the last epoch's checkpoint if it was written by this run."""
    saved = epoch_checkpoints(checkpoints())
    return saved[-1] if saved and saved[-1].stat().st_mtime >= BEGAN else None


def what_is_saved() -> str:
    """Say what a run that is stopped leaves behind."""
    parts = []
    if WRITTEN:
        names = ", ".join(path.stem for path in WRITTEN)
        parts.append(f"{names} in {seen_from_here(WRITTEN[0].parent)}")
    if trained := new_checkpoint():
        epoch = trained.stem.rpartition("_")[2]
        parts.append(f"epoch {epoch} in {seen_from_here(trained.parent)}")
    in_place = RESUME_VARIABLE in os.environ
    saved, then = ("Saved", "goes on") if in_place else ("Saved to look at", "starts over")
    text = f"{saved}: {'; '.join(parts)}. The next run {then}."
    return text if parts else "No notebook was finished yet."


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
    os.environ["TQDM_NROWS"] = "20"  # in a terminal without rows the kernels' bars would vanish
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
        elif run_one(path, paths, profile, in_place=True):
            unfinished.add(path)
        else:
            return False
    unfinished.finish()
    return True


def make_book() -> Path:
    """Build the book of the notebooks that were executed; return the page to open."""
    for number in SIGNALS:  # Sphinx and its folder go first
        signal.signal(number, signal.default_int_handler)
    waiting = tqdm(bar_format="Making the book ...", leave=False, **on_screen())
    try:
        return build_book(WRITTEN, BUILD / "book")
    except KeyboardInterrupt:
        stop()
    finally:
        waiting.close()


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
    print(f"Running the notebooks, profile {profile}.", flush=True)
    if options.in_place:
        done = run_in_place(paths, profile)
    else:
        done = all(run_one(path, paths, profile, in_place=False) for path in paths)
    if not done:
        return 1
    say_result(profile, None if options.in_place else make_book())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BookError, MnistHelpersError) as wrong:
        sys.exit(f"run_notebooks: {wrong}")
