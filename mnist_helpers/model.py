"""The network: 189,984 parameters in convolutions of 3x3 and 1x1, nothing else."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mnist_helpers.errors import ConfigError, InputError

IMAGE_SIZE = 28
CLASSES = 10
INITS = ("he", "default")


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return a 3x3 convolution without padding: each side shrinks by 2."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, bias=False)


def conv1x1(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return a 1x1 convolution: it mixes channels and leaves each side as it is."""
    return nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards each module is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class GlobalAveragePool(nn.Module):
    """Average each channel over the whole picture: (N, C, H, W) to (N, C).

    A module, so that hooks see it; a plain mean, since its backward pass is
    deterministic on every device, which that of `nn.AdaptiveAvgPool2d` is not.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return the mean of each map."""
        return maps.mean((2, 3))


class MnistCNN(nn.Module):
    """A small convolutional network for 28x28 digits.

    Parameters
    ----------
    init
        "he" draws the weights so that signals keep their size from layer to layer
        (He et al. 2015, https://arxiv.org/abs/1502.01852, equation 10); "default"
        leaves PyTorch's own, smaller ones, with which this network learns nothing
        for its first few hundred steps.

    Raises
    ------
    ConfigError
        `init` is neither of the two.
    """

    def __init__(self, init: str = "he") -> None:
        super().__init__()
        if init not in INITS:
            raise ConfigError(f"init must be one of {', '.join(INITS)}, got {init!r}")
        self.input_block = nn.Sequential(conv3x3(1, 32), nn.ReLU())
        self.conv_block_1 = nn.Sequential(conv3x3(32, 64), nn.ReLU(), conv3x3(64, 128))
        # ReLU never changes which of four numbers is the largest, so pooling first
        # gives the same values, and ReLU then has a quarter of the work.
        self.transition_block = nn.Sequential(
            nn.MaxPool2d(2), nn.ReLU(), conv1x1(128, 32), nn.ReLU()
        )
        self.conv_block_2 = nn.Sequential(conv3x3(32, 64), nn.ReLU(), conv3x3(64, 128), nn.ReLU())
        self.output_block = nn.Sequential(conv1x1(128, CLASSES), GlobalAveragePool())
        if init == "he":
            self._init_he()
        # Weights with the channels innermost make every convolution work that way:
        # a tenth faster on the CPU we measured, and the values are the same.
        self.to(memory_format=torch.channels_last)

    def _init_he(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # Without the factor 2 in the last one: smaller logits start with less false confidence.
        nn.init.kaiming_normal_(self.output_block[0].weight, nonlinearity="linear")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, one score a digit; the largest is the network's answer.

        Parameters
        ----------
        images
            Float tensor (N, 1, 28, 28), normalised as `mnist_helpers.data` does it.

        Returns
        -------
        Tensor
            Logits (N, 10), any real numbers; a softmax makes them probabilities.

        Raises
        ------
        InputError
            The shape is another one.
        """
        if images.ndim != 4 or images.shape[1:] != (1, IMAGE_SIZE, IMAGE_SIZE):
            raise InputError(
                "MnistCNN takes images of shape (N, 1, 28, 28), got "
                f"{tuple(images.shape)}; a single image needs image.reshape(1, 1, 28, 28)"
            )
        maps = self.input_block(images)  # (N, 32, 26, 26)
        maps = self.conv_block_1(maps)  # (N, 128, 22, 22)
        maps = self.transition_block(maps)  # (N, 32, 11, 11)
        maps = self.conv_block_2(maps)  # (N, 128, 7, 7)
        return self.output_block(maps)  # (N, 10)
