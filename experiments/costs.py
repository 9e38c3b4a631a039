"""What an epoch, the memory, an import and the bars cost.

Usage: python -m experiments.costs [--data-root data] [--unit 10000]

Prints, and appends to `results/costs.jsonl`: seconds an epoch for one, two, four and six
units of images, and how far they are from a straight line through the origin; the most
memory that learning from and testing on all images takes above the import; what importing
the package adds to importing torch; and what part of a step bar and metrics take, by a
tiny network with and without them.
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
from pathlib import Path

import torch
from torch import nn

from experiments.machine import machine, timed
from experiments.pages import RESULTS
from mnist_helpers import MnistCNN, TrainConfig, evaluate, load_mnist, make_loaders, train_one_epoch
from mnist_helpers.progress import REFRESH_SECONDS, open_bar

COSTS = RESULTS / "costs.jsonl"
UNITS = (1, 2, 4, 6)
PARTS = 10  # of an epoch, each timed by itself
IMPORTS = 7
WARM_UP = 20  # steps
ROUNDS = 7  # the first of them warms up


def memory():
    """Return the most memory this process has had, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_steps(model, loader, loss_fn, optimizer):
    """Learn from every batch, and show and count nothing."""
    for images, labels in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()


def with_bar(model, batches, loss_fn, optimizer, total=None, **changes):
    """Learn from every batch as `train` does, bar, metrics and all."""
    bar = open_bar("epoch", total or len(batches))
    vars(bar).update(changes)
    train_one_epoch(model, batches, loss_fn, optimizer, bar=bar)
    bar.close()


def epoch_seconds(loaders, model, loss_fn, optimizer):
    """Return the seconds of an epoch by the number of images.

    A part of each in turn, since the speed of a machine drifts while epochs go on.
    """
    seconds = dict.fromkeys(loaders, 0.0)
    epochs = {count: iter(loader) for count, loader in loaders.items()}
    for part in range(PARTS):
        for count in list(loaders)[:: -1 if part % 2 else 1]:  # to and fro
            batches = len(loaders[count])
            steps = batches * (part + 1) // PARTS - batches * part // PARTS
            if steps:
                learned = itertools.islice(epochs[count], steps)
                seconds[count] += timed(with_bar, model, learned, loss_fn, optimizer, steps)
    return seconds


def bar_share(loader, step):
    """Return what part of a step of so many seconds bar and metrics take.

    Measured with a tiny network; beside ours the difference would drown in noise: once never
    drawn, once at every step. In a run it is drawn every half second.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    parts = model, loader, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.001)
    ways = {
        "bare": bare_steps,
        "counted": functools.partial(with_bar, mininterval=math.inf, miniters=1),
        "drawn": functools.partial(with_bar, mininterval=0, miniters=1),
    }
    rounds = [{name: timed(work, *parts) for name, work in ways.items()} for _ in range(ROUNDS)]
    bare, counted, drawn = (
        statistics.median(taken[name] for taken in rounds[1:]) / len(loader) for name in ways
    )
    drawings = min(1.0, step / REFRESH_SECONDS)
    return (counted - bare + drawings * (drawn - counted)) / step


def import_share():
    """Return what part more importing the package takes than importing torch, in pairs."""

    def seconds(text):
        return timed(lambda: subprocess.run([sys.executable, "-c", text], check=True))

    pairs = [(seconds("import torch"), seconds("import mnist_helpers")) for _ in range(IMPORTS)]
    return statistics.median(package / alone for alone, package in pairs) - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--unit", type=int, default=10_000)
    options = parser.parse_args()
    before = memory()
    config = TrainConfig(device="cpu", precision="float32")
    whole, test_set = load_mnist(options.data_root)
    model, loss_fn = MnistCNN(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)

    def loader_of(count):
        loader, _ = make_loaders(whole.part(count, seed=1), test_set, config)
        next(iter(loader))  # normalising happens once a run, not once an epoch
        return loader

    loader, test_loader = make_loaders(whole, test_set, config)
    with_bar(model, itertools.islice(loader, WARM_UP), loss_fn, optimizer, WARM_UP)
    evaluate(model, test_loader)
    most = memory()
    loaders = {units * options.unit: loader_of(units * options.unit) for units in UNITS}
    seconds = epoch_seconds(loaders, model, loss_fn, optimizer)
    rates = [count / taken for count, taken in seconds.items()]
    shortest = loaders[options.unit]
    step = seconds[options.unit] / len(shortest)
    entry = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(torch.device("cpu")),
        "epoch_seconds": {str(count): round(taken, 2) for count, taken in seconds.items()},
        "slowest_over_fastest_rate": round(min(rates) / max(rates), 3),
        "memory_above_import_mib": round(most - before),
        "import_over_torch": round(import_share(), 3),
        "bar_and_metrics_share": round(bar_share(shortest, step), 5),
    }
    print(json.dumps(entry, indent=1))
    with COSTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
