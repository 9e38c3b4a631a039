"""A picture of a digit, cut and centred as MNIST's are (`prepare`), and read (`predict`).

MNIST's digits were scaled into a box of 20x20 pixels with their aspect ratio kept, and put
into 28x28 so that their centre of mass is the centre (LeCun et al. 1998, section III A,
http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf). The network has never seen a digit
prepared in any other way, and misreads one.
"""

import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import nn

from mnist_helpers.data.digits import normalise
from mnist_helpers.errors import InputError
from mnist_helpers.machine.hardware import device_of
from mnist_helpers.model import IMAGE_SIZE, evaluation_mode

# Only formats that are plain pictures: EPS, for one, is a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 40_000_000  # a 40-megapixel photograph; more is refused before it is unpacked
BOX_SIZE = 20  # the longer side of a digit, in MNIST's pixels
MIN_CONTRAST = 16  # of 255: less is the noise of an empty sheet
INK_THRESHOLD = 0.1  # of the darkest ink: fainter marks do not widen the digit's box
CENTRE = IMAGE_SIZE // 2  # where MNIST's digits have their centre of mass, by measurement

# A damaged picture makes Pillow's readers raise nearly anything.
DAMAGE = (OSError, SyntaxError, EOFError, IndexError, OverflowError, ValueError, TypeError)


@dataclass(frozen=True)
class Prediction:
    """What the network takes a picture to be."""

    digit: int  # the most probable one
    probabilities: tuple[float, ...]  # of the digits 0 to 9; they add up to 1

    @property
    def confidence(self) -> float:
        """The probability of the digit."""
        return self.probabilities[self.digit]


def predict(model: nn.Module, images: Sequence[Any]) -> list[Prediction]:
    """Return which digit is in each picture, in the same order.

    Paths and `PIL.Image`s go through `prepare`; arrays and tensors (28, 28) of dtype uint8
    are taken as they are, light ink on a dark ground.
    """
    if not len(images):
        return []
    pictures = torch.stack([_as_tensor(image) for image in images])
    with torch.no_grad(), evaluation_mode(model):
        logits = model(normalise(pictures).unsqueeze(1).to(device_of(model)))
    rows = logits.softmax(dim=1).tolist()
    return [Prediction(int(np.argmax(row)), tuple(row)) for row in rows]


def _as_tensor(image: Any) -> torch.Tensor:
    if isinstance(image, str | Path | Image.Image):
        return torch.from_numpy(prepare(image))
    array = np.asarray(image)
    if array.shape != (IMAGE_SIZE, IMAGE_SIZE) or array.dtype != np.uint8:
        raise InputError(
            f"an array must be uint8 of shape (28, 28), got {array.dtype} {array.shape}; "
            "for a picture of another size give its path or a PIL.Image"
        )
    return torch.tensor(array)


def prepare(image: str | Path | Image.Image) -> np.ndarray:
    """Bring a picture of one digit to MNIST's form: (28, 28) uint8, 0 ground, 255 full ink.

    `image` is a file (one of `FORMATS`) of at most `MAX_PIXELS`, or a `PIL.Image`, in dark ink
    on light or light on dark. A transparent one goes on a ground that shows it. Raises
    InputError if there is no such file, or if it is not a picture, too large, or empty.
    """
    if isinstance(image, Image.Image):
        try:
            return _to_mnist(_to_grey(ImageOps.exif_transpose(image)), "the picture")
        except InputError:
            raise
        except DAMAGE as error:
            raise InputError(f"the picture cannot be used: {error}") from error
    return _to_mnist(_read(Path(image)), str(image))


def _read(path: Path) -> np.ndarray:
    """Read a file into grey levels (H, W) from 0 to 255."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading from a pipe could wait forever
            raise InputError(f"{path} is not a file; name a picture")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _to_grey(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more than {MAX_PIXELS:,} pixels; make it smaller") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is none of {', '.join(FORMATS)}") from error
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read; it is damaged ({error})") from error


def _to_grey(image: Image.Image) -> np.ndarray:
    """Return grey levels (H, W) from 0 to 255 as floats."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits or more
        levels = np.asarray(image, dtype=np.float64)
        return levels * (255 / 65535) if levels.max(initial=0) > 255 else levels
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        grey = np.asarray(rgba.convert("L"), dtype=np.float64)
        cover = np.asarray(rgba.getchannel("A"), dtype=np.float64) / 255
        # Dark drawings go on white and light ones on black: on its own colour none shows.
        is_dark = (grey * cover).sum() < 127.5 * cover.sum()
        return grey * cover + (255.0 if is_dark else 0.0) * (1 - cover)
    return np.asarray(image.convert("L"), dtype=np.float64)


def _to_mnist(grey: np.ndarray, name: str) -> np.ndarray:
    """Find the ink in grey levels (H, W), scale it to the box and centre it."""
    if grey.size == 0 or not grey.max() - grey.min() >= MIN_CONTRAST:  # so that NaN is refused
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
