"""Train the published weights, `model_checkpoints/pretrained_mnist_cnn.pth`.

Usage: python -m experiments.pretrain [--epochs 5] [--seed 1] [--data-root data]

The network learns from MNIST's training digits but for 5,000, which are for validation. No digit
is seen twice alike: each is turned, stretched, slanted, bent, made thicker or thinner, blurred or
made of coarser pixels; ones get flags and feet, zeros slashes and sevens bars, as in half of
Europe. One picture in nine shows no digit (a blank sheet with noise, a letter, a scribble, two
digits, a shuffled one), and of those it learns to give all ten classes the same probability.

Optimizer and schedule are those of the recipe `fast`, over more epochs. MNIST's test digits are
asked once, at the end. Accuracies go into `results/pretrained.json`, with the file's SHA-256.
"""

import argparse
import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from experiments.machine import machine
from experiments.pages import RESULTS, add_to_json, keep_figures
from mnist_helpers import DigitDataset, MnistCNN, TrainConfig, evaluate, load_mnist
from mnist_helpers.data.digits import normalise, stratified
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.ink import to_mnist
from mnist_helpers.machine.hardware import seed_everything
from mnist_helpers.training.optimizer import Optimization

WEIGHTS = Path(__file__).resolve().parent.parent / "model_checkpoints" / "pretrained_mnist_cnn.pth"
VALIDATION = 5_000
NO_DIGITS = 6_000  # kept ready; each is seen some times, and never twice alike
SHARE = 4 / 36  # of each batch: pictures without a digit
LETTERS = "AEFHKMNPRUVWXYadefhkmnprtuvwxy"  # not those that look like digits
ROWS, COLUMNS = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")


def between(low: float, high: float, count: int) -> Tensor:
    return low + (high - low) * torch.rand(count)


def some(count: int, share: float) -> Tensor:
    return torch.rand(count) < share


