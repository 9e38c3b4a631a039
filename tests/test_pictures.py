import errno
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mnist_helpers import pictures as module
from mnist_helpers.data.digits import load_mnist, normalise
from mnist_helpers.errors import InputError
from mnist_helpers.model import MnistCNN
from mnist_helpers.picture_files import MAX_PIXELS
from mnist_helpers.pictures import Prediction, predict, prepare


@pytest.fixture(scope="module")
def digits(sample_root):
    """Real MNIST digits, (1000, 28, 28) uint8."""
    return load_mnist(sample_root.parent)[1].images.numpy()


@pytest.fixture
def seven(digits):
    """One real digit, large, dark on white and off the centre, as a person might draw it."""
    large = Image.fromarray(255 - digits[3]).resize((280, 280), Image.Resampling.BICUBIC)
    sheet = Image.new("L", (700, 400), 255)
    sheet.paste(large, (390, 20))
    return sheet


def likeness(one, other):
    return np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1]


def test_mnists_own_digits_stay_as_they_are(digits):
    pictures = [(digit, prepare(Image.fromarray(digit))) for digit in digits[:300]]
    differences = np.array([abs(a.astype(int) - b).mean() for a, b in pictures])
    assert (differences == 0).mean() > 0.6
    assert differences.mean() < 0.4  # of a mean pixel of 33


def save(image, path, **options):
    image.save(path, **options)
    return path


def rgba(image, ink):
    """Return ink of one grey level on a transparent ground."""
    cover = Image.eval(image, lambda level: 255 - level)
    layer = Image.new("RGBA", image.size, (ink, ink, ink, 0))
    layer.putalpha(cover)
    return layer


