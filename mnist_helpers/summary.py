"""`describe`, a network's table: shapes, receptive fields, parameters, work; all measured."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnist_helpers.errors import InputError
from mnist_helpers.machine.hardware import device_of
from mnist_helpers.model import evaluation_mode

Pair = tuple[int, ...]  # height, width
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
WHOLE_IMAGE_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
HEADING = ("layer", "output shape", "receptive field", "stride", "parameters", "multiply-adds")


@dataclass(frozen=True)
class LayerSummary:
    """One layer of the table; shapes are without the batch, sizes as (height, width)."""

    name: str  # the module's path, and what it is
    output_shape: tuple[int, ...]  # (channels, height, width) or (features,)
    receptive_field: Pair  # in pixels of the input, of what one output can see
    stride: Pair  # pixels of the input between neighbouring outputs
    parameters: int  # learned numbers
    multiply_adds: int  # for one image


@dataclass(frozen=True)
class ModelSummary:
    """The table of a network; print it."""

    layers: tuple[LayerSummary, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """The work for one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    def __str__(self) -> str:
        total = ("total", "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}")
        rows = [HEADING, *map(_cells, self.layers), total]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        form = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:>{width}}}" for width in widths[1:])])
        lines = [form.format(*row) for row in rows]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    __repr__ = __str__


def describe(model: nn.Module, input_shape: tuple[int, int, int] = (1, 28, 28)) -> ModelSummary:
    """Measure a network layer by layer, by sending one empty image through it.

    Right for networks whose layers follow one another: convolutions (with any stride,
    padding, dilation and groups) and pools; linear layers see the whole image. What
    leaves shape and view as they are (ReLU, dropout, normalisation) gets no row, but
    its parameters count. `input_shape` is (channels, height, width).

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
    dtype = next(model.parameters(), torch.zeros(())).dtype
    try:
        with torch.no_grad(), evaluation_mode(model):
            model(torch.zeros(1, *input_shape, device=device_of(model), dtype=dtype))
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
        self.field: Pair = (1, 1)
        self.stride: Pair = (1, 1)

    def widen(self, module: nn.Module, maps: Tensor) -> bool:
        """Take in one more layer, with its input; return whether it looks around at all."""
        if isinstance(module, nn.ConvTranspose2d) or (
            isinstance(module, WHOLE_IMAGE_POOLS) and module.output_size not in (1, (1, 1))
        ):
            raise _UnknownViewError(f"describe cannot tell what a unit sees after {module}")
        if isinstance(module, nn.Linear):
            self.field = self.image
            return True
        if isinstance(module, WHOLE_IMAGE_POOLS):
            kernel, stride, dilation = tuple(maps.shape[-2:]), _pair(1), _pair(1)
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
        # Each output is a sum over one filter: all weight dimensions but the output channels.
        work = output[0].numel() * math.prod(module.weight.shape[1:])
    parameters = sum(p.numel() for p in module.parameters())
    name, shape = f"{name} {type(module).__name__}", tuple(output.shape[1:])
    return LayerSummary(name, shape, view.field, view.stride, parameters, work)


def _cells(layer: LayerSummary) -> tuple[str, ...]:
    shape = "x".join(map(str, layer.output_shape))
    views = (f"{h}" if h == w else f"{h}x{w}" for h, w in (layer.receptive_field, layer.stride))
    return layer.name, shape, *views, f"{layer.parameters:,}", f"{layer.multiply_adds:,}"


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value
