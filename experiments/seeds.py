"""Train with one seed after another, and keep every epoch of each in `results/`.

Usage: python -m experiments.seeds NAME [--seeds 1 2 3] [--data-root data]
       [--set FIELD=VALUE ... [--keep]] [--most 10]

NAME is a profile (quick, default, full), a recipe (baseline, fast), or a rival: `usual`
and `usual_he`, our recipe in the usual loop with torch's or He's initial weights, until
99 % of the test digits are right, or for 20 epochs (or --most). Seeds that
`results/seeds_NAME.csv` holds already are skipped, and a rival, which takes hours, goes on
after its last whole epoch, so either can be interrupted. (Who changes a recipe has to
remove its page first.)
With --set, to try something, the last epochs are shown and nothing is kept; with --keep
too, they get a page of their own, such as `results/seeds_fast-precision=bfloat16.csv`. So
that a page is of one arithmetic on every machine, training is in float32 by default.
"""

import argparse
import ast
import csv
import dataclasses
import time
from pathlib import Path

import torch

from experiments.machine import machine
from experiments.pages import MOST_EPOCHS, TARGET, epochs_of, page_of
from experiments.rivals import plain_accuracy, plain_epoch, usual_recipe
from mnist_helpers import (
    RECIPES,
    MnistCNN,
    TrainConfig,
    fit,
    load_mnist,
    make_loaders,
    pick_device,
    profile_config,
    seed_everything,
)
from mnist_helpers.history import FIELDS, EpochRecord
from mnist_helpers.profiles import PROFILES

UNFINISHED = Path(__file__).resolve().parent.parent / "build" / "seeds"
RIVALS = {"usual": "default", "usual_he": "he"}
COLUMNS = ("seed", *FIELDS, "machine")


def train_ours(name, seed, options, changes):
    """Return the epochs of the package under a profile's or a recipe's name."""
    config = profile_config(name) if name in PROFILES else TrainConfig.recipe(name)
    changes = {"precision": "float32", **changes}
    config = dataclasses.replace(
        config, seed=seed, data_root=options.data_root, checkpoint_dir=None, **changes
    )
    limits = {"train_limit": config.train_limit, "test_limit": config.test_limit}
    sets = load_mnist(config.data_root, allow_sample=False, seed=seed, **limits)
    seed_everything(seed)
    history = fit(MnistCNN(), *make_loaders(*sets, config), config)
    if history.interrupted:  # a part of a run is nobody's last epoch
        raise KeyboardInterrupt
    return list(history)


def train_rival(name, seed, options):
    """Return the epochs of rival (a), until it has reached the target."""
    seed_everything(seed)
    config = TrainConfig().resolved()
    device = torch.device(config.device)
    model, train, test, loss_fn, optimizer = usual_recipe(
        options.data_root, RIVALS[name], device, batch_size=config.batch_size
    )
    page, records = unfinished(name, seed), []
    if page.is_file():
        records = [EpochRecord(**row) for row in restore(page, model, optimizer)]
    most = options.most or MOST_EPOCHS
    while len(records) < most and (not records or records[-1].test_accuracy < TARGET):
        started = time.perf_counter()
        loss, accuracy = plain_epoch(model, train, loss_fn, optimizer, device)
        trained = time.perf_counter()
        tested = plain_accuracy(model, test, device)
        seconds = trained - started, time.perf_counter() - trained
        epoch = len(records) + 1
        records.append(EpochRecord(epoch, 0.01, loss, accuracy, float("nan"), tested, *seconds))
        print(
            f"{name}, seed {seed}, epoch {epoch}: {tested:.2%} in {sum(seconds):.0f} s", flush=True
        )
        store(page, model, optimizer, records)
    return records


def unfinished(name, seed):
    """Return where a rival's state is until it has finished."""
    return UNFINISHED / f"{name}_{seed}.pt"


def store(page, model, optimizer, records):
    """Keep all that the next epoch depends on; PyTorch's generator shuffles the loader."""
    page.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "records": [dataclasses.asdict(record) for record in records],
    }
    torch.save(state, page.with_suffix(".part"))
    page.with_suffix(".part").replace(page)  # either all of the epoch or all of the one before


def restore(page, model, optimizer):
    """Put model, optimizer and generator to where `store` found them; return the records."""
    state = torch.load(page, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"])
    return state["records"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*PROFILES, *RECIPES, *RIVALS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--set", type=pair, nargs="+", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--keep", action="store_true", help="give --set's epochs a page too")
    parser.add_argument("--most", type=int, help="epochs after which to give up a rival")
    options = parser.parse_args()
    if options.set and options.name in RIVALS:
        parser.error("--set changes a profile or a recipe; a rival has none")
    page = "-".join([options.name, *(f"{field}={value}" for field, value in options.set)])
    keeps = options.keep or not options.set
    done = epochs_of(page) if keeps else {}
    for seed in options.seeds:
        if seed in done:
            continue
        if options.name in RIVALS:
            records = train_rival(options.name, seed, options)
        else:
            records = train_ours(options.name, seed, options, dict(options.set))
        if keeps:
            keep(page_of(page), seed, records)
            unfinished(options.name, seed).unlink(missing_ok=True)
        else:
            print(records[-1])


def pair(text):
    """Read FIELD=VALUE, where 0.5, None or True are meant as such."""
    field, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, such as lr=0.02, got {text!r}")
    try:
        return field, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return field, value


def keep(page, seed, records):
    """Add a finished seed's epochs to the page, all at once."""
    with page.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        where = machine(pick_device())
        for record in records:
            writer.writerow({"seed": seed, **dataclasses.asdict(record), "machine": where})


if __name__ == "__main__":
    main()
