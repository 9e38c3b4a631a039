"""Reusable parts of the MNIST tutorial: data, network, training loop, checkpoints, plots."""

import importlib
from typing import Any

from mnist_helpers.config import RECIPES, DataSource, TrainConfig
from mnist_helpers.data.digits import DigitDataset, load_mnist, stratified
from mnist_helpers.data.download import download_mnist, write_sample
from mnist_helpers.data.idx import read_idx
from mnist_helpers.data.loaders import EpochSampler, InMemory, make_loader
from mnist_helpers.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    MnistHelpersError,
    TrainingError,
    WorkerError,
)
from mnist_helpers.history import EpochRecord, History
from mnist_helpers.machine.hardware import pick_device, pick_precision, seed_everything
from mnist_helpers.model import MnistCNN
from mnist_helpers.summary import describe
from mnist_helpers.training.checkpoint import digest, load_checkpoint, save_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.folder import find_run
from mnist_helpers.training.step import Metrics, evaluate, train_one_epoch, train_step
from mnist_helpers.tutorial.profiles import (
    profile_config,
    promised_accuracy,
    results_folder,
    resume_wanted,
)

_PLOTS = "confusion_matrix", "plot_architecture", "plot_confusion", "plot_digits", "plot_history"
_PICTURES = "Prediction", "predict", "prepare"
_LAZY = dict.fromkeys(_PLOTS, "plots") | dict.fromkeys(_PICTURES, "pictures")  # slow to load
__all__ = [
    "RECIPES", "CheckpointError", "ConfigError", "DataError", "DataSource", "DigitDataset",
    "EpochRecord", "EpochSampler", "History", "InMemory", "InputError", "Metrics", "MnistCNN",
    "MnistHelpersError", "Prediction", "TrainConfig", "TrainingError", "WorkerError",
    "confusion_matrix", "describe", "digest", "download_mnist", "evaluate", "find_run", "fit",
    "load_checkpoint", "load_mnist", "make_loader", "pick_device", "pick_precision",
    "plot_architecture", "plot_confusion", "plot_digits", "plot_history", "predict", "prepare",
    "profile_config", "promised_accuracy", "read_idx", "results_folder", "resume_wanted",
    "save_checkpoint", "seed_everything", "stratified", "train_one_epoch", "train_step",
    "write_sample",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import plots and pictures when they are asked for: matplotlib is slow to load."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"mnist_helpers.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List all names, for tab completion; those that are still to be imported too."""
    return __all__
