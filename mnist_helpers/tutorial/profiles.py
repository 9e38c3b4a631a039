"""Profiles: how much work the notebooks do, and the range of accuracy to expect from each."""

import json
import os
from pathlib import Path
from typing import Any

from mnist_helpers.config import RECIPES, DataSource, TrainConfig, as_path
from mnist_helpers.errors import ConfigError
from mnist_helpers.machine.progress import show_plots_in_page

PROFILE_VARIABLE = "MNIST_PROFILE"
HOME_VARIABLE = "MNIST_HOME"  # where data/, model_checkpoints/ and build/ are; the project if unset
BUILD_VARIABLE = "MNIST_BUILD_DIR"  # quick's own folder; `build/quick` if unset
RESUME_VARIABLE = "MNIST_RESUME"

# The quick profile has few digits to learn from, so it takes the fast recipe in smaller
# batches, with a gentler peak (there are too few steps for a steep rise) and a shorter
# average. See results/seeds_quick.csv for what it reaches.
PROFILES: dict[str, dict[str, Any]] = {
    "quick": RECIPES["fast"]
    | {"epochs": 3, "batch_size": 16, "lr": 0.01, "warmup": 0.1, "average": 0.95}
    | {"train_limit": 1600, "test_limit": 1000},
    "default": {"epochs": 5, "train_limit": 15_000},  # minutes, even on a processor of 2017
    "full": {},
}


def project_folder() -> Path:
    """Return the checkout this package was installed from, or else the working folder."""
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def home_folder() -> Path:
    """Return the folder that holds all that the notebooks write: the project, or `MNIST_HOME`.

    A relative one starts at the project, since notebooks and tools work in different folders.
    """
    return project_folder() / as_path(os.environ.get(HOME_VARIABLE) or ".")


def profile_config(name: str | None = None) -> TrainConfig:
    """Return the recipe for a notebook, with the folders of the project.

    `name` is "quick", "default" or "full"; None takes the environment variable
    `MNIST_PROFILE`, or else "default". All of them share `data/`, so that MNIST is downloaded
    once; the quick profile keeps its checkpoints below `build/`, never among a reader's.
    `MNIST_HOME` moves all these folders, for instance out of a checkout that is read-only.
    """
    name = name or os.environ.get(PROFILE_VARIABLE, "").strip() or "default"
    if name not in PROFILES:
        raise ConfigError(f"{PROFILE_VARIABLE} must be one of {', '.join(PROFILES)}, got {name!r}")
    home = home_folder()
    checkpoints = home / "model_checkpoints"
    if name == "quick":
        build = as_path(os.environ.get(BUILD_VARIABLE) or "build/quick")
        checkpoints = home / build / "checkpoints"
    return TrainConfig(
        **PROFILES[name],
        data_root=seen_from_here(home / "data"),
        checkpoint_dir=seen_from_here(checkpoints),
    )


def results_folder() -> Path:
    """Return where the measured figures of the project are."""
    return project_folder() / "results"


def promised_accuracy(source: DataSource, name: str | None = None) -> tuple[float, float] | None:
    """Return the range to expect of the last epoch's test accuracy, if `experiments` has one."""
    name = name or os.environ.get(PROFILE_VARIABLE, "").strip() or "default"
    page = results_folder() / "ranges.json"
    ranges = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    if source != DataSource.MNIST or name not in ranges:
        return None
    low, high = ranges[name]["last"]
    return low, high


def resume_wanted() -> bool:
    """Return whether to go on with an interrupted run of the notebooks (`MNIST_RESUME=1`)."""
    value = os.environ.get(RESUME_VARIABLE, "").strip().lower()
    return value not in ("", "0", "false", "no", "off")


def seen_from_here(path: Path) -> Path:
    """Shorten a path to a relative one: what a notebook prints names no user's folders."""
    try:
        return Path(os.path.relpath(path))
    except ValueError:  # another drive, on Windows
        return path


show_plots_in_page()  # also those of notebooks that draw with matplotlib alone
