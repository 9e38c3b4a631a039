"""A picture's file becomes grey levels, upright and not needlessly large, or a message."""

import importlib.util
import math
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mnist_helpers.errors import ConfigError, InputError

# Only formats that are plain pictures: EPS, for one, is a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "HEIF")
MAX_PIXELS = 64_000_000  # phones take 50 megapixels; more is refused before it is unpacked
ENOUGH_PIXELS = 300_000  # larger pictures are reduced to about this before NumPy sees them
OTHERS = {  # what Pillow can't read, by how the file begins
    b"ftyphe": "is HEIC, the iPhone's own format; export it as JPEG, or install pillow-heif",
    b"%PDF-": "is a PDF, not a picture; export the page as PNG, or take a screenshot",
    b"<svg": "is an SVG drawing, not a picture; export it as PNG",
}
WHITE = 255, 1023, 4095, 65535  # with 8, 10, 12 and 16 bits; a 16-bit PNG may hold any of them
TURNS: dict[Any, Image.Transpose] = {  # how each EXIF orientation is brought upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def fault(error: Exception, in_memory: bool) -> str:
    """Say what is wrong with a picture; only what was read can be damaged."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {MAX_PIXELS:,} pixels; make it smaller"
    if isinstance(error, MemoryError):
        return "cannot be read: there is not enough memory"
    if isinstance(error, OSError) and error.errno:  # the system's; a reader's has no number
        return f"cannot be read: {error.strerror}"
    if in_memory or isinstance(error, ConfigError | UnicodeEncodeError):
        return f"cannot be read: {error}"
    return f"is damaged ({error}); save or copy it again"


def read(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a file into grey levels (H, W) from 0 to 255; return the picture's size as well."""
    if not stat.S_ISREG(path.stat().st_mode):  # reading from a pipe could wait forever
        raise InputError(f"{path} is not a file; name a picture")
    with path.open("rb") as file:
        head = file.read(1024)
    if head[4:8] == b"ftyp" and importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(path, formats=known)
    except UnidentifiedImageError as error:
        unknown = f"is not a picture in one of the formats {', '.join(known)}; export it as PNG"
        what = next((text for sign, text in OTHERS.items() if sign in head), unknown)
        raise InputError(f"{path} {what}") from error
    with image:
        size = image.size
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        factor = _factor(image)
        image.draft("L", (size[0] // factor, size[1] // factor))  # a JPEG is unpacked smaller
        return to_grey(image), size


def to_grey(image: Image.Image) -> np.ndarray:
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
    return max(1, round(math.sqrt(image.width * image.height / ENOUGH_PIXELS)))


def _reduced(image: Image.Image) -> Image.Image:
    factor = _factor(image)
    if factor > 1 and image.mode.startswith("I"):
        image = image.convert("I")
    elif factor > 1 and image.mode in ("1", "P", "PA"):  # colours by number have no mean
        image = image.convert("RGBA" if image.has_transparency_data else "L")
    return image.reduce(factor) if factor > 1 else image
