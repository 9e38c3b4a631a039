"""How much sooner 99 % of the test digits are right, from the pages in `results/`.

Usage: python -m experiments.target

Reads the epochs that `experiments.seeds` kept for `fast` and for the usual loop, with
torch's and with He's initial weights, and what `make bench` last measured of an epoch's
time on such a machine. Prints in which epoch each seed first got there, and how many
times as long the usual loop's median seed takes as that of `fast`; where that seed never
got there, at least how many. Writes it to `results/figures.json`. Where nobody ran the
usual loop with He's weights, `baseline` or `default` stands for it: the same recipe,
other draws of weights and order.
"""

import csv
import json
import math
import statistics

from experiments.pages import MOST_EPOCHS, RESULTS, TARGET, epochs_of, keep_figures, page_of

PAGES = {
    "fast": ("fast",),
    "usual_he": ("usual_he", "baseline", "default"),
    "usual": ("usual",),
}


def first_epochs(epochs):
    """Return the epoch in which each seed first reached the target, infinite where none did."""
    return [
        next((n for n, accuracy in enumerate(seed, 1) if accuracy >= TARGET), math.inf)
        for seed in epochs.values()
    ]


def least_median(epochs):
    """Return what the median of the first epochs is at least, and whether it is just that.

    A seed that did not get there would have taken at least one epoch more than it had.
    """
    first = first_epochs(epochs)
    least = [
        min(len(seed) + 1, MOST_EPOCHS) if math.isinf(n) else n
        for seed, n in zip(epochs.values(), first, strict=True)
    ]
    median = statistics.median(least)
    return median, statistics.median(first) == median


def kind_of(machine):
    """Return a machine's name without its threads: they leave the ratio as it is."""
    return machine.split(" of ", 1)[-1]


def speed(name):
    """Return how many times as many images a second `fast` has as the usual loop."""
    with page_of(name).open(encoding="utf-8", newline="") as file:
        kinds = {kind_of(row["machine"]) for row in csv.DictReader(file)}
    page = RESULTS / "benchmarks.jsonl"
    lines = page.read_text("utf-8").splitlines() if page.is_file() else []
    entries = [json.loads(line) for line in lines]
    fitting = [e for e in entries if "fast_over_usual" in e and kinds == {kind_of(e["machine"])}]
    if not fitting:
        raise SystemExit(f"run `make bench` on {' and '.join(kinds)}, where the seeds were run")
    return fitting[-1]["fast_over_usual"][0]


def main():
    found = {name: next(filter(None, map(epochs_of, pages)), {}) for name, pages in PAGES.items()}
    if not found["fast"]:
        raise SystemExit("run `python -m experiments.seeds fast` first")
    ours, exact = least_median(found["fast"])
    if not exact:
        raise SystemExit(f"half of the seeds of fast have less than {TARGET:.0%}: no time to tell")
    figures = {}
    for name, epochs in found.items():
        if not epochs:
            continue
        first = first_epochs(epochs)
        reached = sum(map(math.isfinite, first))
        print(f"{name:9} at {TARGET:.0%} first in epoch", *first, f"({reached} of {len(first)})")
        median, exact = least_median(epochs)
        figures[f"target.{name}"] = f"{median:g}" if exact else f"at least {median:g}"
        figures[f"target.{name}.reached"] = f"{reached} of {len(first)}"
        if name != "fast":
            ratio = f"{'' if exact else 'at least '}{median / ours * speed('fast'):.1f}"
            figures[f"target.{name}.over_fast"] = ratio
            print(f"fast is there {ratio} times sooner than {name}")
    keep_figures(figures)


if __name__ == "__main__":
    main()
