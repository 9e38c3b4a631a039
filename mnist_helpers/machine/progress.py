"""Progress bars and announcements: all that the package prints, but for the command line."""

import io
import math
import sys
import time
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, TypeVar

from tqdm.std import tqdm

from mnist_helpers.machine import distributed

# Under 80 columns with all that training adds. Plain text works in a terminal and in a notebook;
# saved widgets stay at 0 % (https://github.com/computationalmodelling/nbval/issues/56).
BAR_FORMAT = "{desc} |{bar:5}| {percentage:3.0f}% {elapsed}<{remaining}{postfix}{whole}"
BYTES_FORMAT = "{desc} |{bar:5}| {percentage:3.0f}% {n_fmt}B{postfix}"
REFRESH_SECONDS = 0.5
Batch = TypeVar("Batch")


class Bar(tqdm):  # type: ignore[type-arg]  # tqdm is generic in its stubs alone
    """tqdm's bar, with `{whole}`: how long this bar and those still to come take in all."""

    repeats = 1  # bars like this one, itself included

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        """The values that a bar's format may name."""
        values = super().format_dict
        values["whole"] = ""
        if self.repeats > 1 and 0 < values["n"] < values["total"]:
            seconds = values["elapsed"] / values["n"] * values["total"] * self.repeats
            values["whole"] = f", all {in_words(seconds)}"
        return values


def announce(text: str) -> None:
    """Print a line at once; of several processes only the first does."""
    if distributed.rank() == 0:
        print(text, flush=True)


def is_live() -> bool:
    """Return whether somebody can watch: stdout is a terminal or a notebook's cell."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    return in_notebook or sys.stdout.isatty()


def open_bar(
    description: str, total: int, bar_format: str = BAR_FORMAT, *, repeats: int = 1
) -> Bar:
    """Start a bar of `total` steps, or of bytes; `close_bar` ends it.

    When nobody is watching it is drawn into memory, so that a log gets one line per bar. If
    `repeats` bars like it make the whole run, it shows how long that will take.
    """
    bar = Bar(
        total=total, desc=description, bar_format=bar_format, mininterval=REFRESH_SECONDS,
        file=sys.stdout if is_live() else io.StringIO(), disable=distributed.rank() > 0,
        unit_scale=bar_format == BYTES_FORMAT, dynamic_ncols=sys.stdout.isatty(),
        ascii="utf" not in (sys.stdout.encoding or "utf-8").lower(),
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
