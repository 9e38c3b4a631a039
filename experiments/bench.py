"""How fast training is, against rivals in the same minutes: pairs, interleaved.

Usage: make bench, or python -m experiments.bench [--data-root data] [--pairs 7]

Each round times the package and each rival over the same number of images, in turn, so
that whatever else the machine does meets all of them; the first round only warms up.
Shown and appended to `results/benchmarks.jsonl`: the median, the least and the most of
every rate, and of every ratio *within* a round. Besides our baseline (ours) there is
`fast`, the recipe of that name with its smaller batches. Rivals: (a) the baseline in the
usual loop; (b) PyTorch's basic example, a smaller network; (c) the machine's matrix
product, by the faster of two ways to it, as the limit: what of it training reaches,
counting 0.313 GFLOP an image.
"""

import argparse
import datetime
import json
import statistics
from pathlib import Path

import torch
from torch import nn

from experiments.machine import machine, timed
from experiments.pages import RESULTS
from experiments.rivals import basic_example, plain_epoch, usual_recipe
from mnist_helpers import (
    MnistCNN,
    TrainConfig,
    load_mnist,
    make_loaders,
    seed_everything,
    train_one_epoch,
)
from mnist_helpers.hardware import MEMORY_FORMATS, PRECISIONS
from mnist_helpers.progress import close_bar, open_bar
from mnist_helpers.update import Update

BENCHMARKS = RESULTS / "benchmarks.jsonl"
# Forward 2 * 52,159,872 operations; backward twice that, less the first layer's images.
GFLOP_AN_IMAGE = 0.313
WIDTH = 2048  # of the matrices multiplied as the limit


def ours(options, config):
    """Return the package's epoch: the one that `train` runs, bar and all."""
    train_set, test_set = load_mnist(
        options.data_root, allow_sample=False, train_limit=options.images
    )
    train_loader, _ = make_loaders(train_set, test_set, config)
    device = torch.device(config.device)
    model = MnistCNN().to(device, memory_format=MEMORY_FORMATS[config.memory_format])
    update = Update(model, config, len(train_loader))

    def epoch():
        bar = open_bar("bench", len(train_loader))
        train_one_epoch(
            model, train_loader, nn.CrossEntropyLoss(), update.optimizer, device, bar,
            precision=config.precision, scaler=update.scaler, after_step=update.after_step,
        )  # fmt: skip
        bar.close()

    return epoch


def rival(make, options, config):
    """Return a rival's epoch, on the same number of images."""
    device = torch.device(config.device)
    model, train, _, loss_fn, optimizer = make(
        options.data_root, device=device, count=options.images, batch_size=config.batch_size
    )
    return lambda: plain_epoch(model, train, loss_fn, optimizer, device)


def products(config):
    """Return two ways to ten products of square matrices, in the precision of training.

    A 1x1 convolution is a product too. PyTorch leaves it to another library than `@`, and
    which of the two is faster depends on the processor.
    """
    shape = {"device": config.device, "dtype": PRECISIONS[config.precision]}
    left, right = torch.randn(2, WIDTH, WIDTH).to(**shape)
    pixels = left.T.reshape(1, WIDTH, WIDTH // 16, 16).to(memory_format=torch.channels_last)
    filters = right.T.reshape(WIDTH, WIDTH, 1, 1).to(memory_format=torch.channels_last)

    def ten(work):
        def run():
            for _ in range(9):  # none of which is kept, or memory would be timed
                work()
            return work()

        return run

    return ten(lambda: left @ right), ten(lambda: nn.functional.conv2d(pixels, filters))


def spread(values):
    """Return median, least and most, to four digits."""
    figures = statistics.median(values), min(values), max(values)
    return [float(f"{value:.4g}") for value in figures]


def main():
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
    device = torch.device(config.device)
    contenders = {
        "ours": ours(options, config),
        "fast": ours(options, fast),
        "usual": rival(usual_recipe, options, config),
        "basic": rival(basic_example, options, config),
        **dict(zip(("product", "convolution"), products(config), strict=True)),
    }
    seconds = {name: [] for name in contenders}
    bar = open_bar("rounds", rounds)
    for number in range(rounds):
        for name, work in contenders.items():
            taken = timed(work, device=device)
            if number:  # the first round warms up
                seconds[name].append(taken)
        bar.update(1)
    close_bar(bar)
    entry = entry_of(options, config, fast, seconds)
    show(entry)
    with BENCHMARKS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def entry_of(options, config, fast, seconds):
    """Return what is kept of a measurement: medians and spread, and of what they are."""
    names = "ours", "fast", "usual", "basic"
    rates = {name: [options.images / s for s in seconds[name]] for name in names}
    best = map(min, seconds["product"], seconds["convolution"])
    limit = [10 * 2 * WIDTH**3 / 1e9 / s for s in best]

    def ratio(one, other):
        return spread([a / b for a, b in zip(one, other, strict=True)])

    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(torch.device(config.device)),
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


def show(entry):
    """Print a measurement, a line for each rate and ratio."""
    print(
        f"{entry['machine']}, {entry['precision']}, {entry['pairs']} pairs: median (least to most)"
    )
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
    for name, (unit, median, least, most) in rows.items():
        print(f"{name:22} {median:8.4g} {unit:8} ({least:.4g} to {most:.4g})")


if __name__ == "__main__":
    main()
