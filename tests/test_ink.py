"""Digits are found in photographs, rows and pages, and what may be none is said to be doubtful."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from torch import nn

from mnist_helpers import ink, pictures
from mnist_helpers.data.digits import load_mnist
from mnist_helpers.errors import InputError
from mnist_helpers.pictures import find_digits, predict, prepare

HEIGHT, WIDTH = 480, 640


@pytest.fixture(scope="module")
def digits(sample_root):
    return load_mnist(sample_root.parent)[1].images.numpy()


def enlarged(digit, size):
    image = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    return np.clip((np.asarray(image, float) / 255 - 0.4) * 5 + 0.5, 0, 1)


@pytest.fixture
def cover(digits):
    """One large digit: how much of the paper its ink covers, from 0 to 1."""
    sheet = np.zeros((HEIGHT, WIDTH))
    sheet[120:320, 300:500] = enlarged(digits[3], 200)
    return sheet


def written(cover, paper=230.0, pen=50.0):
    return paper + (pen - paper) * cover


def shown(grey):
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def likeness(one, other):
    return np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1]


rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
draw = np.random.RandomState(0)
flash = np.exp(-(((rows - 80) ** 2 + (columns - 150) ** 2) / 120**2))


def with_frame(grey):
    grey[80:360, 260:265] = grey[80:360, 535:540] = 50
    grey[80:85, 260:540] = grey[355:360, 260:540] = 50
    return grey


def on_table(grey):
    table = np.full((900, 1100), 90.0) + 15 * np.sin(np.arange(1100) / 9)
    table[200:680, 240:880] = grey
    return ndimage.rotate(table, 8, reshape=False, order=1, mode="nearest")


PHOTOGRAPHS = {
    "plain": lambda grey: grey,
    "light falls off": lambda grey: grey * (1 - 0.7 * columns / WIDTH),
    "shadow": lambda grey: grey * np.where(columns > 260 + rows / 4, 0.5, 1),
    "flash": lambda grey: grey * 0.6 + 200 * flash,
    "noise": lambda grey: grey + 25 * draw.standard_normal(grey.shape),
    "ruled": lambda grey: grey * np.where(rows % 40 < 2, 0.75, 1),
    "squared": lambda grey: grey * np.where((rows % 40 < 2) | (columns % 40 < 2), 0.75, 1),
    "chalk": lambda grey: 255 - grey,
    "pencil": lambda grey: 150 + grey / 3,
    "a dot": lambda grey: np.where((rows > 470) & (columns < 6), 0, grey),
    "a neighbour": lambda grey: np.where((columns > 615) & (abs(rows - 220) < 90), 50, grey),
    "a frame": with_frame,
    "a table": on_table,
}  # fmt: skip


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_a_photographed_digit_is_found_whatever_light_and_paper(kind, cover, digits):
    photograph = shown(PHOTOGRAPHS[kind](written(cover)))
    if kind == "a table":
        photograph = photograph.rotate(-8, Image.Resampling.BICUBIC)
    assert likeness(prepare(photograph), digits[3]) > 0.85


def test_each_step_gives_an_array_of_the_same_size(cover):
    grey = on_table(written(cover))
    flat = ink.blank_table(grey)
    assert flat.shape == grey.shape and np.ptp(flat[:100]) < 5  # no table any more
    assert np.array_equal(ink.dark_on_light(flat), flat)
    assert np.allclose(ink.dark_on_light(255 - flat), flat)
    levels = ink.even_ink(flat)
    assert levels.min() == 0 and 0.6 < levels.max() < 1
    (part,) = ink.find_parts(levels > 0.35, levels)
    assert part.sides == 0 and 120 < part.size < 220


def test_what_is_no_table_stays_as_it_is(cover):
    for kind in ("plain", "light falls off", "shadow", "flash", "chalk"):
        grey = PHOTOGRAPHS[kind](written(cover))
        assert np.array_equal(ink.blank_table(grey), grey), kind


def test_the_pieces_of_a_broken_digit_stay_together(cover, digits):
    broken = cover * (abs(rows - 175) > 4)
    assert likeness(prepare(shown(written(broken))), digits[3]) > 0.8


def page_of(digits, places, size=70, shape=(HEIGHT, WIDTH)):
    sheet = np.zeros(shape)
    for digit, (top, left) in zip(digits, places, strict=False):
        sheet[top : top + size, left : left + size] = enlarged(digit, size)
    return sheet


def overlaps(box, top, left, size=70):
    return left <= box[0] < box[2] <= left + size and top <= box[1] < box[3] <= top + size


PLACES = [(60, 40), (70, 150), (55, 260), (64, 400), (220, 90), (230, 220), (224, 330)]


@pytest.mark.parametrize("factor", [1, 4])
def test_the_digits_of_a_page_come_line_by_line_with_their_boxes(digits, factor):
    page = shown(written(page_of(digits, PLACES)) * (1 - 0.5 * rows / HEIGHT))
    found = find_digits(page.resize((WIDTH * factor, HEIGHT * factor)))
    assert len(found) == len(PLACES)
    for digit, source, (top, left) in zip(found, digits, PLACES, strict=False):
        assert overlaps([side / factor for side in digit.box], top, left)
        assert likeness(digit.image, source) > 0.7


def test_boxes_are_those_of_the_upright_picture(digits, tmp_path):
    page = shown(written(page_of(digits, PLACES)))
    exif = Image.Exif()
    exif[0x0112] = 6
    page.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "x.jpg", exif=exif, quality=95)
    found = find_digits(tmp_path / "x.jpg")
    assert all(overlaps(d.box, *place) for d, place in zip(found, PLACES, strict=True))


def test_a_small_strip_of_digits_is_read_too(digits):
    found = find_digits(Image.fromarray(np.hstack(list(digits[:5]))))
    assert [digit.box[0] // 28 for digit in found] == [0, 1, 2, 3, 4]


class Sure(nn.Module):
    """Gives each picture to the digit 4 with a probability near 1, or with one of a tenth."""

    def __init__(self, logit):
        super().__init__()
        self.logit = logit

    def forward(self, images):
        logits = images.new_zeros(len(images), 10)
        logits[:, 4] = self.logit
        return logits


def test_one_digit_of_which_the_network_is_sure_is_not_doubtful(cover, digits):
    for picture in (shown(written(cover)), digits[3], *find_digits(shown(written(cover)))):
        (answer,) = predict(Sure(20), picture)
        assert (answer.digit, answer.doubtful, answer.why) == (4, False, "")
        (answer,) = predict(Sure(0), picture)
        assert answer.doubtful and answer.why == "the network is not sure"


def test_several_marks_are_doubtful_and_each_of_them_is_not(digits):
    page = shown(written(page_of(digits, PLACES)))
    (answer,) = predict(Sure(20), page)
    assert answer.doubtful and "find_digits" in answer.why
    assert [a.doubtful for a in predict(Sure(20), find_digits(page))] == [False] * len(PLACES)


@pytest.mark.parametrize("noise", [4, 12])
@pytest.mark.parametrize("kind", ["plain", "light falls off", "ruled"])
def test_an_empty_sheet_is_refused_or_doubtful(kind, noise):
    sheet = PHOTOGRAPHS[kind](np.full((HEIGHT, WIDTH), 220.0))
    sheet = ndimage.gaussian_filter(sheet + noise * draw.standard_normal(sheet.shape), 1)
    try:
        (answer,) = predict(Sure(20), shown(sheet))
    except InputError as error:
        assert "is empty" in str(error)
    else:
        assert answer.doubtful and answer.why in (ink.EMPTY, ink.SEVERAL)


@pytest.mark.parametrize("size", [(9000, 300), (300, 9000), (1, 300), (3, 3), (250, 19)])
def test_pictures_of_any_shape_are_read_or_refused(size, digits):
    image = Image.new("L", size, 255)
    image.paste(Image.fromarray(255 - digits[3]), (size[0] // 2, size[1] // 2))
    try:
        assert prepare(image).shape == (28, 28)
    except InputError as error:
        assert "is empty" in str(error)


@pytest.mark.parametrize("mode", ["TIFF", "PPM", "AVIF"])
def test_formats_of_scanners_and_phones_are_read(mode, cover, digits, tmp_path):
    pictures.Image.init()
    if mode not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {mode}")
    shown(written(cover)).save(tmp_path / "x", format=mode)
    assert likeness(prepare(tmp_path / "x"), digits[3]) > 0.85


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, the iPhone's own format; export it as"),
        (b"%PDF-1.7\n", "is a PDF, not a picture; export the page as PNG"),
        (b"<?xml version='1.0'?><svg></svg>", "is an SVG drawing, not a picture; export it"),
    ],
)
def test_what_is_often_taken_for_a_picture_is_refused_by_name(content, message, tmp_path):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.jpg {message}"):
        find_digits(tmp_path / "x.jpg")
