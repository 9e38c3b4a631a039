"""Every number of the recipe in one place."""

import dataclasses
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnist_helpers.errors import ConfigError
from mnist_helpers.hardware import (
    MEMORY_FORMATS,
    PRECISIONS,
    named_device,
    pick_device,
    pick_memory_format,
    pick_precision,
)

GPU_BATCH_SIZE = 128  # the recipe's sizes: a GPU needs larger batches to be kept busy
CPU_BATCH_SIZE = 64
MNIST = "MNIST"  # the two data sets that an accuracy can be of, as screens name them
SAMPLE = "sample of 5,000 MNIST digits"
MOST = 2**31 - 1  # of anything that is counted

SCHEDULES = ("constant", "one_cycle")

# Fields that may differ between a run and its continuation: they say where the files
# are, how they are read and how long to go on, not what is computed.
FREE_ON_RESUME = frozenset({"epochs", "data_root", "checkpoint_dir", "in_memory"})
# What a run computed whose checkpoints are older than these fields; other fields that
# it does not name had their defaults.
BEFORE = {"precision": "float32", "memory_format": "channels_last", "start": 0.04}

# `baseline` is the textbook's. `fast` is made for one epoch: smaller batches and so more
# steps, a learning rate that rises and falls (Smith and Topin, https://arxiv.org/abs/1708.07120),
# gradients of bounded length, and weights averaged on the way. Its numbers were found by
# trial, on this network.
RECIPES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "fast": {
        "epochs": 1,
        "batch_size": 32,
        "lr": 0.04,
        "nesterov": True,
        "weight_decay": 5e-4,
        "clip_norm": 4.0,
        "schedule": "one_cycle",
        "average": 0.98,
    },
}


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
    nesterov
        Nesterov's momentum: the gradient is taken where the step will lead.
    weight_decay
        Pulls every weight towards 0, by this much of itself in a step of lr 1; from 0.
    clip_norm
        Gradients whose norm, over all weights together, is larger are scaled down to it;
        0 leaves all as they are.
    schedule
        "constant", or "one_cycle": the learning rate rises to lr, then falls to nearly
        nothing at the end of the last epoch.
    start
        The part of lr at which one cycle starts. PyTorch's own, 0.04, leaves this network
        far behind for its first few hundred steps.
    warmup
        The part of all steps in which one cycle rises; between 0 and 1.
    average
        Test and keep weights averaged over the steps, the older ones fading by this
        factor a step; from 0 (no average) to below 1.
    precision
        "float32", "bfloat16" or, on an NVIDIA GPU, "float16" in the network's products while it
        learns; "auto" lets the hardware decide. Weights and testing are always float32.
    memory_format
        "channels_last", "contiguous" or "auto".
    in_memory
        Hold all images, normalised, on the device. It changes the speed and nothing else;
        without it a `DataLoader` reads them.

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
    nesterov: bool = setting(False, "Nesterov's momentum")
    weight_decay: float = setting(0.0, "pull of every weight towards 0")
    clip_norm: float = setting(0.0, "greatest norm of a gradient; 0 for no limit")
    schedule: str = setting("constant", "learning rate over time: constant or one_cycle")
    start: float = setting(0.25, "part of lr at which one_cycle starts")
    warmup: float = setting(0.2, "part of all steps in which one_cycle rises")
    average: float = setting(0.0, "fading of averaged weights, 0.98 for instance; 0 for none")
    precision: str = setting("auto", "auto, float32, bfloat16 or float16")
    memory_format: str = setting("auto", "auto, channels_last or contiguous")
    in_memory: bool = setting(True, "hold all images on the device")

    def __post_init__(self) -> None:
        self._check_whole("epochs", low=1, high=MOST)
        self._check_whole("seed", low=0, high=2**32 - 1)  # what NumPy takes as a seed
        for name in ("batch_size", "train_limit", "test_limit"):
            if getattr(self, name) is not None:
                self._check_whole(name, low=1, high=MOST)
        self._check_real("lr", lambda lr: lr > 0, "a number above 0, such as 0.01")
        self._check_real("momentum", lambda m: 0 <= m < 1, "a number from 0 to below 1")
        self._check_real("weight_decay", lambda w: w >= 0, "a number from 0, such as 0.0005")
        self._check_real("clip_norm", lambda c: c >= 0, "a number from 0, such as 4")
        self._check_real("start", lambda part: 0 < part <= 1, "a number from above 0 to 1")
        self._check_real("warmup", lambda part: 0 < part < 1, "a number between 0 and 1")
        self._check_real("average", lambda a: 0 <= a < 1, "a number from 0 to below 1")
        self._check_choice("schedule", SCHEDULES)
        self._check_choice("precision", ("auto", *PRECISIONS))
        self._check_choice("memory_format", ("auto", *MEMORY_FORMATS))
        for name in ("nesterov", "in_memory"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "True or False")
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov needs a momentum above 0")
        if self.device != "auto":
            named_device(self.device)
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

    def _check_choice(self, name: str, choices: Sequence[str]) -> None:
        if getattr(self, name) not in choices:
            self._refuse(name, "one of " + ", ".join(choices))

    def _check_folder(self, name: str, optional: bool) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        if not isinstance(value, str | os.PathLike) or not str(value):
            self._refuse(name, "a path")
        object.__setattr__(self, name, Path(value))

    @classmethod
    def recipe(cls, name: str, **changes: Any) -> "TrainConfig":
        """Return the recipe of that name (see `RECIPES`), with some settings changed.

        Raises
        ------
        ConfigError
            There is no such recipe, or a setting is wrong.
        """
        if name not in RECIPES:
            raise ConfigError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
        return cls(**RECIPES[name] | changes)

    def resolved(self) -> "TrainConfig":
        """Return the same recipe with all that this machine decides decided."""
        device = pick_device(self.device)
        batch_size = self.batch_size
        if batch_size is None:
            batch_size = CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE
        return dataclasses.replace(
            self,
            device=str(device),
            batch_size=batch_size,
            precision=pick_precision(self.precision, device),
            memory_format=pick_memory_format(self.memory_format, device),
        )

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
        if self.schedule == "constant":
            free = FREE_ON_RESUME | {"start", "warmup"}  # these shape one cycle alone
        else:
            free = FREE_ON_RESUME - {"epochs"}
        defaults = {f.name: f.default for f in dataclasses.fields(self)} | BEFORE
        before = defaults | dict(saved)
        return [
            f"{name}: {before[name]!r} then, {value!r} now"
            for name, value in self.to_dict().items()
            if name not in free and _kind(name, before[name]) != _kind(name, value)
        ]


def _kind(name: str, value: Any) -> Any:
    """Return what of a setting decides the result: which of several GPUs it was does not."""
    return str(value).split(":")[0] if name == "device" else value


def _as_text(path: Path) -> str:
    """Write a path so that any file can hold it, where the locale cannot read its name too."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch (on every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
