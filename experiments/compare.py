"""Compare two ways to train, seed by seed, by their pages in `results/`.

Usage: python -m experiments.compare PAGE OTHER [--figure NAME]

PAGE and OTHER name `results/seeds_PAGE.csv`, as `fast` and `fast-precision=bfloat16` do.
Takes the seeds that both have, and the test accuracy after each one's last epoch. The same
seed gives both the same initial weights and the same order of images, so much of what is
chance drops out of their difference. Printed, and with --figure kept in
`results/figures.json`: the mean of OTHER minus PAGE, with its 95 % confidence interval
(Student's t, which assumes normally distributed differences; few seeds can't show whether
they are).
"""

import argparse
import statistics

from scipy.stats import ttest_rel

from experiments.pages import FEWEST_SEEDS, RIVALS, keep_figures, last_of


def difference(one: dict[int, float], other: dict[int, float]) -> tuple[float, float, int]:
    """Return the mean of `other - one` over common seeds, its 95 % margin and their count."""
    common = sorted(one.keys() & other.keys())
    if len(common) < FEWEST_SEEDS:
        raise SystemExit(
            f"{len(common)} common seeds are too few, {FEWEST_SEEDS} are needed; "
            "python -m experiments.seeds adds some"
        )
    ours, theirs = [one[seed] for seed in common], [other[seed] for seed in common]
    low, high = ttest_rel(theirs, ours).confidence_interval(0.95)
    return statistics.mean(theirs) - statistics.mean(ours), (high - low) / 2, len(common)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page")
    parser.add_argument("other")
    parser.add_argument("--figure", help="name in results/figures.json")
    options = parser.parse_args()
    if not RIVALS.keys().isdisjoint((options.page, options.other)):
        parser.error("a rival has other weights and another order with the same seed")
    mean, reach, count = difference(last_of(options.page), last_of(options.other))
    words = f"{mean * 100:+.2f} ± {reach * 100:.2f}"
    print(f"{options.other} minus {options.page}: {words} percentage points, {count} seeds")
    if options.figure:
        keep_figures({options.figure: words, f"{options.figure}.seeds": str(count)})


if __name__ == "__main__":
    main()
