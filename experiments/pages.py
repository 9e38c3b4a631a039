"""The pages in `results/`: what seeds reached, by which recipe, and the figures in the prose.

Usage: python -m experiments.pages --note PAGE ...

Each page's recipe is kept in `results/recipes.json` as a hash, and a test says when it has
changed since. If you know that a change makes no difference to the results, such as a setting's
new name, this command writes today's hash of those pages.
"""

import argparse
import ast
import csv
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_helpers import TrainConfig, profile_config
from mnist_helpers.tutorial.profiles import PROFILES

RESULTS = Path(__file__).resolve().parent.parent / "results"
RIVALS = {"usual": "default", "usual_he": "he"}  # each with its initial weights
TARGET = 0.99  # of the test digits: what rivals learn until they have it
MOST_EPOCHS = 20  # those of the recipe
FEWEST_SEEDS = 5  # with fewer, chance decides too much to quote them
WITHOUT_EFFECT = {"seed", "device", "data_root", "checkpoint_dir", "in_memory"}


def page_of(name: str) -> Path:
    """Return where the seeds of a profile, a recipe or a rival are kept."""
    return RESULTS / f"seeds_{name}.csv"


def pair(text: str) -> tuple[str, Any]:
    """Read FIELD=VALUE, where 0.5, None or True are meant as such."""
    field, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, such as lr=0.02, got {text!r}")
    try:
        return field, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return field, value


def config_of(name: str) -> TrainConfig:
    """Return the recipe of a page such as `fast-clip_norm=0.0`; a rival has none.

    In float32, unless the name says otherwise: a page is of one arithmetic on every machine.
    """
    base, *changes = re.split(r"-(?=\w+=)", name)
    config = profile_config(base) if base in PROFILES else TrainConfig.recipe(base)
    settings = {"checkpoint_dir": None, "precision": "float32", **dict(map(pair, changes))}
    return dataclasses.replace(config, **settings)


def recipe_hash(config: TrainConfig) -> str:
    """Return a hash of all settings that affect the result.

    One that is off (0, False, None) is left out: a new setting, off at first, changes no hash.
    """
    settings = dataclasses.asdict(config).items()
    kept = {name: value for name, value in settings if value and name not in WITHOUT_EFFECT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def noted_recipes() -> dict[str, str]:
    """Return the hash of the recipe that made each page, by the page's name."""
    return read_json(RESULTS / "recipes.json")


def note_recipe(name: str) -> None:
    """Keep the hash of a page's recipe."""
    add_to_json(RESULTS / "recipes.json", {name: recipe_hash(config_of(name))})


def epochs_of(name: str) -> dict[int, list[float]]:
    """Return the test accuracy after each epoch, by seed; empty if there is no such page."""
    page = page_of(name)
    epochs: dict[int, list[float]] = {}
    if page.is_file():
        with page.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                epochs.setdefault(int(row["seed"]), []).append(float(row["test_accuracy"]))
    return dict(sorted(epochs.items()))


def last_of(name: str) -> dict[int, float]:
    """Return the test accuracy after the last epoch, by seed; all must have as many epochs."""
    epochs = epochs_of(name)
    if len({len(accuracies) for accuracies in epochs.values()}) > 1:
        raise SystemExit(
            f"{page_of(name).name}: some seeds have fewer epochs than others; remove them"
        )
    return {seed: accuracies[-1] for seed, accuracies in epochs.items()}


def keep_figures(figures: Mapping[str, str]) -> None:
    """Add figures to those that `tools/fill_figures.py` writes into the prose."""
    add_to_json(RESULTS / "figures.json", figures)


def read_json(page: Path) -> dict[str, str]:
    """Return what a page of JSON holds; nothing if it isn't there."""
    known: dict[str, str] = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    return known


def add_to_json(page: Path, entries: Mapping[str, str]) -> None:
    """Add entries to a page of JSON, sorted by name."""
    text = json.dumps(read_json(page) | dict(entries), indent=1, sort_keys=True)
    page.write_text(text + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--note", nargs="+", required=True, metavar="PAGE")
    for name in parser.parse_args().note:
        note_recipe(name)


if __name__ == "__main__":
    main()
