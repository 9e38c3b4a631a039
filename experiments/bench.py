"""How fast training is next to rivals, timed in turn within the same minutes.

Usage: make bench, or python -m experiments.bench [--data-root data] [--pairs 7]

Each round times the package and each rival over the same number of images, in turn, so
that whatever else the machine is doing slows all of them; the first round only warms up.
Shown and appended to `results/benchmarks.jsonl`: the median, the smallest and the largest
of every rate, and of every ratio *within* a round. `ours` is our baseline, and `fast` the
recipe of that name with its smaller batches. Rivals: (a) the baseline in the usual loop;
(b) PyTorch's basic example, a smaller network; (c) the machine's matrix product, by the
faster of two ways, as the limit: how much of it training reaches, counting 0.313 GFLOP an
image.
"""

import argparse
import datetime
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.machine import machine, timed
from experiments.pages import RESULTS
from experiments.rivals import Rival, basic_example, plain_epoch, usual_recipe
from mnist_helpers import (
    MnistCNN,
    TrainConfig,
    load_mnist,
    make_loader,
    seed_everything,
    train_one_epoch,
)
from mnist_helpers.config import ResolvedConfig
from mnist_helpers.machine.hardware import MEMORY_FORMATS, PRECISIONS
from mnist_helpers.machine.progress import close_bar, open_bar
from mnist_helpers.training.optimizer import Optimization

BENCHMARKS = RESULTS / "benchmarks.jsonl"
# Forward 2 * 52,159,872 operations; backward twice that, less the first layer's images.
GFLOP_AN_IMAGE = 0.313
WIDTH = 2048  # of the matrices multiplied as the limit
Work = Callable[[], Any]


def ours(options: argparse.Namespace, config: ResolvedConfig) -> Work:
    """Return the package's epoch: the one that `fit` runs, bar and all."""
    train_set, _ = load_mnist(options.data_root, allow_sample=False, train_limit=options.images)
    loader = make_loader(train_set, config, train=True)
    model = MnistCNN().to(config.device).to(memory_format=MEMORY_FORMATS[config.memory_format])
    optimization = Optimization(model, config, len(loader))

    def epoch() -> None:
        bar = open_bar("bench", len(loader))
        train_one_epoch(
            model, loader, nn.CrossEntropyLoss(), optimization.optimizer, bar,
            precision=config.precision, scaler=optimization.scaler,
            after_step=optimization.after_step,
        )  # fmt: skip
        bar.close()

    return epoch


def rival(make: Callable[..., Rival], options: argparse.Namespace, config: ResolvedConfig) -> Work:
    """Return a rival's epoch, on the same number of images."""
    model, train, _, loss_fn, optimizer = make(
        options.data_root, config.device, config.batch_size, options.images
    )
    return lambda: plain_epoch(model, train, loss_fn, optimizer, config.device)


def products(config: ResolvedConfig) -> tuple[Work, Work]:
    """Return two ways to ten products of square matrices, in the precision of training.

    A 1x1 convolution is a product too. PyTorch computes it with another library than `@`, and
    which of the two is faster depends on the processor.
    """
    dtype = PRECISIONS[config.precision]
    left, right = torch.randn(2, WIDTH, WIDTH).to(config.device, dtype)
    pixels = left.T.reshape(1, WIDTH, WIDTH // 16, 16).to(memory_format=torch.channels_last)
    filters = right.T.reshape(WIDTH, WIDTH, 1, 1).to(memory_format=torch.channels_last)

    def ten(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            for _ in range(9):  # none of these is kept, or memory would be timed
                work()
            return work()

        return run

    return ten(lambda: left @ right), ten(lambda: nn.functional.conv2d(pixels, filters))


def spread(values: Sequence[float]) -> list[float]:
    """Return median, smallest and largest, to four digits."""
    figures = statistics.median(values), min(values), max(values)
    return [float(f"{value:.4g}") for value in figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--images", type=int, default=1920)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    seed_everything(1)
    config = TrainConfig(device=options.device).resolved()
    rounds = options.pairs + 1
    fast = TrainConfig.recipe("fast", device=options.device, epochs=rounds).resolved()
    contenders = {
        "ours": ours(options, config),
        "fast": ours(options, fast),
        "usual": rival(usual_recipe, options, config),
        "basic": rival(basic_example, options, config),
        **dict(zip(("product", "convolution"), products(config), strict=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    bar = open_bar("rounds", rounds)
    for number in range(rounds):
        for name, work in contenders.items():
            taken = timed(work, device=config.device)
            if number:  # the first round warms up
                seconds[name].append(taken)
        bar.update(1)
    close_bar(bar)
    entry = entry_of(options, config, fast, seconds)
    show(entry)
    with BENCHMARKS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def entry_of(
    options: argparse.Namespace,
    config: ResolvedConfig,
    fast: ResolvedConfig,
    seconds: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Return what is kept of a measurement: medians and spread, and what was measured."""
    names = "ours", "fast", "usual", "basic"
    rates = {name: [options.images / s for s in seconds[name]] for name in names}
    pairs = zip(seconds["product"], seconds["convolution"], strict=True)
    limit = [10 * 2 * WIDTH**3 / 1e9 / min(pair) for pair in pairs]

    def ratio(one: Iterable[float], other: Iterable[float]) -> list[float]:
        return spread([a / b for a, b in zip(one, other, strict=True)])

    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(config.device),
        "torch": torch.__version__,
        "precision": config.precision,
        "batch_size": config.batch_size,
        "fast_batch_size": fast.batch_size,
        "images": options.images,
        "pairs": options.pairs,
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "product_gflops": spread(limit),
        "ours_over_usual": ratio(rates["ours"], rates["usual"]),
        "ours_over_basic": ratio(rates["ours"], rates["basic"]),
        "fast_over_usual": ratio(rates["fast"], rates["usual"]),
        "share_of_product": ratio([r * GFLOP_AN_IMAGE for r in rates["ours"]], limit),
    }


def show(entry: Mapping[str, Any]) -> None:
    """Print a measurement, a line for each rate and ratio."""
    what = f"{entry['machine']}, {entry['precision']}, {entry['pairs']} pairs"
    print(f"{what}: median (smallest to largest)")
    rates = entry["images_per_second"]
    rows = {
        "ours": ("images/s", *rates["ours"]),
        "fast": ("images/s", *rates["fast"]),
        "(a) the usual loop": ("images/s", *rates["usual"]),
        "(b) PyTorch's example": ("images/s", *rates["basic"]),
        "(c) matrix product": ("GFLOP/s", *entry["product_gflops"]),
        "ours over (a)": ("times", *entry["ours_over_usual"]),
        "ours over (b)": ("times", *entry["ours_over_basic"]),
        "fast over (a)": ("times", *entry["fast_over_usual"]),
        "ours as part of (c)": ("", *entry["share_of_product"]),
    }
    for name, (unit, median, smallest, largest) in rows.items():
        print(f"{name:22} {median:8.4g} {unit:8} ({smallest:.4g} to {largest:.4g})")


if __name__ == "__main__":
    main()
