"""The network, `MnistCNN`: 189,984 parameters in convolutions of 3x3 and 1x1, nothing else."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mnist_helpers.errors import ConfigError, InputError

IMAGE_SIZE = 28
CLASSES = 10
INITS = ("he", "default")


def conv(channels_in: int, channels_out: int, size: int) -> nn.Conv2d:
    """Return a convolution without bias or padding: each side shrinks by size - 1."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=size, bias=False)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and each of its modules back into its own afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def try_network(model: nn.Module, device: torch.device) -> None:
    """Raise InputError unless a model on that device gives ten logits for each image."""
    weights = next(model.parameters(), torch.zeros(()))
    images = torch.zeros(2, 1, IMAGE_SIZE, IMAGE_SIZE, device=device, dtype=weights.dtype)
    try:
        if not all(weight.isfinite().all() for weight in model.parameters()):
            raise InputError("the network has weights that are NaN or infinite; build a new one")
        with torch.no_grad(), evaluation_mode(model):
            logits = model(images)
        got = f"gives {tuple(logits.shape)}"
    except InputError:
        raise
    except Exception as error:  # the network may be anybody's code, and raise anything
        raise InputError(f"the network can't take images (N, 1, 28, 28): {error}") from error
    if logits.shape != (len(images), CLASSES):
        raise InputError(f"the network has to give logits (N, 10) for N images; for 2 it {got}")


class MnistCNN(nn.Module):
    """A small convolutional network for 28x28 digits.

    Parameters
    ----------
    init
        "he" draws the weights so that signals keep their size from layer to layer (He et al.
        2015, https://arxiv.org/abs/1502.01852, equation 10); "default" leaves PyTorch's own,
        smaller ones, with which this network learns nothing for hundreds of steps.
    """

    def __init__(self, init: str = "he") -> None:
        super().__init__()
        if init not in INITS:
            raise ConfigError(f"init must be one of {', '.join(INITS)}, got {init!r}")
        self.input_block = nn.Sequential(conv(1, 32, 3), nn.ReLU())
        self.conv_block_1 = nn.Sequential(conv(32, 64, 3), nn.ReLU(), conv(64, 128, 3))
        # ReLU never changes which of four numbers is the largest, so pooling first gives
        # the same values, and leaves ReLU a quarter of the work.
        self.transition_block = nn.Sequential(
            nn.MaxPool2d(2), nn.ReLU(), conv(128, 32, 1), nn.ReLU()
        )
        self.conv_block_2 = nn.Sequential(conv(32, 64, 3), nn.ReLU(), conv(64, 128, 3), nn.ReLU())
        self.output_block = nn.Sequential(
            conv(128, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        if init == "he":
            self._init_he()

    def _init_he(self) -> None:
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # No ReLU follows the last one: smaller logits start with less false confidence.
        nn.init.kaiming_normal_(layers[-1].weight, nonlinearity="linear")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 10) of normalised images (N, 1, 28, 28); the largest is the answer."""
        if images.ndim != 4 or images.shape[1:] != (1, IMAGE_SIZE, IMAGE_SIZE):
            raise InputError(
                "MnistCNN takes images of shape (N, 1, 28, 28), got "
                f"{tuple(images.shape)}; a single image needs image.reshape(1, 1, 28, 28)"
            )
        maps = self.input_block(images)  # (N, 32, 26, 26)
        maps = self.conv_block_1(maps)  # (N, 128, 22, 22)
        maps = self.transition_block(maps)  # (N, 32, 11, 11)
        maps = self.conv_block_2(maps)  # (N, 128, 7, 7)
        logits: Tensor = self.output_block(maps)  # (N, 10)
        return logits
