"""The exercises of notebook 06: ink in uneven light, the box of a digit, its centre of mass."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mnist_helpers.tutorial.exercises.verdicts import is_right, judge_function


def ink_of(row: Any, reach: int) -> Any:
    """Return what each pixel of a row lacks to the lightest one near it, as a fraction."""
    return 1 - row / _ground(row, reach, reach)


def box_of(ink: Any, threshold: float) -> Any:
    """Return left, top, right and bottom of what is above a threshold."""
    rows, columns = np.nonzero(ink > threshold)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def centre_of_mass(image: Any) -> Any:
    """Return row and column of the mean pixel, each counted by its ink."""
    rows, columns = np.indices(image.shape)
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def _ground(row: Any, before: int, after: int, pick: Callable[..., Any] = np.max) -> Any:
    return np.array([pick(row[max(0, i - before) : i + after + 1]) for i in range(len(row))])


# In each the middle, the ends and both ways to look make a difference.
_INK_CASES: list[tuple[Any, ...]] = [
    (np.array([200, 180, 90, 190, 100, 96, 45, 98, 100.0]), 2),
    (np.array([60, 120, 118, 50, 116, 240, 230, 100, 225, 236.0]), 1),
]
_INK = np.array(
    [[0, 0, 0, 0.5, 0, 0, 0, 0],
     [0, 0.4, 0, 0, 0.9, 0, 0, 0],
     [0, 0, 0, 0, 0.7, 0.6, 0, 0],
     [0, 0, 0, 0, 0.5, 0, 0, 0],
     [0, 0, 0, 0, 0.8, 0, 0.47, 0]]
)  # fmt: skip
_BOX_CASES: list[tuple[Any, ...]] = [(_INK, 0.5), (_INK.T, 0.4)]
_CENTRE_CASES: list[tuple[Any, ...]] = [
    (np.array([[0, 0, 0, 0], [0, 1, 0, 2], [0, 0, 0, 5.0]]),),
    (np.array([[0.2, 0, 0.9, 0, 0], [0, 0, 0.8, 0, 0], [0, 0, 0.7, 0.3, 0], [0, 0, 0.6, 0, 0]]),),
]


def box_or_ours(answer: Any) -> Any:
    """Return the reader's `box_of` once it is right, else ours."""
    return answer if is_right(answer, box_of, _BOX_CASES) else box_of


def centre_or_ours(answer: Any) -> Any:
    """Return the reader's `centre_of_mass` once it is right, else ours."""
    return answer if is_right(answer, centre_of_mass, _CENTRE_CASES) else centre_of_mass


def check_ink(answer: Any) -> None:
    """Write the ink of a row of pixels, each measured against the lightest one near it."""
    judge_function(
        answer,
        ink_of,
        _INK_CASES,
        "0 is paper and 1 would be perfectly black, in the light and in the shadow alike.",
        {
            "That's the share of light that comes back: paper has 1. Ink is what is missing.":
                lambda row, reach: 1 - ink_of(row, reach),
            "That's a difference, and in the shadow differences are small. Divide by the ground.":
                lambda row, reach: _ground(row, reach, reach) - row,
            "You divided the difference by 255. Divide it by the ground of that very place.":
                lambda row, reach: (_ground(row, reach, reach) - row) / 255,
            "That's one ground for the whole row. Look only `reach` places to either side.":
                lambda row, reach: 1 - row / row.max(),
            "Your window stops one short on the right: a slice leaves out its end.":
                lambda row, reach: 1 - row / _ground(row, reach, reach - 1),
            "Your window looks to the left only.":
                lambda row, reach: 1 - row / _ground(row, reach, 0),
            "Your window looks to the right only.":
                lambda row, reach: 1 - row / _ground(row, 0, reach),
            "The mean is pulled down by the ink itself. Paper is the *lightest* near it.":
                lambda row, reach: 1 - row / _ground(row, reach, reach, np.mean),
            "The median is paper only if most of the window is. Take the lightest.":
                lambda row, reach: 1 - row / _ground(row, reach, reach, np.median),
            "You divided by the darkest near it; paper is the lightest.":
                lambda row, reach: 1 - row / _ground(row, reach, reach, np.min),
            "That's the ground. Now compare the row with it.":
                lambda row, reach: _ground(row, reach, reach),
            "Upside down: divide the row by the ground, not the ground by the row.":
                lambda row, reach: 1 - _ground(row, reach, reach) / row,
        },
        nearer="For each place `i`, the window is `row[max(0, i - reach) : i + reach + 1]`. "
        "Without `max`, a negative start counts from the other end.",
    )  # fmt: skip


