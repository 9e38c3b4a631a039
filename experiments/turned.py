"""Measure what training on turned digits does, for the solution in notebook 04.

Usage: python -m experiments.turned [--data-root data]

It runs the exercise as the notebook does in its default profile: one network learns from 1,000
upright digits, the other from the same digits, each turned by up to 40 degrees either way. Both
are asked about 500 test digits, upright and turned. One seed; the accuracies go into
`results/figures.json`.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from experiments.pages import keep_figures
from mnist_helpers import DigitDataset, MnistCNN, fit, load_mnist, profile_config, seed_everything

DEGREES, SEED = 40, 1


def turn(images: torch.Tensor, degrees: np.ndarray) -> torch.Tensor:
    """Turn each image clockwise by its own number of degrees; what comes in is empty."""
    smooth = InterpolationMode.BILINEAR
    pairs = zip(images, degrees, strict=True)
    return torch.cat([rotate(image[None], -float(angle), smooth) for image, angle in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    options = parser.parse_args()
    limit = profile_config("default").train_limit
    train_set, test_set = load_mnist(
        options.data_root, allow_sample=False, train_limit=limit, seed=SEED
    )
    few, part = train_set.part(1_000, seed=SEED), test_set.part(500, seed=SEED)
    recipe = dataclasses.replace(
        profile_config("quick"), epochs=4, checkpoint_dir=None, device="cpu", precision="float32"
    )
    angles = np.random.RandomState(SEED).uniform(-DEGREES, DEGREES, len(few))
    figures = {}
    for name, images in (("upright", few.images), ("turned", turn(few.images, angles))):
        seed_everything(SEED)
        model = MnistCNN()
        history = fit(model, DigitDataset(images, few.labels), part, recipe)
        figures[f"turned.{name}.training"] = f"{history[-1].train_accuracy:.1%}"
        for angle in (0, DEGREES):
            turned = turn(part.images, np.full(len(part), angle))
            asked = DigitDataset(turned, part.labels)
            with torch.no_grad():
                scores = model(torch.stack([asked[i][0] for i in range(len(asked))]))
            right = (scores.argmax(dim=1) == part.labels).float().mean().item()
            figures[f"turned.{name}.{angle}"] = f"{right:.1%}"
    keep_figures(figures)
    print(figures)


if __name__ == "__main__":
    main()
