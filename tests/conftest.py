"""Small, learnable data and a small network, so that a whole run takes a second."""

import numpy as np
import pytest
import torch
from torch import nn

from mnist_helpers.config import TrainConfig
from mnist_helpers.data.digits import DigitDataset
from mnist_helpers.data.download import write_sample
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.machine.hardware import seed_everything


@pytest.fixture(scope="session", autouse=True)
def _without_the_callers_settings():
    """Hide the caller's settings, such as CI's mirror, from the fixtures of a module too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MIRROR", "PROFILE", "BUILD_DIR", "RESUME", "HOME"):
            patch.delenv(f"MNIST_{name}", raising=False)
        yield


@pytest.fixture(autouse=True)
def _leave_no_trace(tmp_path, monkeypatch):
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def make_digits(count: int, seed: int = 0) -> DigitDataset:
    """Return "digits" whose class is the row of a bright bar: a linear layer learns them."""
    random = np.random.RandomState(seed)
    labels = np.arange(count) % 10
    images = random.randint(0, 60, size=(count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 3 : 2 * label + 5, 4:24] += 180
    return DigitDataset(torch.tensor(images.astype(np.uint8)), torch.tensor(labels))


def make_linear() -> nn.Module:
    seed_everything(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        epochs=3, batch_size=16, lr=0.001, device="cpu", precision="float32",
        checkpoint_dir=tmp_path / "checkpoints",
    )  # fmt: skip


@pytest.fixture
def sets():
    # 70 is not a multiple of 16: the last batch is smaller, which means of batch means get wrong.
    return make_digits(70), make_digits(30, seed=1)


@pytest.fixture
def loaders(sets, config):
    train_set, test_set = sets
    return make_loader(train_set, config, train=True), make_loader(test_set, config, train=False)


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("data") / "sample")
