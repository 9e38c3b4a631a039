"""Progress bars, announcements, a notebook's plots: all that shows, but for the command line."""

import io
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, TypeVar

from tqdm.std import tqdm

from mnist_helpers.machine import distributed

# Plain text works in a terminal and in a notebook; saved widgets stay at 0 %
# (https://github.com/computationalmodelling/nbval/issues/56).
BAR_FORMAT = "{desc} |{bar:5}| {percentage:3.0f}% {elapsed}<{remaining}{postfix}{whole}"
BYTES_FORMAT = "{desc} |{bar:5}| {percentage:3.0f}% {n_fmt}B{postfix}"
# What a line too long for its place loses, in this order, while it runs and when it is done.
LIVE_CUTS = (("bar:5", "bar:3"), (" |{bar:3}|", ""), ("<{remaining}", ""), (" {elapsed}", ""))
DONE_CUTS = (("<{remaining}", ""), (" |{bar:5}| {percentage:3.0f}%", ""), (" {elapsed}", ""))
COLUMNS = 60  # of a place that doesn't tell its width: a notebook, a log
REFRESH_SECONDS = 0.5
PAGE_BACKENDS = ("inline", "notebook", "nbagg", "ipympl", "widget", "webagg")
Batch = TypeVar("Batch")


class Bar(tqdm):  # type: ignore[type-arg]  # tqdm is generic in its stubs alone
    """tqdm's bar, with `{whole}`: how long this bar and those still to come take in all.

    It fits its line: the bar shrinks, then goes, and no number is ever cut or wrapped.
    """

    repeats = 1  # bars like this one, itself included
    monitor_interval = 0  # no thread to watch it: a bar that looks at each step needs none

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        """The values that a bar's format may name."""
        values = super().format_dict
        values["whole"] = ""
        if self.repeats > 1 and 0 < values["n"] < values["total"]:
            seconds = values["elapsed"] / values["n"] * values["total"] * self.repeats
            values["whole"] = f", all {in_words(seconds)}"
        width, values["ncols"] = values["ncols"] or COLUMNS, None  # tqdm would cut a number
        cuts = DONE_CUTS if values["n"] >= values["total"] else LIVE_CUTS
        words = (values["postfix"] or "").split()  # in pairs, the newest last: "test 98.00%"
        for first in range(0, len(words) + 1, 2):
            values["postfix"], values["bar_format"] = " ".join(words[first:]), self.bar_format
            for cut in (("", ""), *cuts):
                values["bar_format"] = values["bar_format"].replace(*cut)
                if len(self.format_meter(**values)) <= width:
                    return values
        return values


def announce(text: str) -> None:
    """Print a line at once; of several processes only the first does.

    A stdout that takes no text (closed, on a full disk, an object without `flush`) is no reason
    to end an hour of training. A pipe that nobody reads any more is, as for every command.
    """
    if distributed.rank() > 0:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode(), flush=True)
    except (OSError, ValueError, AttributeError):
        pass


def is_live() -> bool:
    """Return whether somebody can watch: stdout is a terminal or a notebook's cell."""
    return in_notebook() or is_terminal()


def in_notebook() -> bool:
    """Return whether a notebook's cell shows what is printed."""
    return type(sys.stdout).__module__.startswith("ipykernel")


def is_terminal() -> bool:
    """Return whether stdout is a terminal; it may also be None, closed, or of another's making."""
    try:
        return bool(sys.stdout.isatty())
    except (AttributeError, ValueError):
        return False


def show_plots_in_page() -> None:
    """In a notebook, let plots go into the page, whatever MPLBACKEND says in the shell.

    Agg, meant for a shell without a screen, would make them vanish without a word. What draws
    into a page stays, and `%matplotlib` still chooses anything.
    """
    name = os.environ.get("MPLBACKEND", "").lower()
    in_page = not name or name.startswith("module://") or name in PAGE_BACKENDS
    if in_page or not in_notebook():
        return
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    if "matplotlib" in sys.modules:  # too late for the variable
        sys.modules["IPython"].get_ipython().run_line_magic("matplotlib", "inline")


def open_bar(
    description: str, total: int, bar_format: str = BAR_FORMAT, *, repeats: int = 1
) -> Bar:
    """Start a bar of `total` steps, or of bytes; `close_bar` ends it.

    When nobody is watching it is drawn into memory, so that a log gets one line per bar. If
    `repeats` bars like it make the whole run, it shows how long that will take.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    bar = Bar(
        total=total, desc=description, bar_format=bar_format, mininterval=REFRESH_SECONDS,
        file=sys.stdout if is_live() else io.StringIO(), disable=distributed.rank() > 0,
        unit_scale=bar_format == BYTES_FORMAT, dynamic_ncols=is_terminal(), ncols=COLUMNS,
        miniters=1, ascii="utf" not in encoding.lower(),
    )  # fmt: skip
    bar.repeats = repeats
    return bar


def with_progress(batches: Iterable[Batch], count: int, bar: Bar, text: str) -> Iterator[Batch]:
    """Yield `count` batches, and show after the bar what share of them is done."""
    drawn = -math.inf
    for number, batch in enumerate(batches):
        due = time.monotonic() - drawn >= REFRESH_SECONDS
        bar.set_postfix_str(f"{text} {number / count:.0%}", refresh=due)
        drawn = time.monotonic() if due else drawn
        yield batch


def advancing(batches: Iterable[Batch], bar: Bar) -> Iterator[Batch]:
    """Yield batches, and move the bar on by one after each."""
    for batch in batches:
        yield batch
        bar.update(1)


def close_bar(bar: Bar, text: str = "") -> None:
    """Write the last text after a bar and leave it as one whole line."""
    if bar.disable:
        return
    bar.repeats = 1
    bar.set_postfix_str(text, refresh=False)
    bar.refresh()
    if not is_live():
        announce(str(bar))
    bar.close()


def in_words(seconds: float) -> str:
    """Return a time as people say it: "0.4 s", "40 s", "6 min", "1 h 30 min"."""
    if seconds < 9.95:  # above it would be "10.0 s"
        return f"{max(0.1, seconds):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
