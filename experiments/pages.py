"""The pages in `results/` that hold what seeds reached, and the figures that prose quotes."""

import csv
import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"
TARGET = 0.99  # of the test digits: what rivals learn until they have it
MOST_EPOCHS = 20  # those of the recipe
FEWEST_SEEDS = 5  # fewer tell too little of chance to quote it


def page_of(name):
    """Return where the seeds of a profile, a recipe or a rival are kept."""
    return RESULTS / f"seeds_{name}.csv"


def epochs_of(name):
    """Return the test accuracy after each epoch, by seed; nothing where there is no page."""
    page, epochs = page_of(name), {}
    if page.is_file():
        with page.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                epochs.setdefault(int(row["seed"]), []).append(float(row["test_accuracy"]))
    return dict(sorted(epochs.items()))


def last_of(name):
    """Return the test accuracy after the last epoch, by seed; all must have as many epochs."""
    epochs = epochs_of(name)
    if len({len(accuracies) for accuracies in epochs.values()}) > 1:
        raise SystemExit(
            f"{page_of(name).name}: some seeds have fewer epochs than others; remove them"
        )
    return {seed: accuracies[-1] for seed, accuracies in epochs.items()}


def keep_figures(figures):
    """Add figures to those that `tools/fill_figures.py` writes into the prose."""
    page = RESULTS / "figures.json"
    known = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    page.write_text(json.dumps(known | figures, indent=1, sort_keys=True) + "\n", "utf-8")
