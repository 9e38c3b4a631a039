"""How much sooner `fast` gets 99 % of the test digits right, from the pages in `results/`.

Usage: python -m experiments.target

Reads the epochs that `experiments.seeds` kept for `fast`, in float32 and (by `fast
--set precision=bfloat16 --keep`) in bfloat16, and for the usual loop, with PyTorch's and
with He's initial weights, and how long an epoch took when `make bench` last ran on such a
machine. Prints in which epoch each seed first got there, and how many times as long the
usual loop's median seed takes as that of `fast`; if that seed never got there, at least how
many. Writes it to `results/figures.json`. If the usual loop was never run with He's weights,
`baseline` or `default` stands in for it: the same recipe, with other random weights and
another order.
"""

import csv
import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence

from experiments.pages import MOST_EPOCHS, RESULTS, TARGET, epochs_of, keep_figures, page_of

Epochs = Mapping[int, Sequence[float]]  # the test accuracy after each epoch, by seed

FAST = {  # a name, its page, and the precision of its benchmark
    "fast": ("fast", "float32"),
    "fast.bfloat16": ("fast-precision=bfloat16", "bfloat16"),
}
USUAL = {"usual_he": ("usual_he", "baseline", "default"), "usual": ("usual",)}


def first_epochs(epochs: Epochs) -> list[float]:
    """Return the epoch in which each seed first reached the target; infinite if it never did."""
    return [
        next((n for n, accuracy in enumerate(seed, 1) if accuracy >= TARGET), math.inf)
        for seed in epochs.values()
    ]


def least_median(epochs: Epochs) -> tuple[float, bool]:
    """Return a lower bound for the median of the first epochs, and whether it is the median.

    A seed that didn't get there would have taken at least one epoch more than it had.
    """
    first = first_epochs(epochs)
    least = [
        min(len(seed) + 1, MOST_EPOCHS) if math.isinf(n) else n
        for seed, n in zip(epochs.values(), first, strict=True)
    ]
    median = statistics.median(least)
    return median, statistics.median(first) == median


def kind_of(machine: str) -> str:
    """Return a machine's name without its threads: we assume they don't change the ratio."""
    return machine.split(" of ", 1)[-1]


def speed(name: str, precision: str) -> float:
    """Return how many times as many images a second `fast` trains on as the usual loop."""
    with page_of(name).open(encoding="utf-8", newline="") as file:
        kinds = {(kind_of(row["machine"]), precision) for row in csv.DictReader(file)}
    page = RESULTS / "benchmarks.jsonl"
    lines = page.read_text("utf-8").splitlines() if page.is_file() else []
    entries = [json.loads(line) for line in lines]
    fitting = [
        entry
        for entry in entries
        if "fast_over_usual" in entry and kinds == {(kind_of(entry["machine"]), entry["precision"])}
    ]
    if not fitting:
        where = " and ".join(f"{kind} in {name}" for kind, name in sorted(kinds))
        raise SystemExit(f"run `make bench` on {where}, where the seeds were run")
    return float(fitting[-1]["fast_over_usual"][0])


def tell(name: str, epochs: Epochs) -> dict[str, str]:
    """Print in which epoch each seed got there; return the figures that the prose quotes."""
    first = first_epochs(epochs)
    reached = f"{sum(map(math.isfinite, first))} of {len(first)}"
    print(f"{name:13} at {TARGET:.0%} first in epoch", *first, f"({reached})")
    median, exact = least_median(epochs)
    words = f"{'' if exact else 'at least '}{median:g}"
    return {f"target.{name}": words, f"target.{name}.reached": reached}


def main() -> None:
    fast = {name: epochs_of(page) for name, (page, _) in FAST.items()}
    usual = {name: next(filter(None, map(epochs_of, pages)), {}) for name, pages in USUAL.items()}
    if not fast["fast"]:
        raise SystemExit("run `python -m experiments.seeds fast` first")
    figures: dict[str, str] = {}
    for name, epochs in (fast | usual).items():
        figures |= tell(name, epochs) if epochs else {}
    for ours, theirs in itertools.product(filter(fast.get, fast), filter(usual.get, usual)):
        least, arrived = least_median(fast[ours])
        if not arrived:
            raise SystemExit(
                f"half of the seeds of {ours} stay below {TARGET:.0%}: there is nothing to compare"
            )
        median, exact = least_median(usual[theirs])
        ratio = f"{'' if exact else 'at least '}{median / least * speed(*FAST[ours]):.2g}"
        figures[f"target.{theirs}.over_{ours}"] = ratio
        print(f"{theirs} takes {ratio} times as long as {ours}")
    keep_figures(figures)


if __name__ == "__main__":
    main()