def stroke(start: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """Draw a straight line in each of N pictures; both ends are (N, 2), row and column."""
    points = torch.stack([ROWS, COLUMNS], dim=-1)  # (28, 28, 2)
    line = (end - start)[:, None, None]  # (N, 1, 1, 2)
    from_start = points - start[:, None, None]  # (N, 28, 28, 2)
    along = (from_start * line).sum(-1) / (line**2).sum(-1).clamp(min=1e-3)
    distance = (from_start - along.clamp(0, 1)[..., None] * line).norm(dim=-1)
    return (width[:, None, None] / 2 + 0.5 - distance).clamp(0, 1)


def with_habits(images: Tensor, labels: Tensor) -> Tensor:
    """Give some ones flags and feet, some zeros slashes, some sevens bars; levels from 0 to 1."""
    images = images.clone()
    for digit, share in ((1, 0.5), (0, 0.25), (7, 0.35)):
        chosen = (labels == digit) & some(len(labels), share)
        if count := int(chosen.sum()):
            few = images[chosen]
            for add in {1: (flag, foot), 0: (slash,), 7: (bar,)}[digit]:
                few = torch.maximum(few, add(few, between(1.2, 3.0, count)))
            images[chosen] = few
    return images


def extent(images: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the first and last row (or column) with ink."""
    marked = (images > 0.3).any(dim=axis).float()  # (N, 28)
    return marked.argmax(1).float(), 27 - marked.flip(1).argmax(1).float()


def middle(images: Tensor, row: Tensor) -> Tensor:
    """Return the mean column of the ink in one row of each picture."""
    ink = images[torch.arange(len(images)), row.long()] + 1e-6
    return (ink * torch.arange(28.0)).sum(1) / ink.sum(1)


def flag(images: Tensor, width: Tensor) -> Tensor:
    top, _ = extent(images, 2)
    start = torch.stack([top + 1, middle(images, top + 1)], 1)
    length, angle = between(3, 12, len(images)), between(0.35, 1.1, len(images))
    return stroke(
        start, start + torch.stack([length * angle.sin(), -length * angle.cos()], 1), width
    )


def foot(images: Tensor, width: Tensor) -> Tensor:
    _, bottom = extent(images, 2)
    column, half = middle(images, bottom - 1), between(2, 6, len(images))
    line = stroke(torch.stack([bottom - 0.5, column - half], 1),
                  torch.stack([bottom - 0.5, column + half], 1), width)  # fmt: skip
    return line * some(len(images), 0.4)[:, None, None]


def slash(images: Tensor, width: Tensor) -> Tensor:
    (top, bottom), (left, right) = extent(images, 2), extent(images, 1)
    inset = between(-0.1, 0.35, len(images))
    dy, dx = inset * (bottom - top), inset * (right - left)
    return stroke(torch.stack([bottom - dy, left + dx], 1),
                  torch.stack([top + dy, right - dx], 1), width * 0.8)  # fmt: skip


def bar(images: Tensor, width: Tensor) -> Tensor:
    top, bottom = extent(images, 2)
    row = top + (bottom - top) * between(0.4, 0.62, len(images))
    column, half = middle(images, row), between(2.5, 6, len(images))
    tilt = between(-1.5, 1.5, len(images))
    return stroke(torch.stack([row + tilt, column - half], 1),
                  torch.stack([row - tilt, column + half], 1), width)  # fmt: skip


def bent(images: Tensor) -> Tensor:
    """Turn, stretch, slant, move and bend each picture in its own way."""
    n = len(images)
    angle, slant = between(-0.26, 0.26, n), between(-0.3, 0.3, n)
    tall, wide = between(0.85, 1.15, n), between(0.75, 1.25, n)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).view(n, 2, 2)
    shape = torch.stack([1 / wide, slant, torch.zeros(n), 1 / tall], 1).view(n, 2, 2)
    move = between(-0.13, 0.13, 2 * n).view(n, 2, 1)  # of half the picture: 1.8 pixels
    grid = functional.affine_grid(
        torch.cat([turn @ shape, move], 2), [n, 1, 28, 28], align_corners=False
    )
    waves = torch.randn(n, 2, 5, 5) * between(0, 0.05, n).view(n, 1, 1, 1)
    grid += functional.interpolate(waves, 28, mode="bicubic", align_corners=True).permute(
        0, 2, 3, 1
    )
    return functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def penned(images: Tensor) -> Tensor:
    """Make strokes thicker or thinner, blur some, and take some to coarser pixels and back."""
    n = len(images)
    thick = functional.max_pool2d(images[:, None], 3, 1, 1)[:, 0]
    thin = -functional.max_pool2d(-images[:, None], 3, 1, 1)[:, 0]
    weight = (between(0, 1, n) * some(n, 0.6))[:, None, None]
    ink = images.mean((1, 2), keepdim=True)  # a thin stroke made thinner would vanish
    images = torch.where(ink > between(0.08, 0.19, n)[:, None, None],
                         images.lerp(thin, 0.7 * weight), images.lerp(thick, weight))  # fmt: skip
    chosen = some(n, 0.12)
    if count := int(chosen.sum()):
        side = int(torch.randint(8, 15, ()))
        small = functional.interpolate(images[chosen][:, None], side, mode="area")
        images[chosen] = (
            functional.interpolate(small, 28, mode="bicubic").view(count, 28, 28).clamp(0, 1)
        )
    images = images / images.amax((1, 2), keepdim=True).clamp(min=0.2)
    crisp = ((images - 0.5) * between(1, 4, n)[:, None, None] + 0.5).clamp(0, 1)
    return torch.where(some(n, 0.3)[:, None, None], crisp, images)


def drawing(draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    image = Image.new("L", (120, 120))
    draw(ImageDraw.Draw(image))
    ink = np.asarray(image, dtype=float)
    return to_mnist(ink) if ink.any() else np.zeros((28, 28), np.uint8)


def make_no_digits(images: Tensor, count: int, seed: int) -> Tensor:
    """Return pictures (count, 28, 28) uint8, in MNIST's form, that show anything but one digit."""
    rng = np.random.RandomState(seed)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(path, 90) for path in sorted(folder.glob("DejaVuS*.ttf"))
             if "Display" not in path.name]  # fmt: skip

    def letter() -> np.ndarray:
        text, font = LETTERS[rng.randint(len(LETTERS))], fonts[rng.randint(len(fonts))]
        return drawing(lambda pen: pen.text((60, 60), text, fill=255, font=font, anchor="mm"))

    def scribble() -> np.ndarray:
        ends = rng.uniform(8, 112, (rng.randint(6, 14), 2))
        path, width = [(float(x), float(y)) for x, y in ends], int(rng.randint(2, 11))
        return drawing(lambda pen: pen.line(path, fill=255, width=width, joint="curve"))

    def shapes() -> np.ndarray:
        def marks(pen: ImageDraw.ImageDraw) -> None:
            for _ in range(rng.randint(1, 5)):
                x, y, w, h = rng.uniform(5, 70), rng.uniform(5, 70), *rng.uniform(12, 60, 2)
                form = pen.rectangle if rng.randint(2) else pen.ellipse
                form([x, y, x + w, y + h], fill=255)

        return drawing(marks)

    def several() -> np.ndarray:
        chosen = images[torch.from_numpy(rng.randint(len(images), size=rng.randint(2, 4)))]
        return to_mnist(torch.cat([*chosen[:, :, 3:25]], dim=1).numpy().astype(float))

    def shuffled() -> np.ndarray:
        squares = (
            images[rng.randint(len(images))].view(4, 7, 4, 7).transpose(1, 2).reshape(16, 7, 7)
        )
        order = torch.from_numpy(rng.permutation(16))
        return squares[order].view(4, 4, 7, 7).transpose(1, 2).reshape(28, 28).numpy()

    def noise() -> np.ndarray:
        small = Image.fromarray(rng.uniform(0, 1, (rng.randint(3, 29),) * 2).astype(np.float32))
        levels = np.asarray(small.resize((28, 28), Image.Resampling.BICUBIC))
        levels = np.clip(levels - rng.uniform(0, 0.9), 0, 1) * rng.choice([30, 120, 400])
        return np.clip(levels, 0, 255).astype(np.uint8)

    makers = letter, letter, scribble, several, shapes, shuffled, noise
    made = np.stack([makers[i % len(makers)]() for i in range(count)])
    made[:: 5 * len(makers)] = 0  # and blank sheets
    return torch.from_numpy(made)


def train(model: nn.Module, train_set: DigitDataset, config: TrainConfig,
          after_epoch: Callable[[nn.Module, int], None]) -> nn.Module:  # fmt: skip
    """Train on digits and on pictures of none; return the averaged network."""
    others = make_no_digits(train_set.images, NO_DIGITS, config.seed)
    digits_each = config.resolved().batch_size - (others_each := round(SHARE * 36))
    steps = len(train_set) // digits_each
    optimization = Optimization(model, config.resolved(), steps)
    for epoch in range(1, config.epochs + 1):
        order, total = torch.randperm(len(train_set)), 0.0
        bar = tqdm(range(steps), desc=f"Epoch {epoch}/{config.epochs}", mininterval=30)
        for step in bar:
            chosen = order[step * digits_each : (step + 1) * digits_each]
            labels = train_set.labels[chosen]
            digits = with_habits(train_set.images[chosen] / 255, labels)
            blanks = others[torch.randint(len(others), (others_each,))] / 255
            images = penned(bent(torch.cat([digits, blanks]))).mul(255).round()
            targets = torch.full((len(images), 10), 0.1)
            targets[:digits_each] = functional.one_hot(labels, 10).float()
            loss = functional.cross_entropy(model(normalise(images)[:, None]), targets)
            optimization.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimization.optimizer.step()
            optimization.after_step()
            total += loss.item()
            bar.set_postfix(loss=f"{total / (step + 1):.3f}", refresh=False)
        after_epoch(optimization.tested, epoch)
    return optimization.tested


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="train on fewer digits, to try something")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--target", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    config = dataclasses.replace(
        TrainConfig.recipe("fast"), epochs=options.epochs, seed=options.seed, batch_size=36,
        average=0.998, precision="float32", warmup=0.15,
    )  # fmt: skip
    whole, test_set = load_mnist(options.data_root, allow_sample=False)
    held_back = stratified(whole.labels.numpy(), VALIDATION, seed=options.seed)
    rest = np.setdiff1d(np.arange(len(whole)), held_back)
    train_set, validation = whole.at(rest).part(options.limit, options.seed), whole.at(held_back)
    seed_everything(options.seed)
    model = MnistCNN()

    def keep(network: nn.Module, epoch: int) -> None:
        loader = make_loader(validation, config.resolved(), train=False)
        accuracy = evaluate(network, loader).accuracy
        tqdm.write(f"after epoch {epoch}: {accuracy:.2%} of {len(validation):,} validation digits")
        torch.save(network.state_dict(), file := io.BytesIO())
        options.target.write_bytes(file.getbuffer())
        if epoch == config.epochs and options.target == WEIGHTS:
            tested = evaluate(network, make_loader(test_set, config.resolved(), train=False))
            add_to_json(RESULTS / "pretrained.json", {
                "sha256": hashlib.sha256(options.target.read_bytes()).hexdigest(),
                "epochs": str(epoch), "machine": machine(torch.device("cpu")),
                "validation": f"{accuracy:.2%}", "test": f"{tested.accuracy:.2%}",
            })  # fmt: skip
            figures = {"test": f"{tested.accuracy:.2%}", "validation": f"{accuracy:.2%}"}
            keep_figures({f"pretrained.{name}": figure for name, figure in figures.items()})
            tqdm.write(
                f"MNIST's test digits: {tested.accuracy:.2%}, error {1 - tested.accuracy:.2%}"
            )

    train(model, train_set, config, keep)


if __name__ == "__main__":
    main()
