"""What training costs: the seconds of an epoch, memory, the import and the progress bars.

Usage: python -m experiments.costs [--data-root data] [--unit 10000]

Prints, and appends to `results/costs.jsonl`: the seconds of an epoch of one, two, four and
six units of images, and the slowest of their rates over the fastest; how much memory, at its
peak, learning from and testing on all images takes on top of the import; what importing the
package adds to importing torch; and what part of a step the bar and the metrics take, measured
on a tiny network with and without them.
"""

import argparse
import datetime
import functools
import itertools
import json
import math
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from experiments.machine import machine, timed
from experiments.pages import RESULTS
from mnist_helpers import MnistCNN, TrainConfig, evaluate, load_mnist, make_loader, train_one_epoch
from mnist_helpers.machine.hardware import MEMORY_FORMATS
from mnist_helpers.machine.progress import REFRESH_SECONDS, open_bar

Loader = DataLoader[Any]
COSTS = RESULTS / "costs.jsonl"
UNITS = (1, 2, 4, 6)
PARTS = 10  # of an epoch, each timed by itself
IMPORTS = 7
WARM_UP = 20  # steps
ROUNDS = 7  # the first of them warms up


def memory() -> float:
    """Return this process's peak memory so far, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_steps(model: nn.Module, loader: Loader, loss_fn: nn.Module, optimizer: Optimizer) -> None:
    """Learn from every batch, without showing or counting anything."""
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()


def with_bar(
    model: nn.Module, batches: Iterable[Any], loss_fn: nn.Module, optimizer: Optimizer,
    total: int, **changes: float,
) -> None:  # fmt: skip
    """Learn from `total` batches as `fit` does, bar, metrics and all."""
    bar = open_bar("epoch", total)
    vars(bar).update(changes)
    train_one_epoch(model, batches, loss_fn, optimizer, bar)
    bar.close()


def epoch_seconds(
    loaders: Mapping[int, Loader], model: nn.Module, loss_fn: nn.Module, optimizer: Optimizer
) -> dict[int, float]:
    """Return the seconds of an epoch by the number of images.

    They run in turn, a part of each, because the speed of a machine drifts meanwhile.
    """
    seconds = dict.fromkeys(loaders, 0.0)
    epochs = {count: iter(loader) for count, loader in loaders.items()}
    for part in range(PARTS):
        for count in list(loaders)[:: -1 if part % 2 else 1]:  # back and forth
            batches = len(loaders[count])
            steps = batches * (part + 1) // PARTS - batches * part // PARTS
            if steps:
                learned = itertools.islice(epochs[count], steps)
                seconds[count] += timed(with_bar, model, learned, loss_fn, optimizer, steps)
    return seconds


def bar_share(loader: Loader, step: float) -> float:
    """Return what part of a step of so many seconds the bar and the metrics take.

    Measured on a tiny network (on ours the difference would drown in noise), with a bar that
    is never drawn and with one that is drawn at every step. A run draws it every half second.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    parts = model, loader, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.001)
    total = len(loader)
    ways: dict[str, Callable[..., None]] = {
        "bare": bare_steps,
        "counted": functools.partial(with_bar, total=total, mininterval=math.inf, miniters=1),
        "drawn": functools.partial(with_bar, total=total, mininterval=0, miniters=1),
    }
    rounds = [{name: timed(work, *parts) for name, work in ways.items()} for _ in range(ROUNDS)]
    bare, counted, drawn = (
        statistics.median(taken[name] for taken in rounds[1:]) / total for name in ways
    )
    drawings = min(1.0, step / REFRESH_SECONDS)
    return (counted - bare + drawings * (drawn - counted)) / step


def import_share() -> float:
    """Return how much longer importing the package takes than importing torch, as a part of it."""

    def seconds(text: str) -> float:
        return timed(lambda: subprocess.run([sys.executable, "-c", text], check=True))

    pairs = [(seconds("import torch"), seconds("import mnist_helpers")) for _ in range(IMPORTS)]
    return statistics.median(package / alone for alone, package in pairs) - 1


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return what everything costs on this machine."""
    before = memory()
    config = TrainConfig(device="cpu", precision="float32").resolved()
    whole, test_set = load_mnist(options.data_root)
    model, loss_fn = MnistCNN(), nn.CrossEntropyLoss()
    model.to(memory_format=MEMORY_FORMATS[config.memory_format])
    optimizer = torch.optim.SGD(model.parameters(), config.recipe.lr, config.recipe.momentum)

    batches = itertools.islice(make_loader(whole, config, train=True), WARM_UP)
    with_bar(model, batches, loss_fn, optimizer, WARM_UP)
    evaluate(model, make_loader(test_set, config, train=False))
    peak = memory()
    parts = [whole.part(units * options.unit, seed=1) for units in UNITS]
    loaders = {len(part): make_loader(part, config, train=True) for part in parts}
    seconds = epoch_seconds(loaders, model, loss_fn, optimizer)
    rates = [count / taken for count, taken in seconds.items()]
    shortest = loaders[options.unit]
    step = seconds[options.unit] / len(shortest)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(config.device),
        "epoch_seconds": {str(count): round(taken, 2) for count, taken in seconds.items()},
        "slowest_over_fastest_rate": round(min(rates) / max(rates), 3),
        "memory_above_import_mib": round(peak - before),
        "import_over_torch": round(import_share(), 3),
        "bar_and_metrics_share": round(bar_share(shortest, step), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--unit", type=int, default=10_000)
    entry = measured(parser.parse_args())
    print(json.dumps(entry, indent=1))
    with COSTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
