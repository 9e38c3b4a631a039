"""Measure how much choosing the best epoch by the test digits flatters.

Usage: python -m experiments.flattery [--run model_checkpoints] [--data-root data]

Every epoch's checkpoint of a finished run answers all test digits. Then, many times: split
the digits into two halves at random, choose the epoch that is best on one half, and compare
its accuracy there with its accuracy on the other half, which had no say. The means go into
`results/figures.json`, for the prose of notebook 4.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch

from experiments.pages import keep_figures
from mnist_helpers import (
    DigitDataset,
    MnistCNN,
    TrainConfig,
    load_checkpoint,
    load_mnist,
    make_loader,
    profile_config,
)
from mnist_helpers.training.folder import epoch_checkpoints, find_run

SPLITS = 2000


def flattery(right: np.ndarray, splits: int = SPLITS, seed: int = 1) -> tuple[float, float]:
    """Return the chosen epoch's mean accuracy on the half that chose it, and on the other.

    `right` says for each epoch (row) and digit (column) whether the answer was right.
    """
    numbers, count = np.random.RandomState(seed), right.shape[1]
    chosen, other = [], []
    for _ in range(splits):
        order = numbers.permutation(count)
        halves = [right[:, part].mean(axis=1) for part in np.array_split(order, 2)]
        best = halves[0].argmax()  # the first of equals, as a run keeps it
        chosen.append(halves[0][best])
        other.append(halves[1][best])
    return float(np.mean(chosen)), float(np.mean(other))


@torch.no_grad()
def answers(folder: Path, test_set: DigitDataset) -> np.ndarray:
    """Return for each epoch of the run in `folder` which digits it gets right."""
    loader = make_loader(test_set, TrainConfig(device="cpu"), train=False)
    rows, run = [], find_run(dataclasses.replace(profile_config("full"), checkpoint_dir=folder))
    if run is None:
        raise SystemExit(f"{folder} holds no finished run of the whole recipe; name one with --run")
    for path in epoch_checkpoints(folder):
        model, checkpoint = MnistCNN(), load_checkpoint(path)
        if checkpoint.get("run_id") != run["run_id"]:
            raise SystemExit(f"{path} is of another run than the last checkpoint; remove it")
        model.load_state_dict(checkpoint["model_state_dict"])
        model.eval()
        right = [model(images).argmax(dim=1) == labels for images, labels in loader]
        rows.append(torch.cat(right).numpy())
        print(f"{path.name}: {rows[-1].mean():.2%}", flush=True)
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("model_checkpoints"))
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    _, test_set = load_mnist(options.data_root, allow_sample=False)
    chosen, other = flattery(answers(options.run, test_set))
    keep_figures({"flattery.chosen": f"{chosen:.2%}", "flattery.other": f"{other:.2%}"})
    print(f"on the half that chose: {chosen:.2%}; on the other: {other:.2%}")


if __name__ == "__main__":
    main()
