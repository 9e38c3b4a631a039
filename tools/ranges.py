"""Say between what an accuracy is to be expected, from the seeds in `results/`.

Usage: python tools/ranges.py

Reads `results/seeds_quick.csv` and `results/seeds_default.csv`, as `experiments/seeds.py`
writes them, and writes `results/ranges.json`, for the notebooks' cells, and the same as
words into `results/figures.json`, for their prose; there too what `seeds_fast.csv` says,
and what the first seed of `seeds_fast_unclipped.csv` (`fast --set clip_norm=0`) lost.
A range is the mean of the last epoch's test accuracy, four standard deviations to either
side, rounded outwards. The deviation being itself an estimate, chance leaves it more often
than one would think: with 5 seeds about once in 50 runs, with 10 about once in 250
(Student's t).
"""

import csv
import json
import math
import statistics
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"
DEVIATIONS = 4
FEWEST_SEEDS = 5
STEPS = {"quick": 0.01, "default": 0.001}  # what each profile's range is rounded to


def last_accuracies(page):
    """Return each seed's test accuracy after the last epoch; all must have as many epochs."""
    with page.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    last = {row["seed"]: row for row in rows}  # later rows replace earlier ones
    if len({row["epoch"] for row in last.values()}) > 1:
        raise SystemExit(f"{page.name}: some seeds have fewer epochs than others; remove them")
    return {seed: float(row["test_accuracy"]) for seed, row in last.items()}


def range_of(accuracies, step):
    """Return the range to be promised, as two fractions."""
    mean, reach = statistics.mean(accuracies), DEVIATIONS * statistics.stdev(accuracies)
    low = math.floor((mean - reach) / step) * step
    high = math.ceil((mean + reach) / step) * step
    return round(max(low, 0.0), 4), round(min(high, 1.0), 4)


def fast_figures():
    """Return what the prose says of `fast`: no promise, only what its seeds had."""
    seeds, unclipped = RESULTS / "seeds_fast.csv", RESULTS / "seeds_fast_unclipped.csv"
    if not seeds.is_file():
        return {}
    last = last_accuracies(seeds)
    figures = {
        "fast.seeds": str(len(last)),
        "fast.last": f"{min(last.values()):.2%} to {max(last.values()):.2%}",
        "fast.mean": f"{statistics.mean(last.values()):.2%}",
    }
    if unclipped.is_file():
        figures["fast.unclipped"] = f"{last_accuracies(unclipped)['1']:.2%}"
        figures["fast.clipped"] = f"{last['1']:.2%}"
    return figures


def main():
    ranges, page = {}, RESULTS / "figures.json"
    figures = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    for name, step in STEPS.items():
        seeds = RESULTS / f"seeds_{name}.csv"
        accuracies = list(last_accuracies(seeds).values()) if seeds.is_file() else []
        if len(accuracies) < FEWEST_SEEDS:
            print(f"{name}: {len(accuracies)} seeds are too few, {FEWEST_SEEDS} are needed")
            continue
        low, high = range_of(accuracies, step)
        ranges[name] = {"last": [low, high], "seeds": len(accuracies)}
        digits = 0 if step == 0.01 else 1
        figures[f"range.{name}"] = f"{low * 100:.{digits}f} to {high * 100:.{digits}f} %"
        figures[f"seeds.{name}"] = str(len(accuracies))
    figures |= fast_figures()
    (RESULTS / "ranges.json").write_text(json.dumps(ranges, indent=1) + "\n", "utf-8")
    page.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
