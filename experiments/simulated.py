"""What bfloat16 does to training, on a CPU that has float32 only.

In a bfloat16 product the factors are rounded to 8 significant bits, their products are
summed in float32, and the sum is rounded. A float32 product of rounded factors is just
that, but for the order of the sum, and here many times as fast as PyTorch's own emulation.
It tells what the rounding costs in accuracy; about speed it tells nothing.
"""

from unittest import mock

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Rounded(torch.autograd.Function):
    """Round to bfloat16 and back, values on the way forward, gradients on the way back."""

    @staticmethod
    def forward(ctx, values):
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx, gradients):
        return gradients.bfloat16().float()


class SimulatedBfloat16(TorchFunctionMode):
    """Let our network compute as `torch.autocast` with bfloat16 would, for as long as it is on.

    ReLU and pooling choose among values that are rounded already.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is functional.conv2d:
            images, weight, *others = args
            return Rounded.apply(func(Rounded.apply(images), Rounded.apply(weight), *others))
        if func is torch.Tensor.mean:
            return Rounded.apply(func(*args, **kwargs))
        return func(*args, **kwargs)


def simulated_bfloat16():
    """Return a context in which training in float32 computes so; testing does not."""
    return mock.patch("mnist_helpers.loop.lower_precision", lambda *_: SimulatedBfloat16())
