"""Every number of the recipe: `TrainConfig`, `RECIPES`, and `ResolvedConfig` for one machine."""

import dataclasses
import math
import numbers
import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mnist_helpers.errors import ConfigError
from mnist_helpers.machine import hardware
from mnist_helpers.machine.hardware import MEMORY_FORMATS, PRECISIONS, named_device

GPU_BATCH_SIZE = 128  # the recipe's sizes: a GPU needs larger batches to be kept busy
CPU_BATCH_SIZE = 64
MAX_COUNT = 2**31 - 1  # of anything that is counted

# What may differ between a run and its continuation, because it doesn't change the result.
FREE_ON_RESUME = frozenset({"epochs", "data_root", "checkpoint_dir", "in_memory"})

#: `baseline` is the textbook's. `fast` is made for a single epoch: more and smaller steps, one
#: cycle of the learning rate (Smith and Topin, https://arxiv.org/abs/1708.07120), bounded
#: gradients, averaged weights. Its numbers were found by trial on this network.
RECIPES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "fast": {"epochs": 1, "batch_size": 32, "lr": 0.04, "nesterov": True, "weight_decay": 5e-4,
             "clip_norm": 4.0, "schedule": "one_cycle", "average": 0.98},
}  # fmt: skip


class DataSource(StrEnum):
    """Which digits an accuracy is for: a checkpoint keeps the value, a screen shows `words`."""

    MNIST = "mnist"
    SAMPLE = "sample"
    OTHER = "other"

    @property
    def words(self) -> str:
        """How a sentence names it."""
        words = {"mnist": "MNIST", "sample": "the sample of 5,000 MNIST digits"}
        return words.get(self, "your own data")


def as_path(words: str | os.PathLike[str]) -> Path:
    """Return the path that is meant: `~` is the home folder; `file://` and quotes are dropped.

    A shell does this, but not for a setting in Python, an environment variable or a Windows
    prompt. (A folder that is really called `~` is `./~`.) Raises ConfigError if the words are no
    path.
    """
    try:
        text = os.fsdecode(words)
        if isinstance(words, str) and (text[:1] == "~" or not os.path.lexists(text)):
            text = text.strip()
            if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
                text = text[1:-1]
        if text.lower().startswith("file:"):
            _, host, place, *_ = urllib.parse.urlsplit(text)
            if host not in ("", "localhost"):
                raise ConfigError("a file:// path on this machine has three slashes")
            text = urllib.request.url2pathname(place)
        if "://" in text:
            raise ConfigError("an address is not a path; MNIST_MIRROR alone may be one")
        if not text or "\0" in text:
            raise ValueError("it is empty, or holds a null character")
        path = Path(os.path.expanduser(text))  # noqa: PTH111  # pathlib takes "./~" for "~"
        return path.absolute() if path.parts[:1] and path.parts[0].startswith("~") else path
    except ConfigError:  # which doesn't repeat the words: an address may hold a password
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{words!r} is not a path: {error}") from error


class _Rule(NamedTuple):
    """What a setting accepts, how a message says so, and the type it is kept in."""

    accepts: Callable[[Any], Any]
    expected: str
    convert: Callable[[Any], Any]


def _number(kind: type, expected: str, inside: Callable[[Any], bool]) -> _Rule:
    base = numbers.Integral if kind is int else numbers.Real  # NumPy's numbers too

    def accepts(value: Any) -> bool:
        try:
            number = kind(value) if isinstance(value, base) else math.nan
        except OverflowError:
            return False
        return not isinstance(value, bool) and -(2**32) < number < 2**32 and inside(number)

    return _Rule(accepts, expected, kind)


def _choice(*names: str) -> _Rule:
    return _Rule(lambda value: value in names, "one of " + ", ".join(names), str)


_COUNT = _number(int, f"a whole number from 1 to {MAX_COUNT:,}", lambda n: 1 <= n <= MAX_COUNT)
_SIZE = _number(int, f"a whole number from 0 to {MAX_COUNT:,}", lambda n: 0 <= n <= MAX_COUNT)
_SEED = _number(int, f"a whole number from 0 to {2**32 - 1:,}", lambda n: n >= 0)  # as NumPy's
_ABOVE_0 = _number(float, "a number above 0, such as 0.01", lambda value: value > 0)
_FROM_0 = _number(float, "a number of 0 or more, such as 0.0005", lambda value: value >= 0)
_BELOW_1 = _number(float, "a number of at least 0 and below 1", lambda value: 0 <= value < 1)
_UP_TO_1 = _number(float, "a number above 0 and up to 1", lambda value: 0 < value <= 1)
_INSIDE = _number(float, "a number between 0 and 1", lambda value: 0 < value < 1)
_PRECISION, _MEMORY_FORMAT = _choice("auto", *PRECISIONS), _choice("auto", *MEMORY_FORMATS)
_SWITCH = _Rule(lambda value: isinstance(value, bool), "True or False", bool)
_FOLDER = _Rule(
    lambda value: isinstance(value, str | os.PathLike) and str(value), "a path", as_path
)
_DEVICE = _Rule(lambda name: name == "auto" or named_device(name), "a device's name", str)


def setting(default: Any, text: str, rule: _Rule) -> Any:
    """Declare a field of `TrainConfig`: its default, the command line's help, what it accepts."""
    return field(default=default, metadata={"help": text, "rule": rule})