def _of_box(change: Callable[..., Any]) -> Callable[..., Any]:
    """Return a box made of the right one's four sides in another way."""
    return lambda ink, threshold: np.array(change(*box_of(ink, threshold)))


def _of_marks(choose: Callable[..., Any]) -> Callable[..., Any]:
    """Return the box of pixels that are chosen in another way."""
    return lambda ink, threshold: box_of(choose(ink, threshold) * 1.0, 0.5)


def check_box(answer: Any) -> None:
    """Write the box around all ink that is above a threshold."""
    judge_function(
        answer,
        box_of,
        _BOX_CASES,
        "`ink[top:bottom, left:right]` now cuts the digit out, all of it and nothing more.",
        {
            "Your box lacks its last column and its last row. A slice leaves out its end, so right "
            "and bottom are one further.": _of_box(lambda a, b, c, d: (a, b, c - 1, d - 1)),
            "Your box lacks its last column.": _of_box(lambda a, b, c, d: (a, b, c - 1, d)),
            "Your box lacks its last row.": _of_box(lambda a, b, c, d: (a, b, c, d - 1)),
            "Rows and columns are swapped: left and right are columns, and an array's first index "
            "is the row.": _of_box(lambda a, b, c, d: (b, a, d, c)),
            "Rows and columns are swapped, and a slice leaves out its end.":
                _of_box(lambda a, b, c, d: (b, a, d - 1, c - 1)),
            "That's left, right, top, bottom. The order asked for is left, top, right, bottom.":
                _of_box(lambda a, b, c, d: (a, c, b, d)),
            "Those are width and height at the end. Return right and bottom.":
                _of_box(lambda a, b, c, d: (a, b, c - a, d - b)),
            "That's the box of all ink, however faint. Use the threshold.":
                _of_marks(lambda ink, threshold: ink > 0),
            "You took what is *below* the threshold. In grey levels ink is low, but this array "
            "holds ink: more is darker.": _of_marks(lambda ink, threshold: ink < threshold),
            "Ink of just the threshold doesn't count; only what is above it.":
                _of_marks(lambda ink, threshold: ink >= threshold),
            "Take the threshold as it is, not as a share of the darkest ink.":
                _of_marks(lambda ink, threshold: ink > threshold * ink.max()),
        },
        nearer="`rows, columns = np.nonzero(ink > threshold)` lists all pixels above it. You need "
        "the smallest and the largest of each, plus 1 where a slice ends.",
    )  # fmt: skip


def _unweighted(image: Any) -> Any:
    return np.argwhere(image > 0).mean(axis=0)


def _middle_of_box(image: Any) -> Any:
    left, top, right, bottom = box_of(image, 0)
    return np.array([(top + bottom - 1) / 2, (left + right - 1) / 2])


def check_centre(answer: Any) -> None:
    """Write the centre of mass of an image."""
    judge_function(
        answer,
        centre_of_mass,
        _CENTRE_CASES,
        "A pixel counts as much as it has ink, so a long thin tail hardly moves the centre.",
        {
            "Swapped: first the row, then the column.": lambda image: centre_of_mass(image)[::-1],
            "Every pixel with ink counts the same in yours. Darker ones should count more.":
                _unweighted,
            "That's the middle of the box. Weigh every pixel by its ink.": _middle_of_box,
            "You rounded down: `//` drops the fraction. Divide with `/`.":
                lambda image: centre_of_mass(image).astype(int),
            "You rounded. Keep the fraction: rounding comes later.":
                lambda image: centre_of_mass(image).round().astype(int),
            "The first row and the first column have the number 0, not 1.":
                lambda image: centre_of_mass(image) + 1,
            "That's the middle of the sheet, wherever the ink is.":
                lambda image: (np.array(image.shape) - 1) / 2,
            "That's the darkest pixel. All of them should have a say.":
                lambda image: np.array(np.unravel_index(image.argmax(), image.shape)),
            "Those are the sums. Divide them by the sum of all ink.":
                lambda image: centre_of_mass(image) * image.sum(),
            "You divided by the number of pixels. Divide by the sum of all ink.":
                lambda image: centre_of_mass(image) * image.sum() / image.size,
            "You divided by the number of pixels with ink. Divide by the sum of all ink.":
                lambda image: centre_of_mass(image) * image.sum() / (image > 0).sum(),
        },
        nearer="`rows, columns = np.indices(image.shape)` numbers all pixels. The centre's row is "
        "the sum of `rows * image`, divided by the sum of the image.",
    )  # fmt: skip
