"""Say in which range to expect an accuracy, from the seeds in `results/`.

Usage: python -m experiments.ranges

Reads `results/seeds_quick.csv` and `results/seeds_default.csv`, as `experiments.seeds`
writes them. Writes `results/ranges.json`, for the notebooks' cells, and the same in words
into `results/figures.json`, for their prose; also what `fast` reached, and what the seed
that was worst without clipped gradients (`fast --set clip_norm=0.0 --keep`) reached with
and without. A range is the mean of the last epoch's test accuracy plus and minus four
standard deviations, rounded outwards: an alarm for a broken run, not a prediction. The
deviation is itself an estimate, so a sound run falls outside more often than you would think:
with 5 seeds about once in 50 runs, with 10 about once in 250 (Student's t). What to expect is
the figure `expect`: the interval that holds another seed's run 19 times in 20, if seeds are
normally distributed.
"""

import json
import math
import statistics
from collections.abc import Collection, Sequence

from scipy.stats import t

from experiments.pages import FEWEST_SEEDS, RESULTS, epochs_of, keep_figures, last_of

DEVIATIONS = 4
STEPS = {"quick": 0.01, "default": 0.001}  # what each profile's range is rounded to


def range_of(accuracies: Sequence[float], step: float) -> tuple[float, float]:
    """Return the range to expect, as two fractions."""
    mean, margin = statistics.mean(accuracies), DEVIATIONS * statistics.stdev(accuracies)
    low = math.floor((mean - margin) / step) * step
    high = math.ceil((mean + margin) / step) * step
    return round(max(low, 0.0), 4), round(min(high, 1.0), 4)


def expected(accuracies: Sequence[float]) -> str:
    """Return the 95 % prediction interval for one more seed (Student's t), in words."""
    count, mean = len(accuracies), statistics.mean(accuracies)
    reach = t.ppf(0.975, count - 1) * statistics.stdev(accuracies) * math.sqrt(1 + 1 / count)
    return f"{mean - reach:.1%} to {min(mean + reach, 1):.1%}"


def from_to(accuracies: Collection[float]) -> str:
    return f"{min(accuracies):.2%} to {max(accuracies):.2%}"


def fast_figures() -> dict[str, str]:
    """Return what the prose says of `fast`: what its seeds reached, and no range."""
    fast, unclipped = last_of("fast"), last_of("fast-clip_norm=0.0")
    figures = {}
    if fast:
        figures["fast.seeds"] = str(len(fast))
        figures["fast.last"] = from_to(fast.values())
        figures["fast.mean"] = f"{statistics.mean(fast.values()):.2%}"
    if both := fast.keys() & unclipped.keys():
        worst = min(both, key=lambda seed: unclipped[seed])
        figures["fast.unclipped"], figures["fast.clipped"] = (
            f"{accuracies[worst]:.2%}" for accuracies in (unclipped, fast)
        )
        figures["fast.unclipped.seeds"] = str(len(both))
    return figures


def main() -> None:
    ranges, figures = {}, fast_figures()
    for name, step in STEPS.items():
        accuracies = list(last_of(name).values())
        if len(accuracies) < FEWEST_SEEDS:
            print(f"{name}: {len(accuracies)} seeds are too few, {FEWEST_SEEDS} are needed")
            continue
        low, high = range_of(accuracies, step)
        ranges[name] = {"last": [low, high], "seeds": len(accuracies)}
        digits = 0 if step == 0.01 else 1
        figures[f"range.{name}"] = f"{low * 100:.{digits}f} to {high * 100:.{digits}f} %"
        figures[f"expect.{name}"] = expected(accuracies)
        figures[f"seeds.{name}"] = str(len(accuracies))
    first = [epochs[0] for epochs in epochs_of("default").values()]
    if len(first) >= FEWEST_SEEDS:
        figures["default.first.seeds"] = from_to(first)
        figures["default.last.seeds"] = from_to(last_of("default").values())
    if gpu := last_of("full-batch_size=128"):  # a CPU takes 64
        figures |= {"gpu.last": from_to(gpu.values()), "gpu.seeds": str(len(gpu))}
    (RESULTS / "ranges.json").write_text(json.dumps(ranges, indent=1) + "\n", "utf-8")
    keep_figures(figures)


if __name__ == "__main__":
    main()
