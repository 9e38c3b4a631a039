"""A network's table: shapes, receptive fields, parameters, work; measured, not typed."""

import html
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnist_helpers.errors import InputError
from mnist_helpers.model import GlobalAveragePool, evaluation_mode

Pair = tuple[int, int]  # height, width
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
WHOLE_IMAGE_POOLS = (GlobalAveragePool, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
HEADING = ("layer", "output shape", "receptive field", "stride", "parameters", "multiply-adds")


@dataclass(frozen=True)
class LayerSummary:
    """One layer of the table.

    Parameters
    ----------
    name
        The module's path, and what it is.
    output_shape
        Without the batch: (channels, height, width) or (features,).
    receptive_field
        Height and width, in pixels of the input, of what one output can see.
    stride
        Pixels of the input between neighbouring outputs, down and across.
    parameters
        Learned numbers.
    multiply_adds
        For one image.
    """

    name: str
    output_shape: tuple[int, ...]
    receptive_field: Pair
    stride: Pair
    parameters: int
    multiply_adds: int

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        return (
            self.name,
            "x".join(map(str, self.output_shape)),
            _side(self.receptive_field),
            _side(self.stride),
            f"{self.parameters:,}",
            f"{self.multiply_adds:,}",
        )


@dataclass(frozen=True)
class ModelSummary:
    """The table of a network: text when printed, a table in Jupyter."""

    layers: tuple[LayerSummary, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """The work for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    def _rows(self) -> list[tuple[str, ...]]:
        total = ("total", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        return [HEADING, *(layer.cells() for layer in self.layers), total]

    def __str__(self) -> str:
        rows = self._rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        form = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])])
        lines = [form.format(*row) for row in rows]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heading, *rows = [[html.escape(cell) for cell in row] for row in self._rows()]
        parts = ["<table><thead><tr>", *(f"<th>{cell}</th>" for cell in heading), "</tr></thead>"]
        parts.append("<tbody>")
        for row in rows:
            parts += ["<tr>", *(f"<td>{cell}</td>" for cell in row), "</tr>"]
        return "".join([*parts, "</tbody></table>"])


def describe(model: nn.Module, input_shape: tuple[int, int, int] = (1, 28, 28)) -> ModelSummary:
    """Measure a network layer by layer, by sending one empty image through it.

    Right for networks whose layers follow one another: convolutions (with any stride,
    padding, dilation and groups) and pools; linear layers see the whole image. What
    leaves shape and view as they are (ReLU, dropout, normalisation) gets no row, but
    its parameters count.

    Parameters
    ----------
    model
        Left in the mode and on the device it came in.
    input_shape
        Channels, height and width of an image.

    Returns
    -------
    ModelSummary

    Raises
    ------
    InputError
        The network does not take images of that shape, or has a layer (a transposed
        convolution, a pool onto several places) whose view has no single size.
    """
    layers: list[LayerSummary] = []
    view = _View(input_shape[1:])
    names = {module: name for name, module in model.named_modules()}

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if view.widen(module, inputs[0]):
            layers.append(_layer(names[module], module, output, view))

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(measure) for module in leaves]
    first = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad(), evaluation_mode(model):
            model(torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype))
    except _UnknownViewError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the network does not take images of {input_shape}: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return ModelSummary(tuple(layers), sum(p.numel() for p in model.parameters()))


class _UnknownViewError(InputError):
    """A layer is of a kind whose view has no single size."""


class _View:
    """How far one unit sees, and how far apart neighbouring units look."""

    def __init__(self, image: Pair) -> None:
        self.image = image
        self.field = (1, 1)
        self.stride = (1, 1)

    def widen(self, module: nn.Module, maps: Tensor) -> bool:
        """Take in one more layer, with its input; tell whether it looks around at all."""
        if isinstance(module, nn.ConvTranspose2d) or (
            isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d))
            and module.output_size not in (1, (1, 1))
        ):
            raise _UnknownViewError(f"describe cannot tell what a unit sees behind {module}")
        if isinstance(module, nn.Linear):
            self.field = self.image
            return True
        if isinstance(module, WHOLE_IMAGE_POOLS):
            kernel, stride, dilation = tuple(maps.shape[-2:]), (1, 1), (1, 1)
        elif isinstance(module, (nn.Conv2d, *POOLS)):
            kernel, stride = _pair(module.kernel_size), _pair(module.stride)
            dilation = _pair(getattr(module, "dilation", 1))
        else:
            return False
        # A window of k units, d apart, spans d (k - 1) steps of the stride so far.
        self.field = tuple(
            f + d * (k - 1) * s
            for f, d, k, s in zip(self.field, dilation, kernel, self.stride, strict=True)
        )
        self.stride = tuple(s * step for s, step in zip(self.stride, stride, strict=True))
        return True


def _layer(name: str, module: nn.Module, output: Tensor, view: _View) -> LayerSummary:
    work = 0
    if isinstance(module, nn.Conv2d | nn.Linear):
        # Each output is a sum over one filter: all its weights but the channel it makes.
        work = output[0].numel() * math.prod(module.weight.shape[1:])
    return LayerSummary(
        name=f"{name} {type(module).__name__}",
        output_shape=tuple(output.shape[1:]),
        receptive_field=view.field,
        stride=view.stride,
        parameters=sum(p.numel() for p in module.parameters()),
        multiply_adds=work,
    )


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else tuple(value)


def _side(pair: Pair) -> str:
    """Write a square by one side, anything else by both."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
