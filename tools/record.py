"""Record in `results/` what the last runs of the notebooks reached and how long they took.

Usage: python tools/record.py quick|default|full MACHINE

Run it after `make run` or `make notebooks` in that profile, and name the machine as a
reader would ("two cores of an AMD EPYC of 2017"). It writes the history, the curves
(of the longest profile so far), and every figure that prose may quote.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from mnist_helpers.history import History
from mnist_helpers.machine.progress import in_words
from mnist_helpers.plots import save_history_plot
from mnist_helpers.training.folder import find_run
from mnist_helpers.tutorial.profiles import PROFILES, profile_config, project_folder

PROJECT = project_folder()
RESULTS = PROJECT / "results"


def figures_of(
    profile: str, run: Mapping[str, Any], seconds: Mapping[str, float]
) -> dict[str, str]:
    """Return the figures of one profile by name, as prose shows them."""
    history = History.from_records(run["history"])
    best = history.best or history[-1]
    figures = {f"time.{profile}.{name[:2]}": in_words(s) for name, s in seconds.items()}
    core = [seconds[name] for name in seconds if name[:2] in ("01", "02", "03", "04")]
    figures[f"time.{profile}.run"] = in_words(sum(core))  # what make run executes
    return figures | {
        f"{profile}.epochs": str(len(history)),
        f"{profile}.train_size": f"{run['data']['train_size']:,}",
        f"{profile}.first": f"{history[0].test_accuracy:.2%}",
        f"{profile}.last": f"{history[-1].test_accuracy:.2%}",
        f"{profile}.best": f"{best.test_accuracy:.2%} (epoch {best.epoch})",
    }


def main() -> int:
    profile, machine = sys.argv[1:]
    os.chdir(PROJECT)
    run = find_run(profile_config(profile))
    if run is None:
        print(f"There is no finished run of the {profile} profile on MNIST; run it first.")
        return 1
    RESULTS.mkdir(exist_ok=True)
    History.from_records(run["history"]).save(RESULTS / f"history_{profile}.csv")
    page = RESULTS / "figures.json"
    figures = json.loads(page.read_text("utf-8")) if page.is_file() else {}
    times = PROJECT / "build" / f"seconds_{profile}.json"
    figures |= figures_of(profile, run, json.loads(times.read_text("utf-8")))
    figures[f"machine.{profile}"] = machine
    page.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")
    longest = [p for p in PROFILES if (RESULTS / f"history_{p}.csv").is_file()][-1]
    save_history_plot(History.load(RESULTS / f"history_{longest}.csv"), RESULTS / "curves.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
