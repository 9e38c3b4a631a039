"""Makes pictures of digits whose truth is known, and measures how many of them are read.

Usage: python -m experiments.handwriting CHECKPOINT [--each N] [--part tuning] [--fonts FOLDER]
       [--steps | --show]

Each picture begins as one of MNIST's training digits (in the held-out part, one of the 5,000 that
the published weights were not trained on) or as a font's. It is laid on paper, lit and
photographed. The held-out part draws every parameter from outside the range that the tuning part
draws from, and some surfaces and lights occur only there. Writes `results/handwriting.csv`:

    n           pictures of the kind
    naive       share read right if the picture is just shrunk to 28x28, and inverted if light
    one_ground  with one ground for the whole picture, as for small ones
    ours        as `predict` reads it
    ceiling     with the digit cut out by its truth
    sure_wrong  share that is wrong with a confidence above 90 %
    doubtful    share that `predict` calls doubtful
    auc         how well that tells photographs of digits from this kind, which shows none

Of rows and pages, `ours` is the share in which `find_digits` finds every digit in its place.
With --steps it writes `results/handwriting_steps.csv` instead: the share of the photographs that
is read right with one step of the preparation left out. With --show it writes
`notebooks/images/kinds.png`, with one photograph each of the kinds in `SHOWN`.
"""

import argparse
import contextlib
import csv
import io
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage, stats
from sklearn.datasets import load_digits

from experiments.pages import RESULTS, keep_figures
from experiments.pretrain import VALIDATION
from mnist_helpers import InputError, MnistCNN, Prediction, find_digits, ink, load_mnist, predict
from mnist_helpers.data.digits import stratified
from mnist_helpers.ink import to_mnist, whole_ink
from mnist_helpers.pictures import UNSURE
from mnist_helpers.training.weights import take_weights

Array = np.ndarray
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Draw(np.random.RandomState):
    """Draws parameters: the tuning part from the middle of a range, the held-out part beside it."""

    def __init__(self, seed: int, held_out: bool) -> None:
        super().__init__(seed)
        self.held_out = held_out

    def between(self, low: float, high: float) -> float:
        place = self.uniform(0.25, 0.75)
        if self.held_out:
            place = (place + 0.5) % 1
        return low + (high - low) * place


@dataclass
class Picture:
    """A picture, as a file that a camera might have written, and what is in it."""

    kind: str
    label: int  # -1: no digit
    file: bytes
    cut: Array  # the digit as cut out by its truth, in MNIST's form
    boxes: list[Box] = field(default_factory=list)


# What a scene consists of. All layers have the picture's size and values from 0 to 1.
@dataclass
class Scene:
    draw: Draw
    cover: Array  # how much ink covers the paper: the digit
    marks: Array  # and everything else that was written or printed
    grain: float = 0.0
    rules: str = ""
    paper: float = 0.93
    ink: float = 0.15
    light: str = ""
    dust: float = 0.0  # how unevenly pencil and chalk take

    @property
    def shape(self) -> tuple[int, int]:
        return self.cover.shape


def glyph(digit: Array, size: float, weight: float) -> Array:
    """Enlarge one of MNIST's digits to a stroke with clear edges, `size` pixels its longer side."""
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    small = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = size / max(small.shape)
    height, width = (max(2, round((side + 2) * factor)) for side in small.shape)
    image = Image.fromarray(np.pad(small, 1)).resize((width, height), Image.Resampling.BICUBIC)
    level = np.asarray(image, dtype=float) / 255
    return np.clip((level - weight) * max(2.0, factor / 2) + 0.5, 0, 1)


def laid(shape: tuple[int, int], piece: Array, centre: tuple[float, float]) -> Array:
    """Lay a small piece on an empty sheet, with its centre at fractions of height and width."""
    sheet = np.zeros(shape)
    top, left = (round(s * c - p / 2) for s, c, p in zip(shape, centre, piece.shape, strict=True))
    rows = slice(max(top, 0), min(top + piece.shape[0], shape[0]))
    columns = slice(max(left, 0), min(left + piece.shape[1], shape[1]))
    sheet[rows, columns] = piece[rows.start - top : rows.stop - top,
                                 columns.start - left : columns.stop - left]  # fmt: skip
    return sheet


def smooth_noise(draw: Draw, shape: tuple[int, int], sigma: float) -> Array:
    noise = ndimage.gaussian_filter(draw.standard_normal(shape), sigma, mode="wrap")
    return noise / noise.std()


def written(text: str, size: int, path: Path | None = None) -> Array:
    """Return print, or a glyph of a font's file, as a small piece."""
    font = ImageFont.truetype(path, size) if path else ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
    return np.asarray(image, dtype=float) / 255


