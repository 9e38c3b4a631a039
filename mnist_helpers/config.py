"""Every number of the recipe in one place, and the devices it runs on."""

import dataclasses
import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnist_helpers.errors import ConfigError

GPU_BATCH_SIZE = 128  # the recipe's sizes: a GPU needs larger batches to be kept busy
CPU_BATCH_SIZE = 64
MNIST = "MNIST"  # the two data sets that an accuracy can be of, as screens name them
SAMPLE = "sample of 5,000 MNIST digits"
MOST = 2**31 - 1  # of anything that is counted
DEVICES = ("auto", "cpu", "cuda", "mps")

# Fields that may differ between a run and its continuation: they say where the files
# are and how long to go on, not what is computed.
FREE_ON_RESUME = frozenset({"epochs", "data_root", "checkpoint_dir"})


def setting(default: Any, text: str) -> Any:
    """Declare a field of `TrainConfig` with the help that the command line shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """The recipe. Its defaults are those of this tutorial's full training run.

    Parameters
    ----------
    epochs
        How often the whole training set is seen; at least 1.
    batch_size
        Images a step; None means 128 on a GPU (CUDA or MPS) and 64 on a CPU.
    lr
        Learning rate of SGD, above 0.
    momentum
        Momentum of SGD, from 0 up to, not including, 1.
    seed
        Decides the initial weights, the order of samples and every limited part.
    device
        "auto", "cpu", "cuda" (or "cuda:1" and so on) or "mps".
    data_root
        The folder that holds `MNIST/raw`, as torchvision lays it out.
    checkpoint_dir
        Where checkpoints go; None writes none.
    train_limit, test_limit
        Use only a seeded, stratified part of so many images; None uses all.

    Raises
    ------
    ConfigError
        A value is out of its range or of the wrong type; the message names the field.
    """

    epochs: int = setting(20, "how often the whole training set is seen")
    batch_size: int | None = setting(None, "images a step (128 on a GPU, 64 on a CPU)")
    lr: float = setting(0.01, "learning rate")
    momentum: float = setting(0.9, "momentum of SGD")
    seed: int = setting(1, "decides initial weights and order of samples")
    device: str = setting("auto", "auto, cpu, cuda or mps")
    data_root: Path = setting(Path("data"), "folder of the MNIST files")
    checkpoint_dir: Path | None = setting(Path("model_checkpoints"), "folder of the checkpoints")
    train_limit: int | None = setting(None, "train on a stratified part of so many images")
    test_limit: int | None = setting(None, "test on a stratified part of so many images")

    def __post_init__(self) -> None:
        self._check_whole("epochs", low=1, high=MOST)
        self._check_whole("seed", low=0, high=2**32 - 1)  # what NumPy takes as a seed
        for name in ("batch_size", "train_limit", "test_limit"):
            if getattr(self, name) is not None:
                self._check_whole(name, low=1, high=MOST)
        self._check_real("lr", lambda lr: lr > 0, "a number above 0, such as 0.01")
        self._check_real("momentum", lambda m: 0 <= m < 1, "a number from 0 to below 1")
        self._check_device()
        self._check_folder("data_root", optional=False)
        self._check_folder("checkpoint_dir", optional=True)

    def _refuse(self, name: str, expected: str) -> None:
        raise ConfigError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    def _check_whole(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not low <= value <= high:
            self._refuse(name, f"a whole number from {low} to {high}")

    def _check_real(self, name: str, accepts: Any, expected: str) -> None:
        value = getattr(self, name)
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if not real or not abs(value) < math.inf or not accepts(value) or value > MOST:
            self._refuse(name, expected)
        object.__setattr__(self, name, float(value))

    def _check_device(self) -> None:
        known = isinstance(self.device, str) and self.device.split(":")[0] in DEVICES
        if not known:
            self._refuse("device", "one of " + ", ".join(DEVICES))
        try:
            torch.device("cpu" if self.device == "auto" else self.device)
        except RuntimeError as error:
            raise ConfigError(f"device {self.device!r} is not a device's name") from error

    def _check_folder(self, name: str, optional: bool) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        if not isinstance(value, str | os.PathLike) or not str(value):
            self._refuse(name, "a path")
        object.__setattr__(self, name, Path(value))

    def resolved(self) -> "TrainConfig":
        """Return the same recipe with device and batch size decided for this machine."""
        device = pick_device(self.device)
        batch_size = self.batch_size
        if batch_size is None:
            batch_size = CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE
        return dataclasses.replace(self, device=str(device), batch_size=batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in plain types, as a checkpoint keeps them."""
        values = dataclasses.asdict(self)
        return {k: _as_text(v) if isinstance(v, Path) else v for k, v in values.items()}

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Name each field, with both values, that a continued run may not change.

        Parameters
        ----------
        saved
            What `to_dict` of the earlier run returned.
        """
        return [
            f"{name}: {saved.get(name)!r} then, {value!r} now"
            for name, value in self.to_dict().items()
            if name not in FREE_ON_RESUME and saved.get(name) != value
        ]


def _as_text(path: Path) -> str:
    """Write a path so that any file can hold it, where the locale cannot read its name too."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises
    ------
    ConfigError
        The named device is not on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = torch.device(name)
    count = {"cuda": torch.cuda.device_count(), "mps": int(mps)}.get(device.type, 1)
    if (device.index or 0) >= count:
        raise ConfigError(f"device {name!r} is not on this machine; use 'auto' or 'cpu'")
    return device


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch (on every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
