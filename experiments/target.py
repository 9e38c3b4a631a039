"""How much sooner 99 % of the test digits are right, from the pages in `results/`.

Usage: python -m experiments.target

Reads the epochs that `experiments.seeds` kept for `fast` and for the usual loop, with
torch's and with He's initial weights, and what `make bench` last measured of an epoch's
time. Prints in which epoch each seed first got there and how many times as long the
usual loop's median seed takes as that of `fast`; writes it to `results/figures.json`.
Where nobody ran the usual loop with He's weights, `baseline` or `default` stands for it:
given the same batches, both learn the same to the bit (tests/test_training.py).
"""

import csv
import json
import math
import statistics
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"
TARGET = 0.99
MOST_EPOCHS = 20  # a seed that has run so many and never got there counts as having just done so
PAGES = {
    "fast": ("fast",),
    "usual_he": ("usual_he", "baseline", "default"),
    "usual": ("usual",),
}


def first_epochs(page):
    """Return the epoch in which each seed first reached the target.

    Infinite where a seed's epochs end before: all that is known then is that it takes more.
    """
    first, last = {}, {}
    with page.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            seed, epoch = int(row["seed"]), int(row["epoch"])
            last[seed] = epoch
            if float(row["test_accuracy"]) >= TARGET:
                first.setdefault(seed, epoch)
    never = {seed: MOST_EPOCHS if last[seed] >= MOST_EPOCHS else math.inf for seed in last}
    return [first.get(seed, never[seed]) for seed in sorted(last)]


def read_pages():
    """Return for each name the first epochs of its seeds, where a page has some."""
    found = {}
    for name, pages in PAGES.items():
        page = next((p for n in pages if (p := RESULTS / f"seeds_{n}.csv").is_file()), None)
        if page is not None:
            found[name] = first_epochs(page)
    return found


def main():
    with (RESULTS / "benchmarks.jsonl").open(encoding="utf-8") as file:
        bench = json.loads(file.readlines()[-1])
    found, times_as_fast = read_pages(), bench["fast_over_usual"][0]
    figures = {}
    for name, epochs in found.items():
        print(f"{name:9} first at {TARGET:.0%} in epoch {', '.join(map(str, epochs))}")
        figures[f"target.{name}"] = f"{statistics.median(epochs):g}"
        figures[f"target.{name}.seeds"] = str(len(epochs))
    for name in found.keys() - {"fast"}:
        ratio = statistics.median(found[name]) / statistics.median(found["fast"])
        figures[f"target.{name}.over_fast"] = f"{ratio * times_as_fast:.1f}"
        print(f"fast is there {ratio * times_as_fast:.1f} times sooner than {name}", end=" ")
        print(f"({times_as_fast} times an epoch's speed, {bench['machine']})")
    page = RESULTS / "figures.json"
    known = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    page.write_text(json.dumps(known | figures, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
