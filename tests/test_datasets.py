"""Any map-style data set trains as our own does; what does not fit is refused by name."""

import dataclasses
import math
import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from mnist_helpers.config import DataSource
from mnist_helpers.data.digits import DigitDataset, hold_back, shown_labels, stratified
from mnist_helpers.data.loaders import EpochSampler, make_loader
from mnist_helpers.errors import CheckpointError, ConfigError, InputError
from mnist_helpers.machine.hardware import random_states, seed_everything
from mnist_helpers.model import MnistCNN
from mnist_helpers.training import fit as fit_module
from mnist_helpers.training.checkpoint import digest
from mnist_helpers.training.fit import fit
from tests.conftest import make_digits, make_linear
from tests.test_faults import everything_in, no_step


class Plain:
    """What Python itself calls a sequence, and nothing of torch."""

    def __init__(self, digits):
        self.pairs = list(digits)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


def part_of_more(digits):
    others = make_digits(5, seed=9)
    return Subset([*others, *digits], range(5, 5 + len(digits)))


KINDS = {
    "TensorDataset": lambda digits: TensorDataset(
        torch.stack([image for image, _ in digits]), digits.labels
    ),
    "list": list,
    "Subset": part_of_more,
    "Subset of ours": lambda digits: Subset(digits, range(len(digits))),
    "plain class": Plain,
    "torch's Dataset": lambda digits: type("Own", (Plain, Dataset), {})(digits),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("validation", [0, 20])
def test_any_map_style_data_set_gives_what_ours_gives_to_the_bit(sets, config, kind, validation):
    config = dataclasses.replace(config, checkpoint_dir=None, validation=validation)
    ours, theirs = make_linear(), make_linear()
    expected = fit(ours, *sets, config)
    history = fit(theirs, *map(KINDS[kind], sets), config)
    assert digest(theirs.state_dict()) == digest(ours.state_dict())
    for name in ("train_loss", "train_accuracy", "test_loss", "validation_accuracy"):
        assert history.column(name) == expected.column(name), name


@pytest.mark.slow
def test_our_network_learns_the_same_from_any_of_them(config):
    config = dataclasses.replace(config, epochs=1, batch_size=8, checkpoint_dir=None)
    weights = []
    for kind in (lambda digits: digits, KINDS["TensorDataset"]):
        seed_everything(1)
        model = MnistCNN()
        fit(model, kind(make_digits(20)), kind(make_digits(10, 1)), config)
        weights.append(digest(model.state_dict()))
    assert weights[0] == weights[1]


def test_whose_digits_they_are_is_said(sets, config, capsys):
    config = dataclasses.replace(config, epochs=1, checkpoint_dir=None)
    train_set, test_set = sets  # an accuracy is that of the test digits
    assert fit(make_linear(), train_set, list(test_set), config).source == DataSource.OTHER
    assert "All accuracies below are on your own data." in capsys.readouterr().out
    assert fit(make_linear(), list(train_set), test_set, config).source == "mnist"
    part = KINDS["Subset of ours"](test_set)
    assert fit(make_linear(), train_set, part, config).source == "mnist"


@pytest.mark.parametrize(
    ("name", "value"), [("source", "my camera"), ("labels", ["zero", "one", "two"])]
)
def test_a_data_set_may_use_our_names_for_something_else(sets, config, name, value):
    own = Plain(sets[1])
    setattr(own, name, value)
    history = fit(make_linear(), sets[0], own, dataclasses.replace(config, epochs=1))
    assert history.source == DataSource.OTHER


class Counting(DigitDataset):
    """One of ours that does more than ours when it is read, as augmentation would."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("validation", [0, 10])
def test_a_data_set_made_of_ours_is_read_its_own_way(sets, config, validation):
    own = Counting(sets[0].images, sets[0].labels)
    config = dataclasses.replace(config, epochs=1, validation=validation, checkpoint_dir=None)
    fit(make_linear(), own, sets[1], config)
    assert own.reads >= 70


def test_a_wrong_label_is_found_among_digits_held_back_too(sets, config):
    items = list(sets[0])
    items[60] = (items[60][0], 12)
    with pytest.raises(InputError, match="the training labels must be 0 to 9, got 0 to 12"):
        fit(make_linear(), items, sets[1], dataclasses.replace(config, validation=10))


def test_a_wrong_label_later_on_is_named_with_its_batch(sets, config):
    config = dataclasses.replace(config, checkpoint_dir=None)
    good, last = list(sets[0]), list(EpochSampler(70, config.seed))[-1]
    wrong = [(image, 12 if place == last else label) for place, (image, label) in enumerate(good)]
    with pytest.raises(InputError, match=r"batch 5: the training labels must be .*, got \d to 12"):
        fit(make_linear(), wrong, sets[1], config)
    with pytest.raises(InputError, match="batch 2: the test labels must be 0 to 9, got 0 to 12"):
        fit(make_linear(), good, good * 4 + wrong, config)  # in batches of 250


def test_digits_to_test_on_of_another_source_are_refused(sets, config):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    with pytest.raises(CheckpointError, match="test_source: 'mnist' then, 'other' now"):
        fit(make_linear(), sets[0], list(sets[1]), config, resume_from=config.checkpoint_dir)


class Unread(Plain):
    """A data set whose items are costly to read; it shows their labels."""

    def __getitem__(self, index):
        raise AssertionError("an item was read")


def unread(name, values):
    dataset = Unread(make_digits(40))
    setattr(dataset, name, values)
    return dataset


@pytest.mark.parametrize("name", ["labels", "targets"])
@pytest.mark.parametrize("keep", [torch.tensor, np.array, list])
def test_labels_that_are_shown_are_held_back_by_without_reading_an_item(name, keep):
    labels = [number % 10 for number in range(40)]
    dataset = unread(name, keep(labels))
    rest, held = hold_back(dataset, 10, seed=1)
    assert held.indices == stratified(np.array(labels), 10, 1).tolist() and len(rest) == 30
    assert sorted(shown_labels(held)) == list(range(10))
    dataset = unread(name, keep([*labels[:-1], 12]))
    with pytest.raises(InputError, match="the training labels must be 0 to 9, got 0 to 12"):
        hold_back(dataset, 10, seed=1)


@pytest.mark.parametrize(
    "odd", ["words", "too few", "one-hot", "fractions", "changed by a transform"]
)
def test_what_is_shown_but_is_no_label_of_an_item_is_not_believed(odd):
    dataset = Plain(make_digits(20))
    dataset.targets = {
        "words": ["a"] * 20, "too few": [3] * 19, "one-hot": np.eye(20, dtype=int),
        "fractions": [0.5] * 20, "changed by a transform": [3] * 20,
    }[odd]  # fmt: skip
    dataset.target_transform = len if odd == "changed by a transform" else None
    assert shown_labels(dataset) is None
    assert len(hold_back(dataset, 10, seed=1)[1]) == 10


@pytest.mark.parametrize("limit", [-5, 0, 1.5, "3", True, math.nan, np.int64(-1), None])
def test_a_part_of_no_sensible_size_is_refused(limit):
    digits = make_digits(20)
    with pytest.raises(ConfigError, match=r"a limit must be a whole number of at least 1, got "):
        stratified(digits.labels.numpy(), limit, 1)
    if limit is not None:
        with pytest.raises(ConfigError, match="a limit must be"):
            digits.part(limit, 1)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None])
def test_an_odd_seed_is_refused(seed):
    with pytest.raises(ConfigError, match="a seed must be a whole number of at least 0, got"):
        make_digits(20).part(10, seed)
    with pytest.raises(ConfigError, match="a seed must be"):
        iter(EpochSampler(20, seed))


def test_numpys_numbers_and_arrays_are_taken():
    digits = make_digits(20)
    expected = digits.part(10, 1).labels.tolist()
    assert digits.part(np.int64(10), np.int64(1)).labels.tolist() == expected
    own = DigitDataset(digits.images.numpy(), digits.labels.numpy().astype(np.uint8))
    assert own.part(10, 1).labels.tolist() == expected
    assert digits.labels[stratified(digits.labels, 10, 1)].tolist() == expected
    assert torch.equal(own.at([3, 4]).images, digits.images[3:5])
    with pytest.raises(InputError, match="images and labels must be tensors or arrays: "):
        DigitDataset(digits.images, None)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(make_digits(20))


class Endless(Dataset):
    def __getitem__(self, index):
        return torch.zeros(1, 28, 28), 3


class Broken(Plain):
    def __getitem__(self, index):
        raise OSError("the disk was pulled out")


@pytest.fixture
def older_run(sets, config, monkeypatch):
    """Return the files of a run that must stay where they are; no step may be taken."""
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    monkeypatch.setattr(fit_module, "train_one_epoch", no_step)
    return everything_in(config.checkpoint_dir)


def refused(sets, config, dataset, message):
    """See `fit` refuse a data set, for training or for testing, by an error of ours."""
    for pair in ((dataset, sets[1]), (sets[0], dataset)):
        with pytest.raises(InputError, match=message):
            fit(make_linear(), *pair, config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "a Stream is not a map-style data set: give the data set itself"),
        (Endless(), "a Endless is not a map-style data set"),
        (iter(make_digits(3)), "is not a map-style data set"),
        (Broken(make_digits(3)), r"can't be batched \(OSError: the disk was pulled out\)"),
        ({"train": 1, "test": 2}, r"can't be batched \(KeyError"),
    ],
)
def test_what_is_no_map_style_data_set_is_refused_and_an_older_run_stays(
    sets, config, older_run, dataset, message
):
    refused(sets, config, dataset, message)
    if len_of(dataset) is None:
        with pytest.raises(InputError, match=message):
            make_loader(dataset, config, train=False)
    assert everything_in(config.checkpoint_dir) == older_run


def len_of(dataset):
    try:
        return len(dataset)
    except TypeError:
        return None


IMAGE = torch.zeros(1, 28, 28)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dataset",
    [
        Broken(make_digits(30)),
        [{"image": IMAGE, "label": 3}] * 30,
        [(IMAGE, "three")] * 30,
        [(IMAGE, None)] * 30,
        [IMAGE] * 30,
    ],
    ids=["broken", "dictionaries", "words", "None", "no labels"],
)
def test_with_digits_held_back_they_are_refused_as_well(sets, config, older_run, dataset):
    with pytest.raises(InputError, match="the training set"):
        fit(make_linear(), dataset, sets[1], dataclasses.replace(config, validation=10))
    assert everything_in(config.checkpoint_dir) == older_run


class Augmented(Plain):
    """Draws from all three generators whenever a picture is read."""

    def __getitem__(self, index):
        image, label = self.pairs[index]
        shift = random.random() + np.random.rand() + torch.rand(1).item()
        return image + 0.01 * shift, label


@pytest.mark.parametrize("validation", [0, 10])
def test_the_look_at_the_data_leaves_every_random_generator_alone(
    sets, config, monkeypatch, validation
):
    model = make_linear()
    seed_everything(3)
    np.random.normal()  # leaves a second, stored number behind
    before, seen = digest(random_states()), []

    def look(*_, **__):
        seen.append(digest(random_states()))
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "train_one_epoch", look)
    pair = Augmented(sets[0]), Augmented(sets[1])
    fit(model, *pair, dataclasses.replace(config, validation=validation))
    assert seen == [before]


def test_augmented_pictures_come_back_the_same_after_a_resume(sets, config, tmp_path):
    def stop(record):
        if record.epoch == 1:
            raise KeyboardInterrupt

    pair = Augmented(sets[0]), sets[1]
    whole, parts = make_linear(), make_linear()
    seed_everything(3)
    fit(whole, *pair, config)
    seed_everything(3)
    config = dataclasses.replace(config, checkpoint_dir=tmp_path / "parts")
    fit(parts, *pair, config, on_epoch_end=stop)
    seed_everything(4)
    fit(parts, *pair, config, resume_from=config.checkpoint_dir)
    assert digest(parts.state_dict()) == digest(whole.state_dict())
    assert all(math.isfinite(w.sum().item()) for w in parts.parameters())
