"""A canvas for notebooks: draw a digit, and watch what the network sees and says."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import nn

from mnist_helpers.config import DataSource
from mnist_helpers.data.digits import DigitDataset
from mnist_helpers.errors import InputError, MnistHelpersError
from mnist_helpers.ink import to_mnist
from mnist_helpers.model import IMAGE_SIZE, try_network
from mnist_helpers.pictures import predict

FOLDER = Path(__file__).resolve().parent
SIDE = 280  # pixels: the longer side of a digit before it is reduced to MNIST's 20
PEN = 0.13  # of that side; so wide that drawings have as much ink as MNIST's digits
SMALLEST = 0.2  # of the canvas: what is smaller is drawn with a thicker pen, so a dot stays a dot

Strokes = Sequence[Sequence[Sequence[float]]]  # points (x, y) from 0 to 1, y pointing down


def recorded_strokes() -> dict[str, list[Strokes]]:
    """Return the digits 0 to 9 as strokes, in styles named "plain", "European" and "hasty".

    They were made point by point, with a little wobble, and are nobody's handwriting.
    """
    text = (FOLDER / "strokes.json").read_text("utf-8")
    return {style: list(digits.values()) for style, digits in json.loads(text).items()}


def strokes_to_image(strokes: Strokes) -> np.ndarray:
    """Draw strokes in MNIST's form: (28, 28) uint8, 0 ground, 255 full ink; none make all zeros.

    The pen grows with the drawing, so a small digit looks like a large one. Raises InputError
    unless each stroke is a list of points (x, y).
    """
    try:
        lines = [np.array(stroke, dtype=float).reshape(len(stroke), 2) for stroke in strokes]
        points = np.concatenate([np.empty((0, 2)), *lines])
    except (TypeError, ValueError) as error:
        raise InputError(f"strokes must be lists of points (x, y): {error}") from error
    if not np.isfinite(points).all():
        raise InputError("strokes must be lists of points (x, y), got NaN or infinity")
    if not len(points):
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    low, size = points.min(axis=0), np.ptp(points, axis=0).max()
    width = round(PEN * SIDE)
    image = Image.new("L", (SIDE + 2 * width,) * 2)
    pen = ImageDraw.Draw(image)
    for line in lines:
        dots = [(x, y) for x, y in (line - low) * (SIDE / max(size, SMALLEST)) + width]
        pen.line(dots, fill=255, width=width)
        for x, y in dots:  # rounds the ends and the joints
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return to_mnist(np.asarray(image, dtype=float))


def plot_strokes(strokes: Strokes, ax: Axes) -> None:
    """Draw strokes on axes, as they look on the canvas."""
    for stroke in strokes:
        ax.plot(*np.transpose(stroke), color="black", linewidth=6, solid_capstyle="round")
    ax.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="0.6", linewidth=1)


class Canvas(anywidget.AnyWidget):
    """A canvas in a notebook, for mouse, pen and finger.

    Beside it are the 28x28 picture that the network sees, and ten bars with its probabilities.
    What you call "a 7" there is kept, for every canvas of this kernel, until you undo it: see
    `examples`. Where nobody can draw, as on a code host, a picture shows recorded strokes.

    Parameters
    ----------
    model
        The network that answers; it may go on learning while the canvas is in use.
    strokes
        Recorded digits, such as `recorded_strokes()["plain"]`: for that picture, and to be
        replayed on the canvas.
    """

    _esm = FOLDER / "canvas.js"
    _css = FOLDER / "canvas.css"
    drawing = traitlets.Dict().tag(sync=True, echo_update=False)  # its number, and its strokes
    answer = traitlets.Dict().tag(sync=True)  # to the drawing of that number
    recorded: traitlets.List[Any] = traitlets.List().tag(sync=True)
    kept = traitlets.Int().tag(sync=True)  # how many examples
    _kept: ClassVar[list[tuple[np.ndarray, int]]] = []  # survives a cell that is run again

    def __init__(self, model: nn.Module, strokes: Sequence[Strokes] | None = None) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"Canvas takes a network, got {type(model).__name__}")
        try_network(model, next(model.parameters(), torch.zeros(())).device)
        self.model = model
        recorded = [] if strokes is None else list(strokes)
        for one in recorded:
            strokes_to_image(one)  # raises if it can't be used
        super().__init__(recorded=recorded, kept=len(self._kept))
        self.on_msg(self._receive)

    @property
    def examples(self) -> DigitDataset:
        """The drawings that were kept, with their labels, in this order."""
        images = np.reshape([image for image, _ in self._kept], (-1, IMAGE_SIZE, IMAGE_SIZE))
        labels = np.array([label for _, label in self._kept], dtype=np.int64)
        return DigitDataset(images.astype(np.uint8), labels, DataSource.OTHER)

    def keep(self, strokes: Strokes, label: int) -> None:
        """Keep a drawing as an example of the digit `label`; raises InputError if it is empty."""
        image = strokes_to_image(strokes)
        if label not in range(10) or not image.any():
            raise InputError(f"an example needs ink and a label from 0 to 9, got {label!r}")
        self._kept.append((image, int(label)))
        self.kept = len(self._kept)

    @traitlets.observe("drawing")
    def _answer(self, change: Any) -> None:
        answer: dict[str, Any] = {"number": change.new.get("number")}
        try:
            image = strokes_to_image(change.new.get("strokes", []))
            answer["pixels"] = image.ravel().tolist()
            if image.any():
                (said,) = predict(self.model, image)
                answer |= {"probabilities": said.probabilities, "doubtful": said.doubtful}
        except MnistHelpersError as error:  # here nobody sees a traceback
            answer["error"] = str(error)
        self.answer = answer

    def _receive(self, _: Any, message: dict[str, Any], __: Any) -> None:
        if "undo" in message:
            del self._kept[-1:]
            self.kept = len(self._kept)
        else:
            self.keep(message["strokes"], message["label"])

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_() or ({}, {})
        data["text/plain"] = "A canvas to draw digits on; it needs a running notebook."
        if self.recorded:
            data["image/png"] = base64.b64encode(self._picture()).decode()
        return data, metadata

    def _picture(self) -> bytes:
        """Return a PNG of the recorded strokes, what the network sees of them, and its answers."""
        images = [strokes_to_image(strokes) for strokes in self.recorded]
        rows = -(-len(images) // 5)
        figure = Figure(figsize=(10, 1.75 * rows), layout="constrained")
        axes = figure.subplots(rows, 10, width_ratios=[3, 2] * 5, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        answers = predict(self.model, images)
        pairs = zip(axes.reshape(-1, 2), self.recorded, images, answers, strict=False)
        for (left, right), strokes, image, said in pairs:
            left.set_axis_on()
            plot_strokes(strokes, left)
            right.imshow(image, cmap="gray_r", interpolation="nearest")
            right.set_title(f"{said.digit}{'?' * said.doubtful}", fontsize=20, loc="center")
            right.text(13.5, 32, f"{said.confidence:.0%}", ha="center", va="top")
        figure.savefig(file := io.BytesIO(), format="png")
        return file.getvalue()
