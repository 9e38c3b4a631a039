"""The exercises of notebook 06: right answers, typical mistakes, nonsense."""

import numpy as np
import torch
from scipy import ndimage

from mnist_helpers.tutorial.exercises import own as exercises
from tests.exercising import Liar, try_function


def ink_of(row, reach):
    ground = [max(row[max(0, i - reach) : i + reach + 1]) for i in range(len(row))]
    return 1 - row / np.array(ground)


def ink_by_scipy(row, reach):
    ground = ndimage.maximum_filter(row, 2 * reach + 1)
    return (ground - row) / ground


def ink_by_loop(row, reach):
    ink = []
    for i, level in enumerate(row):
        near = [row[j] for j in range(len(row)) if abs(j - i) <= reach]
        ink.append(round(1 - level / max(near), 2))
    return ink


def by_window(start, stop, pick=max):
    """Return an `ink_of` with another window, or another choice of ground."""

    def function(row, reach):
        places = range(len(row))
        ground = [pick(row[max(0, i - start(reach)) : i + stop(reach)]) for i in places]
        return 1 - row / np.array(ground)

    return function


def same(reach):
    return reach


def one_more(reach):
    return reach + 1


def test_ink_is_judged(capsys, monkeypatch):
    wrongs = {
        "the share of light": lambda row, reach: 1 - ink_of(row, reach),
        "a difference": lambda row, reach: ndimage.maximum_filter(row, 2 * reach + 1) - row,
        "by 255": lambda row, reach: (ndimage.maximum_filter(row, 2 * reach + 1) - row) / 255,
        "one ground for the whole row": lambda row, reach: 1 - row / max(row),
        "one short on the right": by_window(same, same),
        "to the left only": by_window(same, lambda reach: 1),
        "to the right only": by_window(lambda reach: 0, one_more),
        "The mean is pulled down": by_window(same, one_more, np.mean),
        "The median": by_window(same, one_more, np.median),
        "the darkest near it": by_window(same, one_more, min),
        "That's the ground": lambda row, reach: ndimage.maximum_filter(row, 2 * reach + 1),
        "Upside down": lambda row, reach: 1 - 1 / (1 - ink_of(row, reach)),
        "ValueError": lambda row, reach: 1 - row / [
            max(row[i - reach : i + reach + 1]) for i in range(len(row))
        ],
        "is right": by_window(lambda reach: 2 * reach, one_more),
    }  # fmt: skip
    rights = [ink_of, ink_by_scipy, ink_by_loop, lambda *case: torch.tensor(ink_of(*case))]
    try_function(capsys, monkeypatch, exercises.check_ink, rights, wrongs)


def box_of(ink, threshold):
    rows, columns = np.nonzero(ink > threshold)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def box_by_axes(ink, threshold):
    marked = ink > threshold
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def box_by_loop(ink, threshold):
    places = [place for place, value in np.ndenumerate(ink) if value > threshold]
    rows, columns = zip(*places, strict=True)
    return torch.tensor([min(columns), min(rows), max(columns) + 1, max(rows) + 1])


def box_by_scipy(ink, threshold):
    ((rows, columns),) = ndimage.find_objects((ink > threshold).astype(int))
    return columns.start, rows.start, columns.stop, rows.stop


def inclusive(ink, threshold):
    rows, columns = np.nonzero(ink > threshold)
    return columns.min(), rows.min(), columns.max(), rows.max()


def swapped(ink, threshold):
    x, y = np.nonzero(ink > threshold)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def swapped_inclusive(ink, threshold):
    x, y = np.nonzero(ink > threshold)
    return x.min(), y.min(), x.max(), y.max()


def of_sides(order):
    return lambda ink, threshold: order(*box_of(ink, threshold))


def test_a_box_is_judged(capsys, monkeypatch):
    wrongs = {
        "its last column and its last row": inclusive,
        "lacks its last column.": of_sides(lambda a, b, c, d: (a, b, c - 1, d)),
        "lacks its last row.": of_sides(lambda a, b, c, d: (a, b, c, d - 1)),
        "are swapped: left": swapped,
        "are swapped, and a slice": swapped_inclusive,
        "left, right, top, bottom. The": of_sides(lambda a, b, c, d: (a, c, b, d)),
        "width and height": of_sides(lambda a, b, c, d: (a, b, c - a, d - b)),
        "however faint": lambda ink, threshold: box_of(ink, 0),
        "more is darker": lambda ink, threshold: box_of(-ink, -threshold),
        "just the threshold": lambda ink, threshold: box_of(ink >= threshold, 0),
        "a share of the darkest": lambda ink, threshold: box_of(ink, threshold * ink.max()),
        "and [4, 1, 6, 5] is right": lambda ink, threshold: ink > threshold,
        "ndarray of shape": lambda ink, threshold: ink[1:5, 3:5].repeat(4),
    }
    rights = [box_of, box_by_axes, box_by_loop, box_by_scipy]
    try_function(capsys, monkeypatch, exercises.check_box, rights, wrongs)


def centre_of_mass(image):
    rows, columns = np.indices(image.shape)
    total = image.sum()
    return (rows * image).sum() / total, (columns * image).sum() / total


def centre_by_means(image):
    weights = image / image.sum()
    row = weights.sum(axis=1) @ np.arange(image.shape[0])
    return [round(row, 2), round(weights.sum(axis=0) @ np.arange(image.shape[1]), 2)]


def centre_by_loop(image):
    total = row = column = 0.0
    for (y, x), value in np.ndenumerate(image):
        total, row, column = total + value, row + y * value, column + x * value
    return torch.tensor([row / total, column / total])


def of_sums(divide):
    def function(image):
        rows, columns = np.indices(image.shape)
        sums = (rows * image).sum(), (columns * image).sum()
        return [divide(total, image) for total in sums]

    return function


def middle_of_box(image):
    rows, columns = np.nonzero(image)
    return (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2


def test_a_centre_is_judged(capsys, monkeypatch):
    wrongs = {
        "first the row": lambda image: centre_of_mass(image)[::-1],
        "Darker ones": lambda image: [places.mean() for places in np.nonzero(image)],
        "middle of the box": middle_of_box,
        "drops the fraction": of_sums(lambda total, image: total // image.sum()),
        "You rounded. Keep": of_sums(lambda total, image: round(total / image.sum())),
        "not 1": lambda image: [at + 1 for at in centre_of_mass(image)],
        "middle of the sheet": lambda image: [(side - 1) / 2 for side in image.shape],
        "darkest pixel": lambda image: np.unravel_index(np.argmax(image), image.shape),
        "Those are the sums": of_sums(lambda total, image: total),
        "number of pixels. Divide": of_sums(lambda total, image: total / image.size),
        "pixels with ink. Divide": of_sums(lambda total, image: total / (image > 0).sum()),
        "is right": lambda image: [at + 0.5 for at in centre_of_mass(image)],
    }
    rights = [centre_of_mass, ndimage.center_of_mass, centre_by_means, centre_by_loop]
    try_function(capsys, monkeypatch, exercises.check_centre, rights, wrongs)


def test_a_readers_function_is_used_once_it_is_right():
    for ours, its, right in (
        (exercises.box_or_ours, exercises.box_of, box_by_scipy),
        (exercises.centre_or_ours, exercises.centre_of_mass, centre_by_loop),
    ):
        for wrong in (..., 3, lambda *_: None, lambda *_: "a", lambda *_: Liar(), lambda *_: 1 / 0):
            assert ours(wrong) is its
        assert ours(right) is right