def scribble(draw: Draw, size: int, points: int, width: int) -> Array:
    """Return a smooth line through random points."""
    ends = draw.uniform(0.1, 0.9, (points, 2)) * size
    times = np.linspace(0, points - 1, 40 * points)
    curve = [ndimage.map_coordinates(ends[:, axis], [times], order=3) for axis in (0, 1)]
    image = Image.new("L", (size, size))
    path = [(float(x), float(y)) for x, y in zip(*curve, strict=True)]
    ImageDraw.Draw(image).line(path, fill=255, width=width, joint="curve")
    return np.asarray(image, dtype=float) / 255


def drawn(scene: Scene) -> Array:
    """Return the sheet as it looks in even light, in grey levels from 0 to 1."""
    draw, (height, width) = scene.draw, scene.shape
    paper = np.full(scene.shape, scene.paper)
    if scene.grain:
        paper *= 1 + scene.grain * smooth_noise(draw, scene.shape, draw.between(0.6, 3))
    if scene.rules:
        gap = round(draw.between(0.05, 0.16) * min(height, width))
        strength, thick = draw.between(0.12, 0.4), round(draw.between(0.6, 3.4))
        rows, columns = np.arange(height)[:, None], np.arange(width)[None]
        ruled = (rows % gap < thick) | ((columns % gap < thick) & (scene.rules == "squared"))
        paper = paper * (1 - strength * ruled)
    ink = np.maximum(scene.cover, scene.marks)
    if scene.dust:
        ink = ink * np.clip(1 - scene.dust * np.abs(smooth_noise(draw, scene.shape, 1.0)), 0, 1)
    return paper + (scene.ink - paper) * ink


def lit(grey: Array, light: str, draw: Draw) -> Array:
    """Let light fall on a sheet."""
    height, width = grey.shape
    rows, columns = np.mgrid[0:height, 0:width] / min(height, width)
    angle = draw.uniform(0, 2 * np.pi)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    along = (along - along.min()) / np.ptp(along)
    if light == "mild gradient":
        return grey * (1 - draw.between(0.1, 0.35) * along)
    if light == "strong gradient":
        if draw.held_out:  # a lamp: it falls off with the distance
            away = np.hypot(rows - draw.uniform(0, 1), columns - draw.uniform(0, 1))
            return grey / (1 + draw.between(0.4, 1.6) * away**2)
        return grey * (1 - draw.between(0.5, 0.85) * along)
    if "shadow" in light:
        edge = draw.between(0.25, 0.75) + 0.04 * draw.randn() * np.sin(5 * (rows - columns))
        soft = draw.between(0.03, 0.15) if light.startswith("soft") else 0.003
        return grey * (1 - draw.between(0.25, 0.65) / (1 + np.exp(-(along - edge) / soft)))
    away = np.hypot(rows - draw.uniform(0.2, 0.8), columns - draw.uniform(0.2, 1))  # flash
    spot = np.exp(-((away / draw.between(0.12, 0.35)) ** 2))
    return grey * (0.75 - 0.25 * away) + draw.between(0.3, 0.8) * spot


def photographed(grey: Array, draw: Draw, noise: float = 0.01, blur: float = 0.6) -> Image.Image:
    """Return what a camera makes of it: a little blur, noise and a cast of colour."""
    grey = ndimage.gaussian_filter(grey, blur)
    colour = 255 * grey[..., None] * (1 + draw.uniform(-0.05, 0.05, 3))
    colour += 255 * noise * draw.standard_normal((*grey.shape, 3))
    if draw.held_out and noise > 0.03:  # grains of another kind
        colour[draw.uniform(size=grey.shape) < noise / 12] = draw.choice([0, 255])
    return Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))


def seen_from_aside(layers: Sequence[Array], draw: Draw) -> list[Array]:
    """Warp layers as a camera does that isn't held above the sheet."""
    height, width = layers[0].shape
    corners = [(0, 0), (0, height), (width, height), (width, 0)]
    inward = [(abs(draw.between(0, 0.24)) * width, abs(draw.between(0, 0.24)) * height)
              for _ in corners]  # fmt: skip
    source = [(x + (dx if x == 0 else -dx), y + (dy if y == 0 else -dy))
              for (x, y), (dx, dy) in zip(corners, inward, strict=True)]  # fmt: skip
    return [warped(layer, corners, source, (width, height), 0.0) for layer in layers]


