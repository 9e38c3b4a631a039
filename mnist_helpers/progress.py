"""Progress bars and announcements; no other module of the package but `cli` prints."""

import io
import math
import sys
import time
from collections.abc import Iterable, Iterator

from tqdm.std import tqdm

from mnist_helpers import workers

# One fixed form, under 80 columns with everything that training adds. Plain text on
# stdout works alike in a terminal, in JupyterLab and in a saved notebook, where the
# widget bars of tqdm.notebook stay at 0 % (https://github.com/computationalmodelling/nbval/issues/56).
BAR_FORMAT = "{desc} |{bar:5}| {percentage:3.0f}% {elapsed}<{remaining}{postfix}"
BYTES_FORMAT = "{desc} |{bar:5}| {percentage:3.0f}% {n_fmt}B{postfix}"
REFRESH_SECONDS = 0.5


def announce(text: str) -> None:
    """Print a line, at once; of several processes only the first does."""
    if workers.rank() == 0:
        print(text, flush=True)


def is_live() -> bool:
    """Tell whether somebody can watch: stdout is a terminal or a notebook's cell."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    return in_notebook or sys.stdout.isatty()


def open_bar(description: str, total: int, bar_format: str = BAR_FORMAT) -> tqdm:
    """Start a bar on stdout; `close_bar` ends it.

    Where nobody watches it is drawn into memory, so that a log holds one line a bar.

    Parameters
    ----------
    description
        Stands before the bar.
    total
        Steps, or bytes with `BYTES_FORMAT`.
    bar_format
        What tqdm's option of that name takes.
    """
    return tqdm(
        total=total,
        desc=description,
        file=sys.stdout if is_live() else io.StringIO(),
        bar_format=bar_format,
        mininterval=REFRESH_SECONDS,
        unit_scale=bar_format == BYTES_FORMAT,
        ascii="utf" not in (sys.stdout.encoding or "utf-8").lower(),
        dynamic_ncols=sys.stdout.isatty(),
        disable=workers.rank() > 0,
    )


def watched(batches: Iterable, count: int, bar: tqdm, text: str) -> Iterator:
    """Give `count` batches on, one by one, and say behind a bar what part of them is done."""
    drawn = -math.inf
    for number, batch in enumerate(batches):
        due = time.monotonic() - drawn >= REFRESH_SECONDS
        bar.set_postfix_str(f"{text} {number / count:.0%}", refresh=due)
        drawn = time.monotonic() if due else drawn
        yield batch


def close_bar(bar: tqdm, text: str = "") -> None:
    """Write the last text behind a bar and leave it as one whole line."""
    if bar.disable:
        return
    bar.set_postfix_str(text, refresh=False)
    bar.refresh()
    if not is_live():
        announce(str(bar))
    bar.close()


def in_words(seconds: float) -> str:
    """Return a time as a reader would say it: "0.4 s", "40 s", "6 min", "1 h 30 min"."""
    if seconds < 9.95:  # above it would be "10.0 s"
        return f"{max(0.1, seconds):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
