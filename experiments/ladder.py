"""Measure what each change of the recipe `fast` is worth, one after another, for notebook 07.

Usage: python -m experiments.ladder [--seeds 1 2 3 4 5] [--data-root data]

Each rung keeps the changes of those before it. It trains for one epoch on 12,000 digits, drawn
and ordered by the seed, so that the rungs of one seed differ in nothing else, and is tested on
all test digits. One row stands beside the ladder: batch normalisation, the textbook's cure for a
network that doesn't start. Each run becomes a line of `results/ladder.csv` when it has finished;
runs that are there are skipped, so you can interrupt it. All of a page has to come from one
machine, and in float32.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from torch import nn

from experiments.machine import machine
from experiments.pages import RESULTS
from mnist_helpers import (
    RECIPES,
    MnistCNN,
    TrainConfig,
    fit,
    load_mnist,
    pick_device,
    seed_everything,
)

PAGE = RESULTS / "ladder.csv"
TRAIN_SIZE = 12_000
FAST = RECIPES["fast"]
BASE = {"epochs": 1, "batch_size": 64, "precision": "float32", "checkpoint_dir": None}


def parts(*names: str) -> dict[str, Any]:
    """Return these settings of `fast`."""
    return {name: FAST[name] for name in names}


# What each rung adds to the one before; the first is the recipe with PyTorch's own weights.
RUNGS: dict[str, dict[str, Any]] = {
    "default start": {},
    "He's start": {},
    "batches of 32": parts("batch_size"),
    "Nesterov, decay": parts("nesterov", "weight_decay"),
    "one cycle": parts("lr", "schedule"),
    "clipping": parts("clip_norm"),
    "average": parts("average"),
}
BESIDE = "BatchNorm"


def settings_of(name: str) -> dict[str, Any]:
    """Return all settings of a rung: its own and those of the rungs before it."""
    settings = dict(BASE)
    if name != BESIDE:
        for rung in list(RUNGS)[: list(RUNGS).index(name) + 1]:
            settings |= RUNGS[rung]
    return settings


def network_of(name: str) -> nn.Module:
    """Return a new network for a rung."""
    if name == BESIDE:
        return normalised()
    return MnistCNN("default" if name == "default start" else "he")


def normalised() -> nn.Module:
    """Return the network with PyTorch's own weights, and BatchNorm after each convolution."""
    layers: list[nn.Module] = []
    for block in MnistCNN("default").children():
        for layer in block.children():
            layers.append(layer)
            if isinstance(layer, nn.Conv2d) and layer.out_channels != 10:
                layers.append(nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(*layers)


def train(name: str, seed: int, data_root: Path) -> float:
    """Return the test accuracy of one run, as a fraction."""
    config = TrainConfig(**settings_of(name), seed=seed)
    sets = load_mnist(data_root, allow_sample=False, train_limit=TRAIN_SIZE, seed=seed)
    seed_everything(seed)
    history = fit(network_of(name), *sets, config)
    if history.interrupted:
        raise KeyboardInterrupt
    return history[-1].test_accuracy


def rows() -> list[dict[str, str]]:
    """Return the finished runs."""
    if not PAGE.is_file():
        return []
    with PAGE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keep(name: str, seed: int, accuracy: float) -> None:
    """Add a finished run to the page."""
    row = {"rung": name, "seed": seed, "test_accuracy": round(accuracy, 4)}
    row["machine"] = machine(pick_device())
    with PAGE.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    done = {(row["rung"], int(row["seed"])) for row in rows()}
    for seed in options.seeds:
        for name in (*RUNGS, BESIDE):
            if (name, seed) not in done:
                print(f"{name}, seed {seed}", flush=True)
                keep(name, seed, train(name, seed, options.data_root))


if __name__ == "__main__":
    main()