def warped(
    layer: Array, to: Sequence[Any], source: Sequence[Any], size: tuple[int, int], fill: float
) -> Array:
    """Bring four corners of a layer to four places of a picture of that size."""
    rows = []
    for (u, v), (x, y) in zip(to, source, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -x * u, -x * v], [0, 0, 0, u, v, 1, -y * u, -y * v]]
    numbers = np.linalg.solve(np.array(rows, float), np.array(source, float).ravel())
    image = Image.fromarray(layer.astype(np.float32))
    method, sampling = Image.Transform.PERSPECTIVE, Image.Resampling.BICUBIC
    return np.asarray(
        image.transform(size, method, list(numbers), sampling, fillcolor=fill), dtype=float
    )


def on_a_table(sheet: Array, cover: Array, draw: Draw, far: bool) -> tuple[Array, Array]:
    """Lay a sheet on a table; from far away all of the sheet is seen, and much of the table."""
    height, width = sheet.shape
    size = round(width * 1.25), round(height * 1.25)
    share = draw.between(0.4, 0.7) if far else draw.between(0.72, 0.94)
    reach = draw.uniform(-0.15, 0.15, 2) * (1 - share)
    angle = np.deg2rad(draw.between(-14, 14))
    corners = []
    for x, y in ((-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)):
        x, y = (side * share / 2 * draw.between(0.94, 1.06) for side in (x, y))
        u = (x * np.cos(angle) - y * np.sin(angle) + 0.5 + reach[0]) * size[0]
        v = (x * np.sin(angle) + y * np.cos(angle) + 0.5 + reach[1]) * size[1]
        corners.append((u, v))
    source = [(0, 0), (0, height), (width, height), (width, 0)]
    there = warped(np.ones_like(sheet), corners, source, size, 0.0)
    shape = size[1], size[0]
    table = draw.between(0.1, 0.6) * (1 + draw.between(0.02, 0.12) * wood(draw, shape))
    picture = table * (1 - there) + warped(sheet, corners, source, size, 0.0) * there
    return picture, warped(cover, corners, source, size, 0.0)


def wood(draw: Draw, shape: tuple[int, int]) -> Array:
    """Return the pattern of a table: grain, or on the held-out part a cloth's checks."""
    if draw.held_out:
        rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / draw.uniform(12, 40)
        return np.sign(np.sin(rows + 0.3 * columns) * np.sin(columns - 0.3 * rows))
    noise = ndimage.gaussian_filter(draw.standard_normal(shape), (1, 30), mode="wrap")
    return noise / noise.std()


# Kinds that differ from a plain photograph by the scene alone.
SCENES: dict[str, dict[str, Any]] = {
    "plain": {}, "blur": {}, "JPEG": {}, "noise": {},
    "paper texture": {"grain": 1}, "ruled": {"rules": "ruled"}, "squared": {"rules": "squared"},
    "ruled, gradient": {"rules": "ruled", "light": "strong gradient"},
    "mild gradient": {"light": "mild gradient"}, "strong gradient": {"light": "strong gradient"},
    "soft shadow": {"light": "soft shadow"}, "sharp shadow": {"light": "sharp shadow"},
    "flash": {"light": "flash"}, "whiteboard": {"light": "flash"}, "chalkboard": {},
    "pencil": {"grain": 0.3}, "light pencil": {"grain": 0.15}, "turned by EXIF": {},
    "perspective": {}, "off-centre": {}, "tiny": {}, "touching the border": {},
    "a box around it": {}, "a second mark": {}, "a stray dot": {}, "print beside it": {},
    "a neighbour cut off": {}, "sheet on a table": {}, "whole phone picture": {},
}  # fmt: skip


def placed(kind: str, digit: Array, draw: Draw, shape: tuple[int, int]) -> tuple[Array, Box]:
    """Lay the digit where its kind wants it; return it and its box."""
    short = min(shape)
    share = {"tiny": (0.05, 0.1), "whole phone picture": (0.12, 0.3)}.get(kind, (0.2, 0.6))
    piece = glyph(digit, draw.between(*share) * short, draw.between(0.25, 0.7))
    piece = np.clip(ndimage.rotate(piece, draw.between(-8, 8), order=1), 0, 1)
    half = [p / s / 2 for p, s in zip(piece.shape, shape, strict=True)]
    spread = 0.9 if kind in ("tiny", "off-centre") else 0.3
    centre = [0.5 + spread * (draw.uniform() - 0.5) * (1 - 2 * h) for h in half]
    if kind in ("off-centre", "touching the border"):
        axis, side = draw.randint(2), draw.randint(2)
        inset = draw.between(0.01, 0.05) if kind == "off-centre" else -draw.between(0.0, 0.02)
        centre[axis] = abs(side - half[axis] - inset)
    cover = laid(shape, piece, (centre[0], centre[1]))
    return cover, box_of(cover)


