"""What an epoch, the memory, an import and the bars cost.

Usage: python -m experiments.costs [--data-root data] [--unit 10000]

Prints, and appends to `results/costs.jsonl`: seconds an epoch for one, two, four and six
units of images, and how far they are from a straight line through the origin; the most
memory above that after the import; what importing the package adds to importing torch;
and what part of an epoch bars and metrics take, by the same steps without them.
"""

import argparse
import datetime
import json
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
from mnist_helpers.progress import open_bar

COSTS = RESULTS / "costs.jsonl"
UNITS = (1, 2, 4, 6)
IMPORTS = 7


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


def with_bar(model, loader, loss_fn, optimizer):
    bar = open_bar("epoch", len(loader))
    train_one_epoch(model, loader, loss_fn, optimizer, bar=bar)
    bar.close()


def import_seconds(text):
    command = [sys.executable, "-c", text]
    return statistics.median(
        timed(lambda: subprocess.run(command, check=True)) for _ in range(IMPORTS)
    )


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

    _, tests = make_loaders(test_set, test_set, config)

    def loader_of(count):
        loader, _ = make_loaders(whole.part(count, seed=1), test_set, config)
        next(iter(loader))  # normalising happens once a run, not once an epoch
        return loader

    with_bar(model, loader_of(1000), loss_fn, optimizer)  # to warm up
    seconds = {
        units * options.unit: timed(
            with_bar, model, loader_of(units * options.unit), loss_fn, optimizer
        )
        for units in UNITS
    }
    evaluate(model, tests)
    most = memory()
    small, pairs = loader_of(1280), []
    both = [bare_steps, with_bar]
    for _ in range(6):
        taken = {work: timed(work, model, small, loss_fn, optimizer) for work in both}
        pairs.append(taken[with_bar] / taken[bare_steps] - 1)
        both.reverse()  # either goes first as often as the other
    rates = [count / taken for count, taken in seconds.items()]
    torch_alone = import_seconds("import torch")
    entry = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(torch.device("cpu")),
        "epoch_seconds": {str(count): round(taken, 2) for count, taken in seconds.items()},
        "slowest_over_fastest_rate": round(min(rates) / max(rates), 3),
        "memory_above_import_mib": round(most - before),
        "import_over_torch": round(import_seconds("import mnist_helpers") / torch_alone - 1, 3),
        "bar_and_metrics_share": [round(share, 4) for share in sorted(pairs)],
    }
    print(json.dumps(entry, indent=1))
    with COSTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