VARIANTS = {
    "png": lambda i, p: save(i, p / "x.png"),
    "jpeg": lambda i, p: save(i, p / "x.jpg", quality=80),
    "webp": lambda i, p: save(i.convert("RGB"), p / "x.webp"),
    "bmp": lambda i, p: save(i, p / "x.bmp"),
    "gif": lambda i, p: save(i, p / "x.gif"),
    "wrong ending": lambda i, p: save(i, p / "x.txt", format="PNG"),
    "light on dark": lambda i, p: save(Image.eval(i, lambda v: 255 - v), p / "x.png"),
    "pale": lambda i, p: save(Image.eval(i, lambda v: 150 + v // 3), p / "x.png"),
    "16 bit": lambda i, p: save(
        Image.fromarray(np.asarray(i).astype(np.uint16) * 257), p / "x.png"
    ),
    "10 bit": lambda i, p: save(Image.fromarray(np.asarray(i).astype(np.uint16) * 4), p / "x.png"),
    "12 bit": lambda i, p: save(Image.fromarray(np.asarray(i).astype(np.uint16) * 16), p / "x.png"),
    "1 bit": lambda i, p: save(i.convert("1", dither=Image.Dither.NONE), p / "x.png"),
    "palette": lambda i, p: save(i.convert("P"), p / "x.png"),
    "colour": lambda i, p: save(
        Image.merge("RGB", (i, i, Image.eval(i, lambda v: 120 + v // 2))), p / "x.png"
    ),
    "cmyk": lambda i, p: save(i.convert("CMYK"), p / "x.jpg", quality=90),
    "black on transparent": lambda i, p: save(rgba(i, 0), p / "x.png"),
    "white on transparent": lambda i, p: save(rgba(i, 255), p / "x.webp", lossless=True),
    "grey and alpha": lambda i, p: save(rgba(i, 0).convert("LA"), p / "x.png"),
    "transparent gif": lambda i, p: save(
        i.point(lambda v: 255 if v > 128 else 0).convert("P"), p / "x.gif", transparency=255
    ),
    "small": lambda i, p: save(i.resize((70, 40), Image.Resampling.BOX), p / "x.png"),
    "huge": lambda i, p: save(i.resize((3500, 2000)), p / "x.png"),
    "huge 1 bit": lambda i, p: save(
        i.resize((3500, 2000)).convert("1", dither=Image.Dither.NONE), p / "x.png"
    ),
    "huge 10 bit": lambda i, p: save(
        Image.fromarray(np.asarray(i.resize((3500, 2000))).astype(np.uint16) * 4), p / "x.png"
    ),
    "huge palette": lambda i, p: save(i.resize((3500, 2000)).convert("P"), p / "x.png"),
    "huge on transparent": lambda i, p: save(rgba(i.resize((3500, 2000)), 0), p / "x.png"),
    "huge with a transparent colour": lambda i, p: save(
        i.resize((3500, 2000)), p / "x.png", transparency=255
    ),
    "huge jpeg": lambda i, p: save(i.resize((3500, 2000)).convert("RGB"), p / "x.jpg"),
}  # fmt: skip


# Without grey levels, or with so few pixels, less of a digit is left.
WORST = {"1 bit": 0.85, "transparent gif": 0.85, "small": 0.8}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_picture_becomes_the_digit_it_shows(name, seven, digits, tmp_path):
    prepared = prepare(VARIANTS[name](seven, tmp_path))
    assert prepared.shape == (28, 28) and prepared.dtype == np.uint8
    assert prepared.max() == 255
    rows, columns = np.flatnonzero(prepared.any(1)), np.flatnonzero(prepared.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert likeness(prepared, digits[3]) > WORST.get(name, 0.93)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_in_any_way_is_understood(seven, digits, tmp_path, orientation):
    undo = {
        1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"],
        5: ["TRANSPOSE"], 6: ["ROTATE_90"], 7: ["TRANSVERSE"], 8: ["ROTATE_270"],
    }[orientation]  # fmt: skip
    stored = seven
    for step in undo:
        stored = stored.transpose(Image.Transpose[step])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.jpg", exif=exif, quality=90)
    assert likeness(prepare(tmp_path / "x.jpg"), digits[3]) > 0.9


def exif(*entries, extra=b"", after=b"\0" * 4):
    """Return EXIF that says "held sideways" (6), with further tags (tag, type, count, value)."""
    tags = sorted([(0x0112, 3, 1, b"\x06\0\0\0"), *entries])
    body = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + after + extra


def odd_tags():
    """Draw tags of every type with counts, offsets and values that make no sense."""
    draw = random.Random(1)
    tags = (0x0100, 0x010F, 0x011A, 0x02BC, 0x8769, 0x8825, 0x83BB, 0xA005, 0xFFFF)
    counts = (0, 1, 2, 3, 1000, 2**31, 2**32 - 1)
    for number in range(100):
        entry = (draw.choice(tags), number % 14, draw.choice(counts), draw.randbytes(4))
        yield exif(entry, extra=draw.randbytes(40), after=draw.randbytes(4))


# Each of these ended a `predict` of many pictures: with struct.error, AttributeError, TypeError.
ODD_EXIF = [
    exif((0x0100, 2, 1, b"\0\1\0\0")),
    exif((0x010F, 5, 1, b"\x1a\0\0\0"), extra=b"A" * 20),
    exif((0x02BC, 10, 1, b"\x1a\0\0\0"), extra=b"\xff" * 20),
    exif((0x83BB, 11, 1, b"\0\0\x80\x3f")),
    exif((0x8769, 4, 1, b"\x08\0\0\0"), after=b"\x08\0\0\0"),  # points at itself
    *odd_tags(),
]


def test_odd_exif_spoils_no_picture_and_the_orientation_is_still_read(seven, digits, tmp_path):
    path = tmp_path / "x.jpg"
    for odd in ODD_EXIF:
        seven.transpose(Image.Transpose.ROTATE_90).save(path, exif=odd, quality=90)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert likeness(prepare(path), digits[3]) > 0.9, odd


@pytest.mark.parametrize("end", [4, 8, 12, 16, 20, 24])
def test_exif_cut_short_leaves_a_picture_as_it_is(seven, digits, tmp_path, end):
    seven.save(tmp_path / "x.jpg", exif=exif()[:end], quality=90)
    assert likeness(prepare(tmp_path / "x.jpg"), digits[3]) > 0.9


@pytest.mark.parametrize(("kind", "value"), [(3, 0), (3, 9), (2, 6), (5, 6), (12, 6), (3, 65535)])
def test_an_odd_orientation_leaves_a_picture_as_it_is(seven, digits, tmp_path, kind, value):
    odd = exif().replace(b"\x12\x01\x03\0", b"\x12\x01" + struct.pack("<H", kind))
    odd = odd.replace(b"\x06\0\0\0", struct.pack("<I", value))
    seven.save(tmp_path / "x.jpg", exif=odd, quality=90)
    assert likeness(prepare(tmp_path / "x.jpg"), digits[3]) > 0.9


def test_a_digit_in_a_corner_or_in_a_wide_sheet_is_found(digits):
    for size, where in (((2000, 60), (1900, 10)), ((40, 900), (5, 0))):
        sheet = Image.new("L", size, 0)
        sheet.paste(Image.fromarray(digits[3]), where)
        assert likeness(prepare(sheet), digits[3]) > 0.98


def test_the_centre_of_mass_lies_where_mnist_has_it(digits):
    for digit in digits[:50]:
        prepared = prepare(Image.fromarray(digit).resize((100, 100))).astype(float)
        for axis in (0, 1):
            profile = prepared.sum(1 - axis)
            assert abs((np.arange(28) * profile).sum() / profile.sum() - 14) <= 0.5


def png_header(width, height):
    """Return a PNG that claims to be of that size and holds nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"not a picture", "text.png is not a picture in one of the formats PNG, JPEG"),
        ("nothing.png", b"", "nothing.png is not a picture in one of"),
        ("program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "eps is not a"),
        ("bomb.png", png_header(10_000, 8_000), f"more than {MAX_PIXELS:,} pixels; make it"),
        ("bomb2.png", png_header(60_000, 60_000), f"more than {MAX_PIXELS:,} pixels"),
        ("hollow.png", png_header(30, 30), "hollow.png is damaged"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / name)


@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
def test_a_picture_cut_short_is_named(seven, tmp_path, name):
    path = save(seven, tmp_path / name)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"{name} is damaged"):
        prepare(path)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot be read: Too many open files"),
        (MemoryError(), "cannot be read: there is not enough memory"),
        (OSError("image file is truncated"), "is damaged"),
        (struct.error("unpack"), "is damaged"),
        (AttributeError("no such thing"), "is damaged"),
        (RecursionError("too deep"), "is damaged"),
    ],
)
@pytest.mark.parametrize("stage", ["open", "load"])
def test_only_what_was_read_is_called_damaged(seven, tmp_path, monkeypatch, cause, message, stage):
    def fails(*_, **__):
        raise cause

    path = save(seven, tmp_path / "x.jpg")
    target = (module.Image, "open") if stage == "open" else (module.Image.Image, "convert")
    monkeypatch.setattr(*target, fails)
    with pytest.raises(InputError, match=rf"x\.jpg {message}"):
        prepare(path)


def test_a_path_may_be_given_as_people_write_it(seven, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    expected = prepare(save(seven, tmp_path / "x.png"))
    for words in ("~/x.png", f'"{tmp_path / "x.png"}"', (tmp_path / "x.png").as_uri()):
        assert np.array_equal(prepare(words), expected)
    for odd in ("x\0.png", "", "\ud800.png", str(tmp_path / "x.png" / "y.png"), "n" * 300):
        with pytest.raises(InputError, match=r"cannot be read: "):
            prepare(odd)
    for odd in (None, 3, np.zeros((9, 9))):
        with pytest.raises(InputError, match=r"prepare takes a path or a PIL\.Image, got "):
            prepare(odd)


# The child has read nothing yet when its memory is limited; 40 megapixels took 1.7 GB more.
MEMORY = """
import resource, sys
from PIL import Image
from mnist_helpers.pictures import prepare
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in Linux's unit")
@pytest.mark.slow
@pytest.mark.parametrize(("mode", "name", "most"), [("RGBA", "x.png", 500), ("RGB", "x.jpg", 150)])
def test_a_large_photograph_takes_little_memory(tmp_path, mode, name, most):
    photo = Image.new(mode, (8160, 6120), "white")
    photo.paste("black", (3000, 1000, 3400, 5000))
    path = save(photo, tmp_path / name, compress_level=1)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < most  # MB


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_is_named(tmp_path, level):
    path = save(Image.new("L", (50, 50), level), tmp_path / "blank.png")
    with pytest.raises(InputError, match=r"blank\.png is empty"):
        prepare(path)
    with pytest.raises(InputError, match="the picture is empty"):
        prepare(Image.new("RGBA", (5, 5)))


def test_an_image_of_floats_counts_from_0_to_1_or_to_255(seven):
    levels = np.asarray(seven, dtype=np.float32)
    expected = prepare(seven)
    for floats in (levels, levels / 255):
        assert abs(prepare(Image.fromarray(floats)).astype(int) - expected).max() <= 1
    levels[5, 5] = np.nan
    with pytest.raises(InputError, match="the picture has values that are NaN or infinite"):
        prepare(Image.fromarray(levels))


def test_an_image_that_was_closed_is_not_called_damaged(seven, tmp_path):
    image = Image.open(save(seven, tmp_path / "x.png"))
    image.close()
    with pytest.raises(InputError, match="the picture cannot be read: "):
        prepare(image)


def test_missing_files_folders_and_pipes_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png does not exist"):
        prepare(tmp_path / "gone.png")
    with pytest.raises(InputError, match="is not a file; name a picture"):
        prepare(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match="pipe is not a file"):  # and does not wait for it
            prepare(tmp_path / "pipe")


class CountsInk(nn.Module):
    """Says 7 with a confidence that grows with the ink; remembers what it was given."""

    def forward(self, images):
        self.seen = images
        logits = torch.zeros(len(images), 10)
        logits[:, 7] = images.mean((1, 2, 3))
        return logits


def test_predict_gives_digit_and_probabilities_for_each_picture(seven, digits, tmp_path):
    model = CountsInk().train()
    pictures = [save(seven, tmp_path / "x.png"), seven, digits[0], torch.tensor(digits[1])]
    answers = predict(model, pictures)
    assert [type(answer) for answer in answers] == [Prediction] * 4
    assert all(sum(answer.probabilities) == pytest.approx(1, abs=1e-5) for answer in answers)
    assert answers[0].probabilities == pytest.approx(answers[1].probabilities)
    assert answers[2].confidence == answers[2].probabilities[answers[2].digit]
    assert torch.equal(model.seen[2], normalise(torch.tensor(digits[0])).unsqueeze(0))
    assert model.training
    assert predict(model, []) == []
    assert predict(model, iter(pictures)) == answers
    for place, one in enumerate([str(pictures[0]), *pictures]):  # a single picture
        assert predict(model, one) == [answers[max(0, place - 1)]]
    assert predict(model, [digits[0][::-1]])  # PyTorch can't take its negative stride


def test_pictures_go_through_the_network_in_batches(digits, monkeypatch):
    expected, sizes = predict(CountsInk(), digits[:5]), []

    class Counts(CountsInk):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)

    monkeypatch.setattr(module, "BATCH_SIZE", 2)
    assert predict(Counts(), digits[:5]) == expected
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e38])
def test_a_network_whose_answers_are_no_numbers_is_named(digits, weight):
    model = MnistCNN()
    nn.init.constant_(model.input_block[0].weight, weight)
    with pytest.raises(InputError, match=r"answers are not numbers.*load another checkpoint"):
        predict(model, digits[:2])


def test_predict_is_what_the_network_says(digits):
    model = MnistCNN().eval()
    answers = predict(model, list(digits[:5]))
    with torch.no_grad():
        logits = model(normalise(torch.tensor(digits[:5])).unsqueeze(1))
    assert [a.digit for a in answers] == logits.argmax(1).tolist()
    assert answers[3].probabilities == pytest.approx(logits.softmax(1)[3].tolist(), abs=1e-6)


@pytest.mark.parametrize("array", [np.zeros((28, 28)), np.zeros((27, 28), np.uint8), [1, 2]])
def test_predict_refuses_other_arrays(array):
    with pytest.raises(InputError, match=r"an array must be .*uint8 of shape \(28, 28\), got"):
        predict(MnistCNN(), [array])


@pytest.mark.parametrize("images", [None, 7, [None], [{}], [[[1], [1, 2]]], b"x.png", ["gone.png"]])
def test_predict_names_what_is_no_picture(images):
    with pytest.raises(InputError, match=r"picture|gone\.png does not exist"):
        predict(MnistCNN(), images)
