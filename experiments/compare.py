"""Compare two ways to train, seed by seed, by the pages in `results/`.

Usage: python -m experiments.compare PAGE OTHER [--figure NAME]

Takes the seeds that `results/seeds_PAGE.csv` and `results/seeds_OTHER.csv` share, and the
test accuracy after each one's last epoch. The same seed gives both the same initial
weights and the same order of images, so what chance does to both drops out of their
difference. Printed, and with --figure kept in `results/figures.json`: the mean of OTHER
less PAGE, and how far off it may be (95 %, Student's t).
"""

import argparse
import csv
import json
from pathlib import Path

from scipy.stats import ttest_rel

RESULTS = Path(__file__).resolve().parent.parent / "results"


def last_accuracies(page):
    """Return the test accuracy after the last epoch of each seed."""
    with page.open(encoding="utf-8", newline="") as file:
        return {int(row["seed"]): float(row["test_accuracy"]) for row in csv.DictReader(file)}


def difference(one, other):
    """Return the mean of other less one over their common seeds, its 95 % reach, the count."""
    common = sorted(one.keys() & other.keys())
    if len(common) < 2:
        raise SystemExit(f"{len(common)} common seeds are too few to compare by")
    test = ttest_rel([other[seed] for seed in common], [one[seed] for seed in common])
    low, high = test.confidence_interval(0.95)
    return (low + high) / 2, (high - low) / 2, len(common)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page")
    parser.add_argument("other")
    parser.add_argument("--figure", help="name in results/figures.json")
    options = parser.parse_args()
    one, other = (
        last_accuracies(RESULTS / f"seeds_{name}.csv") for name in (options.page, options.other)
    )
    mean, reach, count = difference(one, other)
    words = f"{mean * 100:+.2f} ± {reach * 100:.2f}"
    print(f"{options.other} less {options.page}: {words} percentage points, {count} seeds")
    if options.figure:
        page = RESULTS / "figures.json"
        figures = json.loads(page.read_text("utf-8")) | {
            options.figure: words, f"{options.figure}.seeds": str(count)
        }  # fmt: skip
        page.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
