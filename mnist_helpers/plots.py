"""Figures: accuracy curves, sheets of digits, answers, a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_helpers.machine.progress import show_plots_in_page

show_plots_in_page()  # before matplotlib is loaded: then it takes what MPLBACKEND says

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from mnist_helpers.config import DataSource, as_path
from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.history import History

# Colours of Okabe and Ito's palette for colour-blind readers (Nature Methods 8, 441, 2011),
# far apart in lightness too, so that a grey print tells them apart.
TRAIN_COLOUR, TEST_COLOUR, BEST_COLOUR = "#56B4E9", "#004D7A", "#D55E00"
STYLES = {
    "train": {"color": TRAIN_COLOUR, "linestyle": "--", "marker": "o", "label": "training"},
    "validation": {"color": "#009E73", "linestyle": ":", "marker": "^", "label": "validation"},
    "test": {"color": TEST_COLOUR, "linestyle": "-", "marker": "s", "label": "test"},
}


def plot_history(history: History, axes: Sequence[Axes] | None = None) -> np.ndarray:
    """Draw loss and accuracy, epoch by epoch, side by side; return the two axes, loss first.

    The loss has a logarithmic scale, and the accuracy axis leaves out the first training
    accuracy if it is far below the others, so that the late epochs can be told apart.

    Raises InputError if the history is empty, or if there are not exactly two axes.
    """
    best = history.best
    if best is None:
        raise InputError("the history is empty; train at least one epoch")
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    pair = np.asarray(axes, dtype=object).ravel()
    if len(pair) != 2:
        raise InputError(f"plot_history draws on two axes, got {len(pair)}")
    data = "" if history.source == DataSource.MNIST else f"\n({history.source.words})"
    chosen = history.chosen_by
    for ax, quantity in zip(pair, ("loss", "accuracy"), strict=True):
        for part, style in STYLES.items():
            if part in ("train", "test", chosen):
                column = history.column(f"{part}_{quantity}")
                size = 4 if len(history) > 1 else 10  # a single point has no line to be seen by
                ax.plot(history.column("epoch"), column, markersize=size, **style)
        if len(history) > 1:  # nor anything to be better than
            height, label = getattr(best, f"{chosen}_{quantity}"), f"best epoch ({best.epoch})"
            ax.plot(best.epoch, height, "*", color=BEST_COLOUR, markersize=14, label=label)
        ax.legend()
        ax.set(title=f"{quantity.capitalize()}{data}", xlabel="epoch", ylabel=quantity)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(alpha=0.3)
    _scale(pair, history)
    return pair


def _scale(axes: np.ndarray, history: History) -> None:
    """Choose scales on which a first epoch does not squeeze all others together."""
    losses = np.array([*history.column("train_loss"), *history.column("test_loss")])
    if (losses > 0).any():
        axes[0].set_yscale("log")
        if losses[losses > 0].min() > 1e-4:  # else every tick of 1, 2 and 5 would be too many
            axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].yaxis.set_major_formatter("{x:g}")
        axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    first, *others = history.column("train_accuracy")
    others += history.column("test_accuracy")
    others += [accuracy for accuracy in history.column("validation_accuracy") if accuracy]
    room = max(others) - min(others)
    if len(history) > 1 and first < min(others) - 0.3 * room:
        axes[1].set_ylim(min(others) - 0.3 * room, max(others) + 0.1 * room)


def save_history_plot(history: History, path: str | Path) -> Path:
    """Draw the curves into a PNG file, without a screen; return its path.

    It looks the same everywhere: no backend and no matplotlibrc has a say in it.

    Raises InputError if the history is empty, ConfigError if the file can't be written.
    """
    path = as_path(path)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(10, 4), layout="constrained")  # not pyplot's: nothing to close
        plot_history(history, figure.subplots(1, 2))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, format="png", dpi=150)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error}); name another file") from error
    return path


def plot_digits(
    images: Sequence[Any], titles: Sequence[str] | None = None, axes: np.ndarray | None = None,
    columns: int = 5,
) -> np.ndarray:  # fmt: skip
    """Draw digits in a sheet, black ink on white; return the axes, one per image.

    `images` are (N, 28, 28) or (N, 1, 28, 28), on any scale; larger is more ink. `titles` are
    as many strings, `axes` at least as many axes to draw on; None makes a new figure, with at
    most `columns` digits side by side.
    """
    pictures = np.asarray(images)
    if pictures.size == 0 or pictures.shape[-2:] != (28, 28):
        raise InputError(f"plot_digits takes images of 28x28, got shape {pictures.shape}")
    pictures = pictures.reshape(-1, 28, 28)
    if titles is not None and len(titles) != len(pictures):
        raise InputError(f"{len(pictures)} images need as many titles, got {len(titles)}")
    if axes is None:
        columns = min(columns, len(pictures))
        rows = -(-len(pictures) // columns)
        side = min(1.5, 8 / columns)  # inches: large enough to judge, and as wide as a page
        size = (columns * side, rows * (side + (0.3 if titles is not None else 0)))
        _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    axes = np.asarray(axes)
    if axes.size < len(pictures):
        raise InputError(f"{len(pictures)} images need as many axes, got {axes.size}")
    for ax in axes.flat:
        ax.set_axis_off()
    for number, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        ax.imshow(picture, cmap="gray_r")
        if titles is not None:
            ax.set_title(titles[number], fontsize=10, loc="center", pad=4)
    return axes


def plot_answers(probabilities: Any, label: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw what a network believes, ten probabilities in per cent; return the axes.

    `probabilities` are (10,), fractions; the bar of the right answer, `label`, is marked.
    """
    heights = np.asarray(probabilities, dtype=float)
    if heights.shape != (10,):
        raise InputError(f"plot_answers takes ten probabilities, got shape {heights.shape}")
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
    colours = [BEST_COLOUR if digit == label else TEST_COLOUR for digit in range(10)]
    ax.bar_label(ax.bar(range(10), heights, color=colours), fmt=_in_per_cent, fontsize=9)
    ax.set(xlabel="digit", ylabel="probability", xticks=range(10), ylim=(0, 1.12))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    return ax


