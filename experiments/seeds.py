"""Train with one seed after another, and keep every epoch of each in `results/`.

Usage: python -m experiments.seeds NAME [--seeds 1 2 3] [--data-root data]
       [--set FIELD=VALUE ... [--keep]] [--most 10]

NAME is a profile (quick, default, full), a recipe (baseline, fast), or a rival: `usual`
and `usual_he`, our recipe in the usual loop with PyTorch's or He's initial weights, until
99 % of the test digits are right, or for 20 epochs (or --most). Seeds that are in
`results/seeds_NAME.csv` already are skipped, and a rival, which takes hours, goes on after
its last whole epoch, so you can interrupt either. If a recipe has changed since its page was
begun, remove the page first.
With --set, to try something, the last epochs are shown and nothing is kept; with --keep
too, they get a page of their own, such as `results/seeds_fast-precision=bfloat16.csv`. So
that a page is of one arithmetic on every machine, training is in float32 by default.
"""

import argparse
import csv
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from experiments.machine import machine
from experiments.pages import (
    MOST_EPOCHS,
    RIVALS,
    TARGET,
    config_of,
    epochs_of,
    note_recipe,
    noted_recipes,
    page_of,
    pair,
    recipe_hash,
)
from experiments.rivals import plain_accuracy, plain_epoch, usual_recipe
from mnist_helpers import (
    RECIPES,
    EpochRecord,
    MnistCNN,
    TrainConfig,
    fit,
    load_mnist,
    pick_device,
    seed_everything,
)
from mnist_helpers.tutorial.profiles import PROFILES

UNFINISHED = Path(__file__).resolve().parent.parent / "build" / "seeds"


def train_ours(name: str, seed: int, options: argparse.Namespace) -> list[EpochRecord]:
    """Return the epochs of the package, by the recipe of a page."""
    config = dataclasses.replace(config_of(name), seed=seed)
    limits = {"train_limit": config.train_limit, "test_limit": config.test_limit}
    sets = load_mnist(options.data_root, allow_sample=False, seed=seed, **limits)
    seed_everything(seed)
    history = fit(MnistCNN(), *sets, config)
    if history.interrupted:  # its last epoch isn't that of the recipe
        raise KeyboardInterrupt
    return list(history)


def train_rival(name: str, seed: int, options: argparse.Namespace) -> list[EpochRecord]:
    """Return the epochs of rival (a), until it has reached the target."""
    seed_everything(seed)
    config = TrainConfig().resolved()
    model, train, test, loss_fn, optimizer = usual_recipe(
        options.data_root, config.device, config.batch_size, init=RIVALS[name]
    )
    page, records = unfinished(name, seed), []
    if page.is_file():
        records = [EpochRecord(**row) for row in restore(page, model, optimizer)]
    most = options.most or MOST_EPOCHS
    while len(records) < most and (not records or records[-1].test_accuracy < TARGET):
        started = time.perf_counter()
        loss, accuracy = plain_epoch(model, train, loss_fn, optimizer, config.device)
        trained = time.perf_counter()
        tested = plain_accuracy(model, test, config.device)
        seconds = trained - started, time.perf_counter() - trained
        epoch = len(records) + 1
        records.append(EpochRecord(epoch, 0.01, loss, accuracy, float("nan"), tested, *seconds))
        print(
            f"{name}, seed {seed}, epoch {epoch}: {tested:.2%} in {sum(seconds):.0f} s", flush=True
        )
        store(page, model, optimizer, records)
    return records


def unfinished(name: str, seed: int) -> Path:
    """Return where a rival's state is until it has finished."""
    return UNFINISHED / f"{name}_{seed}.pt"


def store(
    page: Path, model: nn.Module, optimizer: Optimizer, records: Sequence[EpochRecord]
) -> None:
    """Keep all that the next epoch depends on; PyTorch's generator shuffles the loader."""
    page.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "records": [record.to_dict() for record in records],
    }
    torch.save(state, page.with_suffix(".part"))
    page.with_suffix(".part").replace(page)  # either all of the epoch or all of the one before


def restore(page: Path, model: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """Put model, optimizer and generator back to where `store` found them; return the records."""
    state = torch.load(page, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"])
    records: list[dict[str, Any]] = state["records"]
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*PROFILES, *RECIPES, *RIVALS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--set", type=pair, nargs="+", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--keep", action="store_true", help="give --set's epochs a page too")
    parser.add_argument("--most", type=int, help="epochs after which to give up on a rival")
    options = parser.parse_args()
    if options.set and options.name in RIVALS:
        parser.error("--set changes a profile or a recipe; a rival has none")
    name = "-".join([options.name, *(f"{field}={value}" for field, value in options.set)])
    keeps = options.keep or not options.set
    done = epochs_of(name) if keeps else {}
    if done and name not in RIVALS and noted_recipes().get(name) != recipe_hash(config_of(name)):
        raise SystemExit(f"{page_of(name).name} is of another recipe than today's; remove it first")
    for seed in options.seeds:
        if seed in done:
            continue
        train = train_rival if name in RIVALS else train_ours
        records = train(name, seed, options)
        if keeps:
            keep(name, seed, records)
            unfinished(name, seed).unlink(missing_ok=True)
        else:
            print(records[-1])


def keep(name: str, seed: int, records: Sequence[EpochRecord]) -> None:
    """Add a finished seed's epochs to its page, all at once, and note the page's recipe."""
    where = machine(pick_device())
    rows = [{"seed": seed, **record.to_dict(), "machine": where} for record in records]
    with page_of(name).open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)
    if name not in RIVALS:
        note_recipe(name)


if __name__ == "__main__":
    main()
