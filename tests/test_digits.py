import numpy as np
import pytest
import torch
from torchvision import datasets, transforms

from mnist_helpers.config import DataSource
from mnist_helpers.data.digits import (
    MEAN,
    STD,
    DigitDataset,
    load_mnist,
    normalise,
    stratified,
)
from mnist_helpers.data.idx import read_idx, write_idx
from mnist_helpers.errors import ConfigError, DataError, InputError
from tests.conftest import make_digits


@pytest.fixture(scope="module")
def sample(sample_root):
    """The sample, found under the root that holds it, without a mirror."""
    return load_mnist(sample_root.parent)


def test_the_sample_is_loaded_and_says_so(sample):
    train_set, test_set = sample
    assert (len(train_set), len(test_set)) == (4000, 1000)
    assert train_set.labels.bincount().tolist() == [400] * 10
    assert test_set.labels.bincount().tolist() == [100] * 10
    assert train_set.source == test_set.source == DataSource.SAMPLE
    seen = {image.numpy().tobytes() for image in train_set.images}
    assert not seen & {image.numpy().tobytes() for image in test_set.images}


def test_torchvision_finds_the_same_digits_and_the_same_normalised_values(sample, sample_root):
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    for ours, train in zip(sample, (True, False), strict=True):
        theirs = datasets.MNIST(sample_root, train=train, transform=steps)
        assert torch.equal(ours.images, theirs.data)
        assert torch.equal(ours.labels, theirs.targets)
        for index in range(0, len(ours), 97):
            (our_image, our_label), (their_image, their_label) = ours[index], theirs[index]
            assert torch.equal(our_image, their_image) and our_label == their_label


def test_normalising_takes_the_mean_away_and_divides():
    pixels = torch.tensor([0, 255], dtype=torch.uint8)
    expected = torch.tensor([-0.1307 / 0.3081, (1 - 0.1307) / 0.3081])
    assert torch.allclose(normalise(pixels), expected)


@pytest.mark.parametrize("limit", [1, 7, 10, 33, 400, 999, 1000])
def test_a_part_keeps_each_class_share_to_within_one(limit):
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    chosen = stratified(labels, limit, seed=1)
    assert len(chosen) == limit == len(set(chosen.tolist()))
    assert (np.diff(chosen) > 0).all()
    share = np.bincount(labels[chosen], minlength=3)
    assert (abs(share - limit * np.array([0.5, 0.3, 0.2])) <= 1).all()


def test_a_part_is_the_same_on_every_machine():
    labels = np.repeat([0, 1, 2], [5, 3, 2])
    assert stratified(labels, 4, seed=1).tolist() == FROZEN_PART


FROZEN_PART = [0, 1, 6, 9]


def test_a_part_depends_on_the_seed():
    labels = np.arange(1000) % 10
    assert stratified(labels, 50, 1).tolist() == stratified(labels, 50, 1).tolist()
    assert stratified(labels, 50, 1).tolist() != stratified(labels, 50, 2).tolist()


def test_limits_are_applied_to_each_set(sample_root):
    train_set, test_set = load_mnist(sample_root.parent, train_limit=100, test_limit=20, seed=3)
    assert train_set.labels.bincount().tolist() == [10] * 10
    assert test_set.labels.bincount().tolist() == [2] * 10
    assert train_set.source == DataSource.SAMPLE
    other, _ = load_mnist(sample_root.parent, train_limit=100, seed=4)
    assert not torch.equal(other.images, train_set.images)
    with pytest.raises(ConfigError, match="a limit of 5,000 images is more than the 4,000"):
        load_mnist(sample_root.parent, train_limit=5000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("train_limit", 0), ("test_limit", -5), ("train_limit", 1.5), ("test_limit", "all"),
     ("seed", -1), ("seed", None), ("seed", 2**32)],
)  # fmt: skip
def test_a_limit_or_seed_that_makes_no_sense_is_named(name, value, sample_root):
    with pytest.raises(ConfigError, match=f"{name} must be a whole number"):
        load_mnist(sample_root.parent, **{name: value})


def test_numpys_numbers_are_limits_and_seeds_as_well(sample_root):
    numbers = {"train_limit": np.int64(100), "test_limit": np.uint8(20), "seed": np.int64(3)}
    ours = load_mnist(sample_root.parent, train_limit=100, test_limit=20, seed=3)
    theirs = load_mnist(sample_root.parent, **numbers)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.images, other.images)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 28, 28), torch.zeros(2), "uint8 of shape"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.zeros(2), "uint8 of shape"),
        (torch.zeros(2, 5, 5, dtype=torch.uint8), torch.tensor([1, 2]), "uint8 of shape"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([1.7, 2.2]), "whole numbers"),
        (
            torch.zeros(2, 28, 28, dtype=torch.uint8),
            torch.tensor([1, 2, 3]),
            "2 images need as many labels",
        ),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([0, 10]), "0 to 9, got 0 to 10"),
        (torch.zeros(2, 28, 28, dtype=torch.uint8), torch.tensor([-1, 3]), "0 to 9, got -1 to 3"),
    ],
)
def test_wrong_tensors_are_named(images, labels, message):
    with pytest.raises(InputError, match=message):
        DigitDataset(images, labels)


def test_items_and_parts():
    digits = make_digits(20)
    image, label = digits[3]
    assert image.shape == (1, 28, 28) and label == 3 and isinstance(label, int)
    assert digits.part(None, seed=1) is digits
    assert digits.part(20, seed=1).labels.tolist() == digits.labels.tolist()


@pytest.mark.parametrize("shape", [(5,), (3, 28, 28), (2, 3, 4, 5)])
def test_idx_files_are_read_as_they_were_written(tmp_path, shape):
    array = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    write_idx(tmp_path / "file", array)
    assert np.array_equal(read_idx(tmp_path / "file"), array)


GOOD = b"\0\0\x08\x01\0\0\0\x02ab"


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0", GOOD[:-1], GOOD + b"c", b"\0\0\x09" + GOOD[3:], b"\x01" + GOOD[1:],
     b"\0\0\x08\x00", b"\0\0\x08\x03\0\0", b"<html>not here</html>"],
)  # fmt: skip
def test_what_is_no_idx_file_is_named(tmp_path, content):
    (tmp_path / "good").write_bytes(GOOD)
    assert read_idx(tmp_path / "good").tolist() == [97, 98]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match="file is not a whole IDX file"):
        read_idx(tmp_path / "file")


def test_a_missing_idx_file_is_named(tmp_path):
    with pytest.raises(DataError, match="gone cannot be read"):
        read_idx(tmp_path / "gone")
