"""Reusable parts of the MNIST tutorial: data, network, training loop, checkpoints, plots."""

import importlib
from typing import Any

from mnist_helpers.batches import EpochSampler, MemoryLoader, make_loaders
from mnist_helpers.checkpoints import digest, load_checkpoint, save_checkpoint
from mnist_helpers.config import RECIPES, TrainConfig, seed_everything
from mnist_helpers.data import DigitDataset, load_mnist, stratified
from mnist_helpers.download import download_mnist
from mnist_helpers.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    InputError,
    MnistHelpersError,
    TrainingError,
    WorkerError,
)
from mnist_helpers.files import read_idx
from mnist_helpers.hardware import pick_device, pick_precision
from mnist_helpers.history import EpochRecord, History
from mnist_helpers.loop import Metrics, evaluate, train_one_epoch
from mnist_helpers.model import GlobalAveragePool, MnistCNN
from mnist_helpers.profiles import profile_config, promised_accuracy, results_folder, resume_wanted
from mnist_helpers.runfolder import find_run
from mnist_helpers.sample import write_sample
from mnist_helpers.summary import describe
from mnist_helpers.training import fit

_LAZY = {  # what is slow to load, and not needed to train
    "confusion_matrix": "plots",
    "plot_architecture": "plots",
    "plot_confusion": "plots",
    "plot_digits": "plots",
    "plot_history": "plots",
    "Prediction": "images",
    "predict": "images",
    "prepare": "images",
}

__all__ = [
    "RECIPES",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DigitDataset",
    "EpochRecord",
    "EpochSampler",
    "GlobalAveragePool",
    "History",
    "InputError",
    "MemoryLoader",
    "Metrics",
    "MnistCNN",
    "MnistHelpersError",
    "Prediction",
    "TrainConfig",
    "TrainingError",
    "WorkerError",
    "confusion_matrix",
    "describe",
    "digest",
    "download_mnist",
    "evaluate",
    "find_run",
    "fit",
    "load_checkpoint",
    "load_mnist",
    "make_loaders",
    "pick_device",
    "pick_precision",
    "plot_architecture",
    "plot_confusion",
    "plot_digits",
    "plot_history",
    "predict",
    "prepare",
    "profile_config",
    "promised_accuracy",
    "read_idx",
    "results_folder",
    "resume_wanted",
    "save_checkpoint",
    "seed_everything",
    "stratified",
    "train_one_epoch",
    "write_sample",
]


def __getattr__(name: str) -> Any:
    """Import plots and pictures when they are asked for: matplotlib is slow to load."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"mnist_helpers.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
