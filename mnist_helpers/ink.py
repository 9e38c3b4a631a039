"""Finds digits in a picture, step by step: sheet, ground, light, threshold, parts, boxes.

Each step's array (H, W) can be shown: first grey levels from 0 to 255, then ink from 0 to 1.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_helpers.model import IMAGE_SIZE

BOX_SIZE = 20  # the longer side of a digit, in MNIST's pixels
CENTRE = IMAGE_SIZE // 2  # where MNIST's digits have their centre of mass, by measurement
SMALL = 200  # pixels: a picture without a longer side is mostly ink, and shows little ground
FAINT = 0.1  # of the darkest ink: fainter marks do not widen a digit's box
THRESHOLDS = 0.35, 0.5, 0.65  # of the darkest ink; the next one if rules lead to the rim
SMOOTH = 0.003  # of the shorter side: noise and grain are finer than strokes
GROUND = 0.3  # of the shorter side: strokes are narrower, and light changes more slowly
NEAR = 0.1  # of a digit's size: how far off its pieces may lie
BLOB = 0.6  # of a square: strokes fill less, a circle more
MOST_PARTS = 100  # a page has fewer digits; noise has any number of specks
EMPTY = "no ink stands out: it may be an empty sheet"
SEVERAL = "it has several marks; find_digits reads each of them"


@dataclass(frozen=True)
class Digit:
    """A digit that was found in a picture."""

    box: tuple[int, int, int, int]  # left, top, right, bottom in the upright picture's pixels
    image: np.ndarray  # in MNIST's form: (28, 28) uint8
    doubt: str = ""  # why it may be none


@dataclass(frozen=True)
class Part:
    """One connected piece of ink."""

    mask: np.ndarray  # within its box
    rows: slice
    columns: slice
    ink: float  # the sum of its levels
    sides: int  # of the picture that it touches

    @property
    def size(self) -> int:
        """The longer side of its box."""
        return max(self.mask.shape)

    def belongs_to(self, main: "Part") -> bool:
        """Tell whether it is a piece of a digit: small or above the rest, and near."""
        pairs = (self.columns, main.columns), (self.rows, main.rows)
        across, down = (max(a.start, b.start) - min(a.stop, b.stop) for a, b in pairs)
        is_above = -across > 0.6 * min(self.mask.shape[1], main.mask.shape[1])
        fits = is_above or 0.05 * main.ink < self.ink < 0.35 * main.ink
        near = max(across, down) < (1 + is_above) * NEAR * main.size
        return bool(fits and near and self.size < main.size)


def find(grey: np.ndarray, only_one: bool) -> list[Digit]:
    """Find the digit of a picture, or all: line by line, each from left to right."""
    if is_small := max(grey.shape) < SMALL or min(grey.shape) < SMALL / 10:
        ink = whole_ink(grey)
        if only_one:
            return [Digit((0, 0, grey.shape[1], grey.shape[0]), to_mnist(ink))]
        groups = join(find_parts(ink > FAINT * ink.max(), ink))
    else:
        ink, groups = find_groups(grey)
    if only_one and groups:
        main = (best := likeliest(groups))[0]
        rivals = [group[0] for group in groups if group is not best and not group[0].sides]
        several = any(p.size > 0.5 * main.size and p.ink > 0.3 * main.ink for p in rivals)
        fits = main.sides < 2 and 0.03 < main.size / min(grey.shape) < 1 and ink.max() > 0.15
        return [cut(ink, best, (SEVERAL if several else "") if fits else EMPTY)]
    inside = [group for group in groups if is_small or not group[0].sides] or groups
    digits = [cut(ink, group) for group in inside if group[0].ink > 0.05 * inside[0][0].ink]
    tallest = max((digit.box[3] - digit.box[1] for digit in digits), default=0)
    digits = [digit for digit in digits if digit.box[3] - digit.box[1] > 0.4 * tallest]
    return in_reading_order(digits)


def find_groups(grey: np.ndarray) -> tuple[np.ndarray, list[list[Part]]]:
    """Run all steps up to the parts: return the ink, and the parts of each digit or mark."""
    soft = ndimage.gaussian_filter(grey, SMOOTH * min(grey.shape))
    picture = dark_on_light(blank_table(soft))
    found = []
    for side in (picture, 255 - picture):
        ink = even_ink(side)
        tries = [join(find_parts(ink > level * ink.max(), ink)) for level in THRESHOLDS]
        groups = next((g for g in tries if g and not likeliest(g)[0].sides), tries[0])
        found.append((ink, groups))
        if groups and likeliest(groups)[0].mask.sum() < BLOB * likeliest(groups)[0].size ** 2:
            return ink, groups  # else it's a lamp's reflection, and ink lies on the other side
    return found[0]


def likeliest(groups: list[list[Part]]) -> list[Part]:
    """Return what has most ink, and preferably all of it within the picture."""
    return max(groups, key=lambda group: group[0].ink * 0.1 ** group[0].sides)


def whole_ink(grey: np.ndarray) -> np.ndarray:
    """Return the ink of a small picture: whatever differs from the ground that its rim shows."""
    ground = np.median(_rim(grey))
    is_light = ground > (grey.max() + grey.min()) / 2
    return np.clip(ground - grey if is_light else grey - ground, 0, None)


def blank_table(grey: np.ndarray) -> np.ndarray:
    """Give everything beside a sheet of paper the grey of the sheet's rim."""
    step = max(1, min(grey.shape) // 150)  # a coarse look tells where a sheet ends
    coarse = ndimage.gaussian_filter(grey, step)[::step, ::step]
    bright = coarse > otsu(coarse)
    for side in (bright, ~bright):
        labels, _ = ndimage.label(side)
        sheet = labels == 1 + np.bincount(labels.ravel(), minlength=2)[1:].argmax()
        inner = ndimage.binary_erosion(ndimage.binary_fill_holes(sheet), iterations=3)
        edge = inner & ~ndimage.binary_erosion(inner, iterations=2)
        if _is_sheet(coarse, sheet, inner, edge):
            _, nearest = ndimage.distance_transform_edt(~edge, return_indices=True)
            table = np.where(inner, np.nan, ndimage.gaussian_filter(coarse, 1)[*nearest])
            whole = table.repeat(step, 0).repeat(step, 1)[: grey.shape[0], : grey.shape[1]]
            return np.where(np.isnan(whole), grey, whole)
    return grey


def _is_sheet(coarse: np.ndarray, sheet: np.ndarray, inner: np.ndarray, edge: np.ndarray) -> bool:
    """Tell a sheet (mostly blank and in view, four sides, sharp edge) from light and from ink."""
    area = inner.sum()
    if not 0.08 < area / inner.size < 0.95 or _rim(sheet).mean() > 0.3:
        return False
    outer = ndimage.binary_dilation(inner, iterations=6)
    ring = outer & ~ndimage.binary_dilation(inner, iterations=4)
    step = np.median(coarse[edge]) - np.median(coarse[ring])
    is_sharp = abs(step) > 0.6 * abs(coarse[inner].mean() - coarse[~outer].mean())
    rows, columns = np.nonzero(inner)
    turns = np.exp(1j * np.deg2rad(np.arange(0, 90, 5)))[:, None] * (rows + 1j * columns)
    box = (np.ptp(turns.real, 1) * np.ptp(turns.imag, 1)).min()  # the smallest around it
    return bool(is_sharp and area > 0.85 * box and (sheet & inner).sum() > 0.8 * area)


def dark_on_light(grey: np.ndarray) -> np.ndarray:
    """Invert a picture of light ink on a dark ground."""
    # Strokes are rare and stand out, so they skew what is left once light and shadow are gone.
    rest = grey - ndimage.uniform_filter(grey, round(GROUND * min(grey.shape)))
    skew = (rest**3).mean() / max((rest**2).mean(), 1e-9) ** 1.5
    rim = _rim(grey > otsu(grey)).mean()
    if abs(skew) < 0.8 and not 0.2 < rim < 0.8:  # much ink: ground is what most of the rim shows
        skew = 0.5 - rim
    return grey if skew < 0 else 255 - grey


def even_ink(grey: np.ndarray) -> np.ndarray:
    """Divide a picture by the light on its ground: 0 is ground, 1 the blackest ink there can be."""
    ground = ndimage.grey_closing(grey, round(GROUND * min(grey.shape)))  # fills the strokes in
    ink = 1 - grey / np.maximum(ground, 1)
    return np.clip(ink - np.median(ink), 0, 1)


def find_parts(marks: np.ndarray, ink: np.ndarray) -> list[Part]:
    """Return the connected parts of the marks, but for frames, the one with most ink first."""
    labels, count = ndimage.label(marks, np.ones((3, 3)))
    sums = ndimage.sum_labels(ink, labels, np.arange(1, count + 1))
    places = ndimage.find_objects(labels)
    height, width = marks.shape
    parts = []
    for number in np.argsort(-sums)[:MOST_PARTS]:
        rows, columns = places[number]
        ends = rows.start, columns.start, height - rows.stop, width - columns.stop
        mask = labels[rows, columns] == number + 1
        parts.append(Part(mask, rows, columns, float(sums[number]), sum(end < 2 for end in ends)))
    return [part for part in parts if not any(_frames(part, other) for other in parts)]


def _frames(part: Part, other: Part) -> bool:
    """Tell whether a part is drawn around another one that is no mere dot."""
    if other.size < 0.3 * part.size or other.size >= part.size:
        return False
    row = (other.rows.start + other.rows.stop) // 2 - part.rows.start
    column = (other.columns.start + other.columns.stop) // 2 - part.columns.start
    inside = 0 <= row < part.mask.shape[0] and 0 <= column < part.mask.shape[1]
    return inside and bool((ndimage.binary_fill_holes(part.mask) & ~part.mask)[row, column])


def join(parts: list[Part]) -> list[list[Part]]:
    """Put the pieces of each broken digit together, the largest first."""
    groups: list[list[Part]] = []
    for part in parts:
        home = next((group for group in groups if part.belongs_to(group[0])), [])
        if not home:
            groups.append(home)
        home.append(part)
    return groups


def cut(ink: np.ndarray, parts: list[Part], doubt: str = "") -> Digit:
    """Cut the ink of some parts out of a picture, and bring it to MNIST's form."""
    edge = max(1, round(0.004 * min(ink.shape)))  # faint ink along the strokes belongs to them
    mask = np.zeros(ink.shape, bool)
    for part in parts:
        mask[part.rows, part.columns] |= part.mask
    ((rows, columns),) = ndimage.find_objects(mask.astype(np.uint8))
    box = columns.start, rows.start, columns.stop, rows.stop
    around = tuple(slice(max(0, s.start - edge), s.stop + edge) for s in (rows, columns))
    piece, mask = ink[around], mask[around]
    full = np.percentile(piece[mask], 60)
    piece = np.where(ndimage.binary_dilation(mask, iterations=edge), piece, 0)
    return Digit(box, to_mnist(np.clip((piece / full - FAINT) / 0.8, 0, 1)), doubt)


def in_reading_order(digits: list[Digit]) -> list[Digit]:
    """Sort digits into lines from top to bottom, and each line from left to right."""
    lines: list[list[Digit]] = []
    for digit in sorted(digits, key=lambda digit: sum(digit.box[1::2])):
        if not lines or sum(digit.box[1::2]) / 2 > max(one.box[3] for one in lines[-1]):  # below
            lines.append([])
        lines[-1].append(digit)
    return [digit for line in lines for digit in sorted(line, key=lambda digit: digit.box)]


def to_mnist(ink: np.ndarray) -> np.ndarray:
    """Scale ink to MNIST's box and put its centre of mass into the centre: (28, 28) uint8."""
    marked = ink > FAINT * ink.max()
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = BOX_SIZE / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized = Image.fromarray(digit.astype(np.float32)).resize((width, height), method)
    levels = np.clip(np.asarray(resized, dtype=np.float64), 0, None)
    levels *= 255 / levels.max()
    canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    centre = zip(ndimage.center_of_mass(levels), levels.shape, strict=True)
    top, left = (int(np.clip(round(CENTRE - at), 0, IMAGE_SIZE - side)) for at, side in centre)
    canvas[top : top + height, left : left + width] = levels.round()
    return canvas


def otsu(grey: np.ndarray) -> float:
    """Return the level that divides dark from light best (Otsu 1979)."""
    levels = np.sort(grey[::2, ::2], axis=None)[:-1]
    below = np.arange(1, len(levels) + 1)
    mean, rest = levels.cumsum() / below, levels[::-1].cumsum()[::-1] / below[::-1]
    return float(levels[(below * below[::-1] * (rest - mean) ** 2).argmax()])


def _rim(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
