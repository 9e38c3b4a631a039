"""Reads pictures of digits: `prepare` one, `find_digits` in a row or page, `predict` what it is.

MNIST's digits were scaled into a box of 20x20 pixels with their aspect ratio kept, and put
into 28x28 so that their centre of mass is the centre (LeCun et al. 1998, section III A,
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf). The network misreads any other digit.
"""

import dataclasses
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from mnist_helpers.config import as_path
from mnist_helpers.data.digits import normalise
from mnist_helpers.errors import InputError
from mnist_helpers.ink import SEVERAL, Digit, find
from mnist_helpers.model import IMAGE_SIZE, evaluation_mode
from mnist_helpers.picture_files import fault, read, to_grey

PICTURE = (str, os.PathLike, Image.Image)  # what `prepare` takes
BATCH_SIZE = 250  # pictures that go through the network at once
MIN_CONTRAST = 16  # of 255: less is the noise of an empty sheet
CONFIDENT = 0.9  # a lower probability is doubtful; chosen by experiments/handwriting.py
UNSURE = "the network is not sure"


@dataclass(frozen=True)
class Prediction:
    """What the network takes a picture to be."""

    digit: int  # the most probable one
    probabilities: tuple[float, ...]  # of the digits 0 to 9; they add up to 1
    doubtful: bool = False  # it may be no digit, or not this one
    why: str = ""  # it is doubtful

    @property
    def confidence(self) -> float:
        """The probability of the digit."""
        return self.probabilities[self.digit]


def predict(model: nn.Module, images: Any) -> list[Prediction]:
    """Return which digit is in each picture, in the same order.

    `images` are pictures, or a single one: paths and `PIL.Image`s of one digit, what `find_digits`
    returns, or arrays and tensors (28, 28) of dtype uint8, light ink on a dark ground. Raises
    InputError for a picture that can't be used, and if the network's answers are not numbers.
    """
    if isinstance(images, (*PICTURE, Digit)) or getattr(images, "ndim", None) == 2:
        images = [images]
    if not isinstance(images, Iterable):
        raise InputError(f"predict takes pictures, got {type(images).__name__}")
    digits = [_digit_of(image) for image in images]
    answers: list[Prediction] = []
    weights = next(model.parameters(), torch.zeros(()))
    with torch.no_grad(), evaluation_mode(model):
        for start in range(0, len(digits), BATCH_SIZE):
            some = digits[start : start + BATCH_SIZE]
            batch = torch.from_numpy(np.stack([digit.image for digit in some]))
            logits = model(normalise(batch).unsqueeze(1).to(weights.device, weights.dtype))
            if not logits.isfinite().all():
                raise InputError(
                    "the network's answers are not numbers; load another checkpoint, or train "
                    "with a lower learning rate"
                )
            for digit, row in zip(some, logits.softmax(dim=1).tolist(), strict=True):
                why = digit.doubt or ("" if max(row) > CONFIDENT else UNSURE)
                answers.append(Prediction(int(np.argmax(row)), tuple(row), bool(why), why))
    return answers


def _digit_of(image: Any) -> Digit:
    if isinstance(image, PICTURE):
        return _find(image, only_one=True)[0]
    if isinstance(image, Digit):
        return image
    try:
        array = image.numpy(force=True) if isinstance(image, torch.Tensor) else np.array(image)
    except (TypeError, ValueError) as error:
        raise InputError(f"a {type(image).__name__} is not a picture: {error}") from error
    if array.shape != (IMAGE_SIZE, IMAGE_SIZE) or array.dtype != np.uint8:
        raise InputError(
            f"an array must be uint8 of shape (28, 28), got {array.dtype} {array.shape}; "
            "for a picture of another size give its path or a PIL.Image"
        )
    return Digit((0, 0, IMAGE_SIZE, IMAGE_SIZE), array)


def prepare(image: str | os.PathLike[str] | Image.Image) -> np.ndarray:
    """Bring a picture of one digit to MNIST's form: (28, 28) uint8, 0 ground, 255 full ink.

    `image` is a file (one of `FORMATS`) of at most `MAX_PIXELS`, or a `PIL.Image`, in dark ink
    on light or light on dark, and may be a photograph. A transparent one goes on a ground that
    shows it. Raises InputError if it can't be read, or is not a picture, too large, or empty.
    """
    return _find(image, only_one=True)[0].image


def find_digits(image: str | os.PathLike[str] | Image.Image) -> list[Digit]:
    """Find the digits of a row or page: line by line, each from left to right.

    Takes and raises what `prepare` does. Each has its `box` (left, top, right, bottom in pixels of
    the picture) and its `image` (28, 28); `predict` takes them as they are.
    """
    return _find(image, only_one=False)


def read_digits(image: str | os.PathLike[str] | Image.Image) -> list[Digit]:
    """Return the one digit of a picture, or all if it has several; raises what `prepare` does."""
    digits = _find(image, only_one=True)
    return _find(image, only_one=False) if digits[0].doubt == SEVERAL else digits


def _find(image: Any, only_one: bool) -> list[Digit]:
    if not isinstance(image, PICTURE):
        raise InputError(f"prepare takes a path or a PIL.Image, got {type(image).__name__}")
    name = "the picture" if isinstance(image, Image.Image) else str(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF, and of a size that is refused anyway
            if isinstance(image, Image.Image):
                grey, size = to_grey(image), image.size
            else:
                grey, size = read(as_path(image))
    except InputError:
        raise
    except Exception as error:  # an odd picture makes Pillow's readers raise anything
        raise InputError(f"{name} {fault(error, isinstance(image, Image.Image))}") from error
    if not np.isfinite(grey).all():
        raise InputError(f"{name} has values that are NaN or infinite")
    is_blank = grey.size == 0 or np.ptp(grey) < MIN_CONTRAST
    digits = [] if is_blank else find(grey, only_one)
    if not digits:
        raise InputError(f"{name} is empty: no ink stands out from its ground")
    scale = max(size) / max(grey.shape)
    boxes = [tuple(round(side * scale) for side in digit.box) for digit in digits]
    return [dataclasses.replace(d, box=box) for d, box in zip(digits, boxes, strict=True)]