@dataclass(frozen=True)
class TrainConfig:
    """The recipe; its defaults are the full training run of this tutorial.

    Each setting has its description beside it, which the command line shows too. What is
    "auto" or None is left to the machine: see `resolved`.

    Raises
    ------
    ConfigError
        A value has the wrong type or is out of range; the message names the setting.
    """

    epochs: int = setting(20, "how many times the network sees the training set", _COUNT)
    batch_size: int | None = setting(None, "images per step; 128 on a GPU, 64 on a CPU", _COUNT)
    lr: float = setting(0.01, "learning rate of SGD", _ABOVE_0)
    momentum: float = setting(0.9, "momentum of SGD", _BELOW_1)
    seed: int = setting(1, "decides initial weights, order of samples, which part is taken", _SEED)
    device: str = setting("auto", "auto, cpu, cuda (or cuda:1 and so on) or mps", _DEVICE)
    data_root: Path = setting(Path("data"), "folder that holds MNIST/raw", _FOLDER)
    checkpoint_dir: Path | None = setting(
        Path("model_checkpoints"), "folder of the checkpoints", _FOLDER
    )
    # The limits are for `load_mnist`; `fit` trains on all that it is given.
    train_limit: int | None = setting(None, "train on a stratified part of this size", _COUNT)
    test_limit: int | None = setting(None, "test on a stratified part of this size", _COUNT)
    validation: int = setting(
        0, "hold back this many training images, and choose the best epoch by them", _SIZE
    )
    # As PyTorch has it: the gradient is the one at the current weights.
    nesterov: bool = setting(False, "Nesterov's momentum", _SWITCH)
    # It goes through the momentum m, so a step may pull by up to 1 / (1 - m) times as much.
    weight_decay: float = setting(0.0, "fraction of each weight added to its gradient", _FROM_0)
    clip_norm: float = setting(0.0, "limit on the whole gradient's norm; 0: none", _FROM_0)
    schedule: str = setting("constant", "constant or one_cycle", _choice("constant", "one_cycle"))
    # From PyTorch's own start, 0.04, this network takes hundreds of steps to begin learning.
    start: float = setting(0.25, "fraction of lr at which one_cycle starts", _UP_TO_1)
    warmup: float = setting(0.2, "fraction of all steps in which one_cycle rises", _INSIDE)
    average: float = setting(
        0.0, "test and keep averaged weights, fading by this factor per step; 0: none", _BELOW_1
    )
    # Of the matrix products in training. Weights are stored, and tested, in float32; GPUs since
    # NVIDIA's Ampere round the factors of float32 convolutions (TF32), as PyTorch has it.
    precision: str = setting("auto", "auto, float32, bfloat16 or float16", _PRECISION)
    memory_format: str = setting("auto", "auto, channels_last or contiguous", _MEMORY_FORMAT)
    # Faster, with the same batches; without it a DataLoader reads them.
    in_memory: bool = setting(True, "hold all images on the device", _SWITCH)

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            value, rule = getattr(self, entry.name), entry.metadata["rule"]
            if value is None and "None" in str(entry.type):
                continue
            if not rule.accepts(value):
                raise ConfigError(f"{entry.name} must be {rule.expected}, got {value!r}")
            try:
                object.__setattr__(self, entry.name, rule.convert(value))
            except ConfigError as error:
                raise ConfigError(f"{entry.name}: {error}") from error
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov needs a momentum above 0")

    @classmethod
    def recipe(cls, name: str, **changes: Any) -> "TrainConfig":
        """Return the recipe of that name, one of `RECIPES`, with some settings changed."""
        if name not in RECIPES:
            raise ConfigError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
        return cls(**RECIPES[name] | changes)

    def resolved(self) -> "ResolvedConfig":
        """Return the recipe with everything decided that it leaves to the machine."""
        device = hardware.pick_device(self.device)
        default = CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE
        precision = hardware.pick_precision(self.precision, device)
        memory_format = hardware.pick_memory_format(self.memory_format, device)
        return ResolvedConfig(self, device, self.batch_size or default, precision, memory_format)


@dataclass(frozen=True)
class ResolvedConfig:
    """A recipe, and the four settings that the machine decided: none is "auto" or None."""

    recipe: TrainConfig
    device: torch.device
    batch_size: int
    precision: str
    memory_format: str

    def resolved(self) -> "ResolvedConfig":
        """Return itself, so that functions can take either kind of recipe."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, as decided, in plain types: what a checkpoint keeps."""
        # Of the device its kind: which of several GPUs it was doesn't affect the result.
        values = dataclasses.asdict(self.recipe) | {"device": self.device.type}
        values |= {k: getattr(self, k) for k in ("batch_size", "precision", "memory_format")}
        for name, value in values.items():
            if isinstance(value, Path):  # any file can hold it, even one the locale can't read
                values[name] = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
        return values

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """Name each setting that differs from a saved `to_dict` but must not, with both values."""
        is_constant = self.recipe.schedule == "constant"  # start and warmup only shape one_cycle
        free = FREE_ON_RESUME | {"start", "warmup"} if is_constant else FREE_ON_RESUME - {"epochs"}
        return [
            f"{name}: {saved.get(name)!r} then, {value!r} now"
            for name, value in self.to_dict().items()
            if name not in free and saved.get(name) != value
        ]
