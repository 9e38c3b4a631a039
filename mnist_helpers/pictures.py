"""A picture of a digit, cut and centred as MNIST's are (`prepare`), and read (`predict`).

MNIST's digits were scaled into a box of 20x20 pixels with their aspect ratio kept, and put
into 28x28 so that their centre of mass is the centre (LeCun et al. 1998, section III A,
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf). The network has never seen a digit
prepared in any other way, and misreads one.
"""

import math
import os
import stat
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import nn

from mnist_helpers.config import as_path
from mnist_helpers.data.digits import normalise
from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.model import IMAGE_SIZE, evaluation_mode

PICTURE = (str, os.PathLike, Image.Image)  # what `prepare` takes
# Only formats that are plain pictures: EPS, for one, is a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 64_000_000  # phones take 50 megapixels; more is refused before it is unpacked
ENOUGH_PIXELS = 1_000_000  # larger pictures are reduced before NumPy, but never below this
BATCH_SIZE = 250  # pictures that go through the network at once
BOX_SIZE = 20  # the longer side of a digit, in MNIST's pixels
MIN_CONTRAST = 16  # of 255: less is the noise of an empty sheet
INK_THRESHOLD = 0.1  # of the darkest ink: fainter marks do not widen the digit's box
CENTRE = IMAGE_SIZE // 2  # where MNIST's digits have their centre of mass, by measurement
WHITE = 255, 1023, 4095, 65535  # with 8, 10, 12 and 16 bits; a 16-bit PNG may hold any of them
TURNS: dict[Any, Image.Transpose] = {  # how each EXIF orientation is brought upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """What the network takes a picture to be."""

    digit: int  # the most probable one
    probabilities: tuple[float, ...]  # of the digits 0 to 9; they add up to 1

    @property
    def confidence(self) -> float:
        """The probability of the digit."""
        return self.probabilities[self.digit]


def predict(model: nn.Module, images: Any) -> list[Prediction]:
    """Return which digit is in each picture, in the same order.

    `images` are pictures, or a single one. Paths and `PIL.Image`s go through `prepare`; arrays
    and tensors (28, 28) of dtype uint8 are taken as they are, light ink on a dark ground. Raises
    InputError for a picture that can't be used, and if the network's answers are not numbers.
    """
    if isinstance(images, PICTURE) or getattr(images, "ndim", None) == 2:
        images = [images]
    if not isinstance(images, Iterable):
        raise InputError(f"predict takes pictures, got {type(images).__name__}")
    pictures = [_as_tensor(image) for image in images]
    answers: list[Prediction] = []
    weights = next(model.parameters(), torch.zeros(()))
    with torch.no_grad(), evaluation_mode(model):
        for start in range(0, len(pictures), BATCH_SIZE):
            batch = torch.stack(pictures[start : start + BATCH_SIZE])
            logits = model(normalise(batch).unsqueeze(1).to(weights.device, weights.dtype))
            if not logits.isfinite().all():
                raise InputError(
                    "the network's answers are not numbers: its weights are NaN, infinite or far "
                    "too large; load another checkpoint, or train with a lower learning rate"
                )
            rows = logits.softmax(dim=1).tolist()
            answers += [Prediction(int(np.argmax(row)), tuple(row)) for row in rows]
    return answers


def _as_tensor(image: Any) -> torch.Tensor:
    if isinstance(image, PICTURE):
        return torch.from_numpy(prepare(image))
    try:  # a copy, since PyTorch can't take an array that was flipped
        array = image if isinstance(image, torch.Tensor) else torch.from_numpy(np.array(image))
    except (TypeError, ValueError) as error:
        raise InputError(f"a {type(image).__name__} is not a picture: {error}") from error
    if array.shape != (IMAGE_SIZE, IMAGE_SIZE) or array.dtype != torch.uint8:
        raise InputError(
            f"an array must be uint8 of shape (28, 28), got {array.dtype} {tuple(array.shape)}; "
            "for a picture of another size give its path or a PIL.Image"
        )
    return array.cpu()


def prepare(image: str | os.PathLike[str] | Image.Image) -> np.ndarray:
    """Bring a picture of one digit to MNIST's form: (28, 28) uint8, 0 ground, 255 full ink.

    `image` is a file (one of `FORMATS`) of at most `MAX_PIXELS`, or a `PIL.Image`, in dark ink
    on light or light on dark. A transparent one goes on a ground that shows it. Raises
    InputError if it can't be read, or if it is not a picture, too large, or empty.
    """
    if not isinstance(image, PICTURE):
        raise InputError(f"prepare takes a path or a PIL.Image, got {type(image).__name__}")
    name = "the picture" if isinstance(image, Image.Image) else str(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF, and of a size that is refused anyway
            grey = _to_grey(image) if isinstance(image, Image.Image) else _read(as_path(image))
        return _to_mnist(grey, name)
    except InputError:
        raise
    except Exception as error:  # an odd picture makes Pillow's readers raise anything
        raise InputError(f"{name} {_fault(error, isinstance(image, Image.Image))}") from error


def _fault(error: Exception, in_memory: bool) -> str:
    """Say what is wrong with a picture; only what was read can be damaged."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, UnidentifiedImageError):
        return f"is not a picture in one of the formats {', '.join(FORMATS)}; convert it to PNG"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {MAX_PIXELS:,} pixels; make it smaller"
    if isinstance(error, MemoryError):
        return "cannot be read: there is not enough memory"
    if isinstance(error, OSError) and error.errno:  # the system's; a reader's has no number
        return f"cannot be read: {error.strerror}"
    if in_memory or isinstance(error, ConfigError | UnicodeEncodeError):
        return f"cannot be read: {error}"
    return f"is damaged ({error}); save or copy it again"


def _read(path: Path) -> np.ndarray:
    """Read a file into grey levels (H, W) from 0 to 255."""
    if not stat.S_ISREG(path.stat().st_mode):  # reading from a pipe could wait forever
        raise InputError(f"{path} is not a file; name a picture")
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        factor = _factor(image)  # a JPEG need not even be unpacked at full size
        image.draft(None, (image.width // factor, image.height // factor))
        return _to_grey(image)


def _to_grey(image: Image.Image) -> np.ndarray:
    """Return grey levels (H, W) from 0 to 255 as floats, upright and not needlessly large."""
    image.load()  # before EXIF is looked for, since a damaged picture must not pass for a sound one
    turn, image = _turn(image), _reduced(image)
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I") or image.mode == "F":  # more than 8 bits
        levels = np.asarray(image, dtype=np.float64)
        white = next((white for white in WHITE if levels.max(initial=0) <= white), WHITE[-1])
        if image.mode == "F" and levels.max(initial=0) <= 2:  # enlarging may go beyond 1
            white = 1
        return levels * (255 / white)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        grey = np.asarray(rgba.convert("L"), dtype=np.float64)
        cover = np.asarray(rgba.getchannel("A"), dtype=np.float64) / 255
        # Dark drawings go on white and light ones on black: on its own colour none shows.
        is_dark = (grey * cover).sum() < 127.5 * cover.sum()
        return grey * cover + (255.0 if is_dark else 0.0) * (1 - cover)
    return np.asarray(image.convert("L"), dtype=np.float64)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how a picture is brought upright."""
    try:
        orientation = _orientation(image.info["exif"]) if "exif" in image.info else None
        # Pillow finds what stands elsewhere, but gives up at the first odd tag.
        return TURNS.get(orientation or image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # cameras write odd things there, and the picture is sound
        return None


def _orientation(exif: bytes) -> int | None:
    """Return the orientation that EXIF gives, without a look at any other tag."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = "<" if tiff.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}L", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _, value = struct.unpack_from(f"{order}HHLH", tiff, place)
        if (tag, kind) == (ExifTags.Base.Orientation, 3):  # 3: a short number
            return int(value)
    return None


def _factor(image: Image.Image) -> int:
    """Return by how much both sides of a picture can be reduced."""
    return max(1, math.isqrt(image.width * image.height // ENOUGH_PIXELS))


def _reduced(image: Image.Image) -> Image.Image:
    factor = _factor(image)
    if factor == 1:
        return image
    if image.mode.startswith("I"):
        image = image.convert("I")
    elif image.mode in ("1", "P", "PA"):  # colours by number have no mean
        image = image.convert("RGBA" if image.has_transparency_data else "L")
    return image.reduce(factor)


def _to_mnist(grey: np.ndarray, name: str) -> np.ndarray:
    """Find the ink in grey levels (H, W), scale it to the box and centre it."""
    if not np.isfinite(grey).all():
        raise InputError(f"{name} has values that are NaN or infinite")
    if grey.size == 0 or grey.max() - grey.min() < MIN_CONTRAST:
        raise InputError(f"{name} is empty: one colour from edge to edge")
    # What the rim shows is the ground; ink is whatever differs from it the other way.
    ground = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    is_light = ground > (grey.max() + grey.min()) / 2
    ink = np.clip(ground - grey if is_light else grey - ground, 0, None)
    marked = ink > INK_THRESHOLD * ink.max()
    rows, columns = np.flatnonzero(marked.any(1)), np.flatnonzero(marked.any(0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    scale = BOX_SIZE / max(digit.shape)
    height, width = (max(1, round(side * scale)) for side in digit.shape)
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    resized = Image.fromarray(digit.astype(np.float32)).resize((width, height), method)
    levels = np.clip(np.asarray(resized, dtype=np.float64), 0, None)
    levels *= 255 / levels.max()

    canvas = np.zeros((IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    top, left = (_offset(levels.sum(1)), _offset(levels.sum(0)))
    canvas[top : top + height, left : left + width] = levels.round()
    return canvas


def _offset(profile: np.ndarray) -> int:
    """Return where a digit must start for its centre of mass to be the canvas' centre."""
    centre = (np.arange(len(profile)) * profile).sum() / profile.sum()
    return int(np.clip(round(CENTRE - centre), 0, IMAGE_SIZE - len(profile)))
