"""All that notebooks import: `__init__.py` makes each of these names when it is asked for."""

from .config import RECIPES, DataSource, TrainConfig
from .data.digits import DigitDataset, load_mnist, stratified
from .data.download import download_mnist, write_sample
from .data.idx import digest, read_idx
from .data.loaders import EpochSampler, InMemory, make_loader
from .errors import (
    CheckpointError,
    ConfigError,
    DamagedError,
    DataError,
    InputError,
    MnistHelpersError,
    TrainingError,
    WorkerError,
)
from .history import EpochRecord, History
from .machine.hardware import pick_device, pick_precision, seed_everything
from .model import MnistCNN
from .pictures import Prediction, find_digits, predict, prepare
from .plots import (
    confusion_matrix,
    plot_answers,
    plot_confusion,
    plot_digits,
    plot_history,
)
from .summary import describe
from .training.checkpoint import load_checkpoint, save_checkpoint
from .training.fit import fit
from .training.folder import find_run
from .training.step import Metrics, evaluate, train_one_epoch, train_step
from .training.weights import load_pretrained
from .tutorial.profiles import (
    profile_config,
    promised_accuracy,
    results_folder,
    resume_wanted,
)

__all__ = [
    "RECIPES", "CheckpointError", "ConfigError", "DamagedError", "DataError", "DataSource",
    "DigitDataset", "EpochRecord", "EpochSampler", "History", "InMemory", "InputError",
    "Metrics", "MnistCNN", "MnistHelpersError", "Prediction", "TrainConfig", "TrainingError",
    "WorkerError", "confusion_matrix", "describe", "digest", "download_mnist", "evaluate",
    "find_digits", "find_run", "fit", "load_checkpoint", "load_mnist", "load_pretrained",
    "make_loader", "pick_device", "pick_precision", "plot_answers", "plot_confusion",
    "plot_digits", "plot_history", "predict", "prepare", "profile_config", "promised_accuracy",
    "read_idx", "results_folder", "resume_wanted", "save_checkpoint", "seed_everything",
    "stratified", "train_one_epoch", "train_step", "write_sample",
]  # fmt: skip
