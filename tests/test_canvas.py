"""The canvas of notebook 06: strokes become MNIST's form, answers come, examples are kept."""

import base64
import io

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from torch import nn

from mnist_helpers import DataSource, InputError, MnistCNN, load_mnist, predict
from mnist_helpers.tutorial.canvas import Canvas, recorded_strokes, strokes_to_image

WIDGET = "application/vnd.jupyter.widget-view+json"
SEVEN = [[[0.3, 0.2], [0.7, 0.2]], [[0.7, 0.2], [0.45, 0.8]]]
STYLES = recorded_strokes()


@pytest.fixture
def canvas(monkeypatch):
    monkeypatch.setattr(Canvas, "_kept", [])
    torch.manual_seed(1)
    return Canvas(MnistCNN())


def draw(canvas, strokes, number=1):
    canvas.drawing = {"number": number, "strokes": strokes}
    return canvas.answer


def moved(strokes, scale, x, y):
    return [[[scale * a + x, scale * b + y] for a, b in stroke] for stroke in strokes]


def test_the_recorded_strokes_are_ten_digits_in_three_styles():
    assert list(STYLES) == ["plain", "European", "hasty"]
    for digits in STYLES.values():
        assert len(digits) == 10
        for strokes in digits:
            points = np.concatenate(strokes)
            assert points.min() >= 0 and points.max() <= 1 and len(points) > 20
    plain, european = STYLES["plain"], STYLES["European"]
    more = [digit for digit in range(10) if len(european[digit]) > len(plain[digit])]
    assert {0, 1, 7} <= set(more)  # a slash, a foot, a bar


@pytest.mark.parametrize("style", STYLES)
def test_strokes_look_like_mnist(style, sample_root):
    images = np.array([strokes_to_image(strokes) for strokes in STYLES[style]])
    assert images.dtype == np.uint8 and images.shape == (10, 28, 28)
    real = load_mnist(sample_root)[0].images.numpy()
    for measure in (np.mean, lambda x: (x > 0).sum() / len(x), lambda x: (x > 250).sum() / len(x)):
        assert 0.7 < measure(images) / measure(real) < 1.3
    for image in images:
        rows, columns = np.nonzero(image)
        assert 18 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        assert np.average(rows, weights=image[rows, columns]) == pytest.approx(14, abs=0.6)


@pytest.mark.parametrize("where", [(0.3, 0.0, 0.0), (0.3, 0.7, 0.65), (0.6, 0.2, 0.3)])
def test_size_and_place_on_the_canvas_make_no_difference(where):
    for strokes in STYLES["plain"]:
        large, small = strokes_to_image(strokes), strokes_to_image(moved(strokes, *where))
        assert np.abs(large.astype(int) - small).mean() < 1


def test_a_drawing_without_ink_is_empty_and_a_dot_is_not():
    for nothing in ([], [[]]):
        assert not strokes_to_image(nothing).any()
    assert strokes_to_image([[[0.5, 0.5]]]).max() == 255


@pytest.mark.parametrize(
    "strokes", [7, "seven", [[0.5, 0.5]], [[[1, 2, 3]]], [[[0, np.nan]]], [[["a", "b"]]]]
)
def test_other_strokes_are_refused(strokes):
    with pytest.raises(InputError, match="strokes must be lists of points"):
        strokes_to_image(strokes)


def test_it_answers_each_drawing_as_predict_does(canvas):
    answer = draw(canvas, SEVEN, number=5)
    image = strokes_to_image(SEVEN)
    (said,) = predict(canvas.model, image)
    assert answer["number"] == 5
    assert answer["pixels"] == image.ravel().tolist()
    assert answer["probabilities"] == said.probabilities
    assert answer["doubtful"] is said.doubtful is True  # it has learned nothing


def test_an_empty_canvas_gets_no_probabilities(canvas):
    draw(canvas, SEVEN)
    answer = draw(canvas, [], number=2)
    assert answer == {"number": 2, "pixels": [0] * 784}


def test_what_goes_wrong_is_said_on_the_canvas(canvas):
    with torch.no_grad():
        canvas.model.input_block[0].weight.fill_(torch.nan)
    assert "not numbers" in draw(canvas, SEVEN)["error"]
    assert "strokes must be" in draw(canvas, [[[1]]], number=2)["error"]


def test_it_keeps_labelled_examples_in_their_order(canvas):
    assert len(canvas.examples) == canvas.kept == 0
    canvas.keep(SEVEN, 7)
    message = {"label": 0, "strokes": STYLES["European"][0]}
    canvas._handle_custom_msg(message, [])  # as if a button had been pressed
    assert canvas.kept == 2
    examples = canvas.examples
    assert examples.labels.tolist() == [7, 0] and examples.source == DataSource.OTHER
    assert (examples.images[0].numpy() == strokes_to_image(SEVEN)).all()
    assert Canvas(canvas.model).kept == 2  # as when the notebook's cell is run again
    for kept in (1, 0, 0):  # undone, and once more than there were
        canvas._handle_custom_msg({"undo": True}, [])
        assert canvas.kept == len(canvas.examples) == kept


@pytest.mark.parametrize(("strokes", "label"), [([], 7), (SEVEN, 10), (SEVEN, None), (SEVEN, -1)])
def test_only_a_digit_is_kept(canvas, strokes, label):
    with pytest.raises(InputError, match="from 0 to 9"):
        canvas.keep(strokes, label)
    assert canvas.kept == 0


@pytest.mark.parametrize("model", [None, "best.pth", nn.Linear(3, 2), nn.Flatten()])
def test_it_takes_a_network_for_digits(model):
    with pytest.raises(InputError, match="network"):
        Canvas(model)


def test_it_takes_recorded_strokes_that_can_be_drawn():
    with pytest.raises(InputError, match="strokes must be lists of points"):
        Canvas(MnistCNN(), [[[1, 2]]])


def test_where_there_is_no_notebook_it_is_a_picture(canvas):
    assert set(canvas._repr_mimebundle_()[0]) == {WIDGET, "text/plain"}
    data, _ = Canvas(canvas.model, STYLES["hasty"])._repr_mimebundle_()
    assert data[WIDGET]["model_id"] and "needs a running notebook" in data["text/plain"]
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width > 2 * picture.height and np.ptp(np.asarray(picture.convert("L"))) == 255


@pytest.mark.slow
def test_a_run_without_anybody_to_draw_saves_the_picture():
    """Executed as tools/run_notebooks.py does, it doesn't wait for a front end."""
    source = """
from mnist_helpers import MnistCNN
from mnist_helpers.tutorial.canvas import Canvas, recorded_strokes
Canvas(MnistCNN(), recorded_strokes()["plain"])
"""
    notebook = new_notebook(cells=[new_code_cell(source)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert {"image/png", "text/plain"} <= set(output.data)
    nbformat.validate(notebook)