def box_of(cover: Array) -> Box:
    rows, columns = (np.flatnonzero((cover > 0.5).any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def beside(kind: str, box: Box, digits: Array, draw: Draw, shape: tuple[int, int]) -> Array:
    """Return what else stands on the sheet."""
    left, top, right, bottom = box
    height, width = shape
    tall = max(bottom - top, right - left)
    marks = np.zeros(shape)
    if kind == "a box around it":
        gap, pen = draw.between(0.12, 0.4) * tall, round(draw.between(2, 7))
        image = Image.new("L", (width, height))
        frame = [max(3, left - gap), max(3, top - gap), min(width - 4, right + gap),
                 min(height - 4, bottom + gap)]  # fmt: skip
        ImageDraw.Draw(image).rectangle(frame, outline=255, width=pen)
        turned = ndimage.rotate(np.asarray(image, float) / 255, draw.between(-3, 3), reshape=False,
                                order=1)  # fmt: skip
        return np.clip(turned, 0, 1)
    if kind == "a second mark":
        piece = scribble(draw, round(draw.between(0.2, 0.5) * tall), 3, round(0.05 * tall) + 2)
        away = [(left - tall * 0.4) / width, (right + tall * 0.4) / width]
        where = min(away, key=lambda x: abs(x - 0.5))
        return laid(shape, piece, ((top + bottom) / 2 / height, where))
    if kind == "a stray dot":
        image = Image.new("L", (width, height))
        x, y = draw.uniform(0.03, 0.1) * width, draw.uniform(0.03, 0.97) * height
        radius = draw.between(1, 7)
        ImageDraw.Draw(image).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
        return np.asarray(image, float) / 255
    if kind == "print beside it":
        words = "".join(draw.choice(list(string.ascii_lowercase + "   "), 24))
        print_ = written(words, round(draw.between(10, 26)))
        above = top > height - bottom
        middle = (top - 0.12 * tall) if above else (bottom + 0.12 * tall)
        return laid(shape, print_, (middle / height, draw.uniform(0.3, 0.7)))
    if kind == "a neighbour cut off":
        piece = glyph(digits[draw.randint(len(digits))], tall, 0.5)
        to_left = left > width - right
        return laid(shape, piece, ((top + bottom) / 2 / height, 0.0 if to_left else 1.0))
    return marks


def photograph(kind: str, digits: Array, number: int, label: int, draw: Draw) -> Picture:
    """Make one photograph of a digit."""
    shape = (640, 480) if draw.randint(2) else (480, 640)
    cover, box = placed(kind, digits[number], draw, shape)
    marks = beside(kind, box, digits, draw, shape) * (cover < 0.02)
    scene = Scene(draw, cover, marks, **SCENES[kind])
    scene.paper, scene.ink = draw.between(0.78, 1.0), draw.between(0.05, 0.35)
    scene.grain *= draw.between(0.01, 0.06)
    if kind == "chalkboard":
        scene.paper, scene.ink, scene.dust = draw.between(0.1, 0.3), draw.between(0.65, 0.95), 0.3
        scene.grain = draw.between(0.03, 0.2)
    elif kind.endswith("pencil"):
        scene.ink = scene.paper * (
            1 - draw.between(*(0.35, 0.6) if kind == "pencil" else (0.15, 0.3))
        )
        scene.dust = draw.between(0.1, 0.4)
    grey = drawn(scene)
    if scene.light:
        grey = lit(grey, scene.light, draw)
    if kind == "perspective":
        grey, cover = seen_from_aside([grey, cover], draw)
    elif kind in ("sheet on a table", "whole phone picture"):
        grey, cover = on_a_table(grey, cover, draw, far=kind == "whole phone picture")
        grey = lit(grey, "mild gradient", draw)
    noise = draw.between(0.05, 0.16) if kind == "noise" else draw.between(0.0, 0.02)
    blur = draw.between(2, 6) if kind == "blur" else draw.between(0.3, 1.2)
    image = photographed(grey, draw, noise, blur)
    cut = to_mnist(cover)
    return Picture(kind, label, saved(image, kind, draw), cut, [box_of(cover)])


def saved(image: Image.Image, kind: str, draw: Draw) -> bytes:
    exif = Image.Exif()
    if kind == "turned by EXIF":
        turn, exif[0x0112] = [(Image.Transpose.ROTATE_90, 6), (Image.Transpose.ROTATE_180, 3),
                              (Image.Transpose.ROTATE_270, 8)][draw.randint(3)]  # fmt: skip
        image = image.transpose(turn)
    quality = round(draw.between(5, 35)) if kind == "JPEG" else 90
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, exif=exif)
    return file.getvalue()


def scan(kind: str, digit: Array, label: int, draw: Draw, font: Path | None = None) -> Picture:
    """Make a clean picture: no camera, no paper."""
    size = round(draw.between(40, 600))
    shape = (round(size * draw.between(1.1, 3)), round(size * draw.between(1.1, 3)))
    weight = {"clean, thin pen": 0.75, "clean, thick pen": 0.2}.get(kind, draw.between(0.3, 0.6))
    piece = written(str(label), size, font) if font else glyph(digit, size, weight)
    if kind in HABITS:
        label = HABITS[kind]
        piece = habit(label, size, draw)
    room = [max(0.0, 1 - p / s) for p, s in zip(piece.shape, shape, strict=True)]
    centre = [0.5 + (draw.uniform() - 0.5) * 0.8 * r for r in room]
    cover = laid(shape, piece, (centre[0], centre[1]))
    paper, ink = np.full(3, 255.0), np.zeros(3)
    if kind == "colours on colours":
        luminance = np.array([0.299, 0.587, 0.114])
        while abs((paper - ink) @ luminance) < draw.between(40, 80):
            paper, ink = draw.uniform(0, 255, (2, 3))
    elif draw.randint(2):
        paper, ink = ink, paper
    colour = paper + (ink - paper) * cover[..., None]
    file = io.BytesIO()
    Image.fromarray(colour.round().astype(np.uint8)).save(file, "PNG", compress_level=1)
    return Picture(kind, label, file.getvalue(), to_mnist(cover), [box_of(cover)])


def habit(label: int, size: float, draw: Draw) -> Array:
    """Draw a 1 with a flag as long as half of it or more, a slashed 0, or a 7 with a bar."""
    lean, wide = draw.between(-0.1, 0.3), draw.between(0.5, 0.9)
    turn = np.linspace(0, 2 * np.pi, 40)
    flag, low, out = draw.between(0.3, 0.85), draw.between(0.3, 0.7), draw.between(-0.15, 0.1)
    lines = {
        0: [np.c_[0.5 + wide / 2 * np.sin(turn), 0.5 - np.cos(turn) / 2],
            np.array([[0.5 - wide / 2 - out, 1 + out], [0.5 + wide / 2 + out, -out]])],
        1: [np.array([[0.6 - 0.7 * flag, flag], [0.6, 0], [0.6, 1]])],
        7: [np.array([[0.5 - wide / 2, 0.04], [0.5 + wide / 2, 0], [0.4, 1]]),
            np.array([[0.25, low], [0.75, low - 0.05]])],
    }[label]  # fmt: skip
    if label == 1 and draw.uniform() < 0.4:
        lines.append(np.array([[0.3, 1], [0.9, 1.0]]))
    side, pen = round(1.6 * size), max(2, round(draw.between(0.05, 0.16) * size))
    image = Image.new("L", (2 * side, side))
    for points in lines:
        shaky = 0.015 if len(points) < 10 else 0.004
        points = points + shaky * draw.standard_normal(points.shape)
        x, y = side + size * (points[:, 0] - lean * points[:, 1]), 0.3 * size + size * points[:, 1]
        path = list(zip(x.tolist(), y.tolist(), strict=True))
        ImageDraw.Draw(image).line(path, fill=255, width=pen, joint="curve")
        for u, v in (path[0], path[-1]):  # round ends
            box = [u - pen / 2, v - pen / 2, u + pen / 2, v + pen / 2]
            ImageDraw.Draw(image).ellipse(box, fill=255)
    ink = np.asarray(image, float) / 255
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def row(kind: str, digits: Array, draw: Draw) -> Picture:
    """Make a photograph of a row of 2 to 8 digits, or of a page with 2 or 3 of them."""
    lines, count = (
        (draw.randint(2, 4), draw.randint(2, 6)) if kind == "page" else (1, draw.randint(2, 9))
    )
    size = draw.between(45, 100)
    gap, weight = draw.between(0.15, 0.8), draw.between(0.3, 0.6)
    shape = (round(lines * size * 1.9 + 120), round(count * size * (1 + gap) + 160))
    cover, boxes, top = np.zeros(shape), [], 60 + 0.5 * size
    for line in range(lines):
        left = draw.uniform(40, 100)
        for _ in range(count):
            piece = glyph(
                digits[draw.randint(len(digits))], size * draw.uniform(0.85, 1.15), weight
            )
            middle = top + 1.9 * line * size + draw.uniform(-0.1, 0.1) * size
            one = laid(shape, piece, (middle / shape[0], (left + piece.shape[1] / 2) / shape[1]))
            cover, left = np.maximum(cover, one), left + piece.shape[1] + gap * size
            boxes.append(box_of(one))
    scene = Scene(draw, cover, np.zeros(shape), **ROWS[kind])
    scene.paper, scene.ink = draw.between(0.78, 1.0), draw.between(0.05, 0.35)
    grey = drawn(scene)
    grey = lit(grey, scene.light, draw) if scene.light else grey
    image = photographed(grey, draw, draw.between(0.0, 0.04))
    return Picture(kind, -1, saved(image, kind, draw), np.zeros((28, 28), np.uint8), boxes)


ROWS: dict[str, dict[str, Any]] = {
    "row": {}, "row, ruled": {"rules": "ruled"}, "row, gradient": {"light": "strong gradient"},
    "row, shadow": {"light": "soft shadow"}, "page": {},
}  # fmt: skip


def no_digit(kind: str, digits: Array, draw: Draw) -> Picture:
    """Make a photograph of anything but one digit."""
    shape = (480, 640)
    cover = np.zeros(shape)
    if kind == "letter":
        letter = draw.choice(list("AEFHKMNPRUVWXYacdefhkmnprtuvwxy"))
        piece = written(letter, round(draw.between(120, 400)))
        cover = laid(shape, piece, (draw.uniform(0.4, 0.6), draw.uniform(0.4, 0.6)))
    elif kind == "scribble":
        size = round(draw.between(150, 420))
        cover = laid(shape, scribble(draw, size, draw.randint(6, 14), round(draw.between(4, 20))),
                     (0.5, draw.uniform(0.4, 0.6)))  # fmt: skip
    elif kind == "several digits":
        for place in range(count := draw.randint(2, 5)):
            piece = glyph(digits[draw.randint(len(digits))], draw.between(80, 150), 0.5)
            cover = np.maximum(cover, laid(shape, piece, (0.5, (place + 0.7) / (count + 0.4))))
    rules = draw.choice(["", "ruled", "squared"]) if kind == "empty sheet" else ""
    light = draw.choice(["", "mild gradient", "strong gradient", "soft shadow"])
    scene = Scene(draw, cover, np.zeros(shape), draw.between(0, 0.04), rules,
                  draw.between(0.78, 1.0), draw.between(0.05, 0.35), light)  # fmt: skip
    grey = lit(drawn(scene), light, draw) if light else drawn(scene)
    image = photographed(grey, draw, draw.between(0.0, 0.03))
    return Picture(kind, -1, saved(image, kind, draw), np.zeros((28, 28), np.uint8))


def prepared_naively(image: Image.Image) -> Array:
    small = np.asarray(image.convert("L").resize((28, 28)))
    return 255 - small if np.median(small) > 127 else small


def prepared_on_one_ground(image: Image.Image) -> Array:
    grey = np.asarray(ImageOps.exif_transpose(image).convert("L"), dtype=float)
    return to_mnist(whole_ink(grey)) if np.ptp(grey) else np.zeros((28, 28), np.uint8)


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def finds_all(picture: Picture, image: Image.Image) -> bool:
    """Tell whether `find_digits` finds every digit, in order, each with an overlap of a half."""
    try:
        found = [digit.box for digit in find_digits(image)]
    except InputError:
        return False
    return len(found) == len(picture.boxes) and all(
        overlap(box, truth) >= 0.5 for box, truth in zip(found, picture.boxes, strict=True)
    )


def read(model: MnistCNN, image: Image.Image) -> Prediction:
    """Return the answer to a picture; one that is refused gets none, and that is doubtful too."""
    try:
        return predict(model, image)[0]
    except InputError as error:
        return Prediction(-1, (0.0,) * 10, doubtful=True, why=str(error))


def score(answer: Prediction) -> float:
    """Return how sure it is that there is a digit: 0 where the ink itself is doubtful."""
    return answer.confidence if answer.why in ("", UNSURE) else 0.0


def measure(
    model: MnistCNN, pictures: Sequence[Picture], digits_scores: list[float],
    others_scores: list[float],
) -> dict[str, Any]:  # fmt: skip
    """Return one line of the table; photographs add their scores to those of digits or others."""
    images = [Image.open(io.BytesIO(picture.file)) for picture in pictures]
    kind, labels = pictures[0].kind, np.array([picture.label for picture in pictures])
    line: dict[str, Any] = {"kind": kind, "n": len(pictures)}
    if kind in ROWS:
        return line | {
            "ours": np.mean([finds_all(*pair) for pair in zip(pictures, images, strict=True)])
        }
    answers = [read(model, image) for image in images]
    line["doubtful"] = np.mean([answer.doubtful for answer in answers])
    scores = [score(answer) for answer in answers]
    if labels[0] < 0:
        others_scores += scores
        rank = stats.mannwhitneyu(digits_scores, scores).statistic
        return line | {"auc": rank / len(scores) / len(digits_scores)}
    if kind in SCENES:
        digits_scores += scores
    right = np.array([answer.digit for answer in answers]) == labels
    line["ours"] = right.mean()
    line["sure_wrong"] = np.mean(~right & ([answer.confidence > 0.9 for answer in answers]))
    others = {"naive": map(prepared_naively, images),
              "one_ground": map(prepared_on_one_ground, images),
              "ceiling": (picture.cut for picture in pictures)}  # fmt: skip
    for name, prepared in others.items():
        told = [answer.digit for answer in predict(model, list(prepared))]
        line[name] = np.mean(told == labels)
    return line


def without_centre(ink_levels: Array) -> Array:
    """Put a digit's box, and not its centre of mass, into the middle."""
    image = to_mnist(ink_levels)
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    digit = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return laid((28, 28), digit, (0.5, 0.5)).astype(np.uint8)


def unchanged(grey: Array) -> Array:
    """Leave a picture as it is: all of it is sheet, or ink is taken for dark."""
    return grey


def one_light(grey: Array) -> Array:
    """Divide by one ground for the whole picture."""
    return np.clip(1 - grey / max(float(np.median(grey)), 1.0), 0, 1)


def all_marks(marks: Array, levels: Array) -> list[ink.Part]:
    """Take all marks together for one part."""
    if not marks.any():
        return []
    ((rows, columns),) = ndimage.find_objects(marks.astype(np.uint8))
    return [ink.Part(marks[rows, columns], rows, columns, float(levels[marks].sum()), 0)]


STEPS: dict[str, dict[str, Any]] = {
    "all steps": {},
    "without the sheet": {"blank_table": unchanged},
    "without the local ground": {"even_ink": one_light},
    "without asking dark or light": {"dark_on_light": unchanged},
    "without choosing a part": {"find_parts": all_marks},
    "without the centre of mass": {"to_mnist": without_centre},
}


def measure_steps(model: MnistCNN, kinds: Iterable[list[Picture]]) -> list[dict[str, Any]]:
    """Return the share of photographs that is read right with each step left out."""
    right: dict[str, list[bool]] = {step: [] for step in STEPS}
    for pictures in kinds:
        if pictures[0].kind not in SCENES:
            break  # photographs come first
        images = [Image.open(io.BytesIO(picture.file)) for picture in pictures]
        for step, instead in STEPS.items():
            with mock.patch.multiple(ink, **instead) if instead else contextlib.nullcontext():
                answers = [read(model, image).digit for image in images]
            told = zip(answers, pictures, strict=True)
            right[step] += [answer == picture.label for answer, picture in told]
    return [{"step": step, "n": len(told), "right": np.mean(told)} for step, told in right.items()]


def show(kinds: Iterable[list[Picture]], page: Path) -> None:
    """Lay the first photographs of some kinds side by side, 120x120 pixels each."""
    sheet = Image.new("L", (4 * 120, 2 * 120))
    for pictures in kinds:
        if pictures[0].kind in SHOWN:
            photo = Image.open(io.BytesIO(pictures[0].file)).convert("L")
            row, column = divmod(SHOWN.index(pictures[0].kind), 4)
            sheet.paste(ImageOps.pad(photo, (120, 120), color=255), (120 * column, 120 * row))
    ImageOps.posterize(sheet, 5).save(page)  # without the finest noise the file is small


def small_pictures(images: Array, labels: Array, kind: str) -> list[Picture]:
    """Return pictures that were never photographed: scikit-learn's digits, and MNIST's own."""
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    cuts = images if images.shape[1:] == (28, 28) else [to_mnist(image * 1.0) for image in images]
    truth = zip(labels, files, cuts, strict=True)
    return [Picture(kind, int(label), file, cut) for label, file, cut in truth]


def all_kinds(digits: Array, labels: Array, args: argparse.Namespace) -> Iterator[list[Picture]]:
    """Make the pictures, kind by kind; digits come before what is none."""
    held_out = args.part == "held-out"

    def draws(offset: int) -> Iterator[Draw]:
        return (
            Draw(args.seed + 10_000 * offset + 2 * i + held_out, held_out) for i in range(args.each)
        )

    def drawn_digits(offset: int) -> Iterable[tuple[int, int, Draw]]:
        for draw in draws(offset):
            number = draw.randint(len(digits))
            yield number, int(labels[number]), draw

    for offset, kind in enumerate(SCENES):
        yield [photograph(kind, digits, *drawn) for drawn in drawn_digits(offset)]
    for offset, kind in enumerate(SCANS, 40):
        yield [scan(kind, digits[n], label, draw) for n, label, draw in drawn_digits(offset)]
    if fonts := sorted(args.fonts.rglob("*.?tf")) if args.fonts else []:
        yield [
            scan("handwriting fonts", digits[0], label, draw, fonts[draw.randint(len(fonts))])
            for _, label, draw in drawn_digits(50)
        ]
    eight = load_digits()
    images = (eight.images * (255 / 16)).round().astype(np.uint8)
    yield small_pictures(images, eight.target, "scikit-learn, 8x8")
    for offset, kind in enumerate(ROWS, 60):
        yield [row(kind, digits, draw) for draw in draws(offset)]
    for offset, kind in enumerate(NO_DIGITS, 70):
        yield [no_digit(kind, digits, draw) for draw in draws(offset)]


HABITS = {"1 with a long flag": 1, "0 with a slash": 0, "7 with a bar": 7}  # half of Europe's
SCANS = "clean", "clean, thin pen", "clean, thick pen", "colours on colours", *HABITS
SHOWN = ("noise", "ruled, gradient", "sharp shadow", "flash",
         "chalkboard", "light pencil", "print beside it", "whole phone picture")  # fmt: skip
NO_DIGITS = "empty sheet", "letter", "scribble", "several digits"
COLUMNS = ["kind", "n", "naive", "one_ground", "ours", "ceiling", "sure_wrong", "doubtful", "auc"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--each", type=int, default=100, help="pictures of each kind")
    parser.add_argument("--part", choices=("tuning", "held-out"), default="held-out")
    parser.add_argument("--fonts", type=Path, help="folder of handwriting fonts")
    parser.add_argument("--steps", action="store_true", help="leave out one step after another")
    parser.add_argument("--show", action="store_true", help="make the picture of notebook 06")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    args = parser.parse_args()
    model = MnistCNN()
    take_weights(model, args.checkpoint)
    train_set, test_set = load_mnist(args.data_root, allow_sample=False)
    if args.part == "held-out":  # digits that the published weights were not trained on
        train_set = train_set.at(stratified(train_set.labels.numpy(), VALIDATION, seed=1))
    digits, labels = train_set.images.numpy(), train_set.labels.numpy()
    if args.show:
        show(all_kinds(digits, labels, args), RESULTS.parent / "notebooks/images/kinds.png")
        return
    if args.steps:
        write(RESULTS / "handwriting_steps.csv", ["step", "n", "right"],
              measure_steps(model, all_kinds(digits, labels, args)))  # fmt: skip
        return
    scores: tuple[list[float], list[float]] = ([], [])
    lines = [measure(model, kind, *scores) for kind in all_kinds(digits, labels, args)]
    count = len(test_set) if args.part == "held-out" else 500
    own = small_pictures(
        test_set.images.numpy()[:count], test_set.labels.numpy()[:count], "MNIST's test digits"
    )
    lines.append(measure(model, own, [], []))
    photographs = [line for line in lines if line["kind"] in SCENES]
    mean = {name: np.mean([line[name] for line in photographs]) for name in COLUMNS[2:-1]}
    lines.append({"kind": "photographs, all", "n": sum(line["n"] for line in photographs), **mean})
    for level in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98):
        shares = (f"{np.mean(np.array(some) <= level):.1%}" for some in scores)
        print("doubtful up to {}: {} of photographs, {} of what is no digit".format(level, *shares))
    target = RESULTS / "handwriting.csv" if args.part == "held-out" else Path("tuning.csv")
    write(target, COLUMNS, lines)
    if args.part == "held-out":
        keep_figures(figures_of(lines))


def figures_of(lines: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what the prose says of a table."""
    by_kind = {str(line["kind"]): line for line in lines}
    photographs = [line for line in lines if line["kind"] in SCENES]
    worst = min(photographs, key=lambda line: line["ours"])
    figures = {"own.worst": f"{worst['ours']:.1%}", "own.worst.kind": str(worst["kind"])}
    short = {"photographs, all": "photographs", "scikit-learn, 8x8": "scikit"}
    short |= {"handwriting fonts": "fonts", "MNIST's test digits": "mnist"}
    for kind, name in short.items():
        if kind in by_kind:  # fonts are no part of the project
            figures[f"own.{name}.n"] = f"{by_kind[kind]['n']:,}"
            for column in ("naive", "one_ground", "ours", "ceiling", "sure_wrong", "doubtful"):
                figures[f"own.{name}.{column}"] = f"{by_kind[kind][column]:.1%}"
    rows = [line for line in lines if line["kind"] in ROWS]
    figures["own.rows.ours"] = f"{np.mean([line['ours'] for line in rows]):.1%}"
    figures["own.rows.n"] = f"{sum(line['n'] for line in rows):,}"
    return figures


def write(page: Path, columns: list[str], lines: Iterable[dict[str, Any]]) -> None:
    """Write a table, and show it."""
    with page.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow(
                {n: round(float(v), 4) if isinstance(v, float) else v for n, v in line.items()}
            )
    print(page.read_text("utf-8"))


if __name__ == "__main__":
    main()