def _in_per_cent(fraction: float) -> str:
    """Write a probability above its bar; nothing where it would be 0 %."""
    return f"{fraction:.0%}" if fraction >= 0.005 else ""


def plot_confusion(
    labels: Sequence[int], predictions: Sequence[int], ax: Axes | None = None
) -> Axes:
    """Draw `confusion_matrix`, right answers uncoloured, and return the axes."""
    counts = confusion_matrix(labels, predictions)
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 5.6), layout="constrained")
    mistakes = counts * (1 - np.eye(10, dtype=int))  # else the diagonal hides them all
    most = max(1, mistakes.max())
    ax.imshow(mistakes, cmap="Oranges", vmax=most)
    for (row, column), count in np.ndenumerate(counts):
        weight = "bold" if row == column else "normal"
        colour = "white" if mistakes[row, column] > 0.65 * most else "black"
        text = ax.text(column, row, f"{count or '·'}", color=colour, weight=weight, fontsize=9)
        text.set(ha="center", va="center")
    right, total = np.trace(counts), counts.sum()
    ax.set(title=f"{total - right:,} mistakes in {total:,} ({right / total:.2%} right)")
    ax.set(xlabel="what the network said", ylabel="what it is", xticks=range(10), yticks=range(10))
    return ax


def confusion_matrix(labels: Sequence[int], predictions: Sequence[int]) -> np.ndarray:
    """Return counts (10, 10): a row per digit, a column per answer, both from 0 to 9."""
    rows, columns = np.asarray(labels), np.asarray(predictions)
    if rows.shape != columns.shape or rows.ndim != 1 or not len(rows):
        raise InputError(f"labels and predictions must pair up: {rows.shape}, {columns.shape}")
    for values in (rows, columns):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 9:
            raise InputError("labels and predictions must be whole numbers from 0 to 9")
    return np.bincount(10 * rows + columns, minlength=100).reshape(10, 10)
