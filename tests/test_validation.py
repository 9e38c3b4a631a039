"""Digits held back from training: which they are, what they decide, what is refused."""

import dataclasses

import numpy as np
import pytest
from torch import nn

from mnist_helpers.config import TrainConfig
from mnist_helpers.data.digits import hold_back
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.errors import CheckpointError, ConfigError
from mnist_helpers.history import History
from mnist_helpers.training.checkpoint import digest, load_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.folder import find_run
from mnist_helpers.training.step import evaluate
from tests.conftest import make_digits, make_linear
from tests.test_training import measure, stop_after


def pictures(dataset):
    """Return what is on each picture, in order; no two of ours are alike."""
    return [dataset[i][0].numpy().tobytes() for i in range(len(dataset))]


def labels(dataset):
    return [dataset[i][1] for i in range(len(dataset))]


@pytest.mark.parametrize("count", [1, 7, 10, 33, 69])
def test_the_digits_held_back_are_a_stratified_part_and_none_is_lost(count):
    digits = make_digits(70)
    rest, held_back = hold_back(digits, count, seed=1)
    assert len(held_back) == count and len(rest) == 70 - count
    assert sorted(pictures(rest) + pictures(held_back)) == sorted(pictures(digits))
    shares = np.bincount(labels(held_back), minlength=10)
    assert (abs(shares - count / 10) <= 1).all()
    assert rest.source == held_back.source == digits.source


def test_the_seed_alone_decides_which_they_are():
    digits = make_digits(70)
    chosen = [pictures(hold_back(digits, 20, seed)[1]) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_of_any_data_set_the_same_digits_are_held_back():
    digits = make_digits(70)
    for ours, theirs in zip(hold_back(digits, 20, 1), hold_back(list(digits), 20, 1), strict=True):
        assert pictures(ours) == pictures(theirs) and labels(ours) == labels(theirs)


@pytest.fixture
def held(config):
    """The recipe with 20 of the 70 digits held back."""
    return dataclasses.replace(config, validation=20)


def test_it_trains_on_the_rest_and_measures_each_epoch_on_what_was_held_back(sets, held):
    train_set, test_set = sets
    rest, held_back = hold_back(train_set, 20, held.seed)
    expected, model, measured = make_linear(), make_linear(), []
    loader = make_loader(held_back, held, train=False)
    history = fit(
        model, *sets, held,
        on_epoch_end=lambda record: measured.append(evaluate(model, loader)),
    )  # fmt: skip
    assert [(r.validation_loss, r.validation_accuracy) for r in history] == measured
    without = dataclasses.replace(held, validation=0, checkpoint_dir=None)
    plain = fit(expected, rest, test_set, without)
    assert digest(model.state_dict()) == digest(expected.state_dict())
    assert [r.test_loss for r in history] == [r.test_loss for r in plain]
    assert all(r.validation_loss is None and r.validation_accuracy is None for r in plain)


TEST = [0.5, 0.25, 0.75, 0.75]
VALIDATION = [0.5, 0.75, 0.75, 0.25]


@pytest.mark.parametrize(
    ("count", "chosen_by", "best", "marked"),
    [(20, "validation", 2, [1, 2]), (0, "test", 3, [1, 3])],
)
def test_the_best_is_chosen_by_validation_digits_and_without_them_by_test_digits(
    sets, config, monkeypatch, capsys, count, chosen_by, best, marked
):
    measure(monkeypatch, test=TEST, validation=VALIDATION)
    config = dataclasses.replace(config, epochs=4, validation=count)
    saved = []
    path = config.checkpoint_dir / "best_mnist_model.pth"
    history = fit(
        make_linear(), *sets, config,
        on_epoch_end=lambda record: saved.append(load_checkpoint(path)["epoch"]),
    )  # fmt: skip
    assert saved == [max(epoch for epoch in marked if epoch <= now) for now in (1, 2, 3, 4)]
    assert (history.best.epoch, history.chosen_by) == (best, chosen_by)
    assert history.best.score == 0.75
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Epoch")]
    assert [number for number, line in enumerate(lines, 1) if line.endswith(" best")] == marked
    assert ("val 75.00%" in lines[1]) == bool(count) and "test 25.00%" in lines[1]
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize("name", ["h.csv", "h.json"])
def test_what_was_measured_on_them_is_written_and_read_to_the_last_bit(sets, held, tmp_path, name):
    history = fit(make_linear(), *sets, held)
    path = history.save(tmp_path / name)
    assert "validation_accuracy" in path.read_text()
    again = History.load(path)
    assert again == history and again.chosen_by == "validation"
    assert again.column("validation_loss") == history.column("validation_loss")
    assert None not in again.column("validation_accuracy")


def test_a_run_with_them_stopped_and_resumed_is_the_run_that_was_not(sets, held, tmp_path):
    whole, fresh = make_linear(), nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    expected = fit(whole, *sets, held)
    parts = dataclasses.replace(held, checkpoint_dir=tmp_path / "parts")
    fit(make_linear(), *sets, parts, on_epoch_end=stop_after(2))
    history = fit(fresh, *sets, parts, resume_from=parts.checkpoint_dir)
    assert digest(fresh.state_dict()) == digest(whole.state_dict())
    for name in ("validation_loss", "validation_accuracy", "test_loss"):
        assert history.column(name) == expected.column(name)


@pytest.mark.parametrize(("before", "now"), [(0, 20), (20, 0), (20, 10)])
def test_a_run_goes_on_with_the_same_digits_held_back_only(sets, config, before, now):
    config = dataclasses.replace(config, epochs=1, validation=before)
    config = dataclasses.replace(config, train_limit=70, test_limit=30)
    fit(make_linear(), *sets, config)
    other = dataclasses.replace(config, epochs=2, validation=now)
    with pytest.raises(CheckpointError, match=f"validation: {before} then, {now} now"):
        fit(make_linear(), *sets, other, resume_from=config.checkpoint_dir)
    assert find_run(config) is not None
    assert find_run(dataclasses.replace(config, validation=now)) is None


@pytest.mark.parametrize("count", [70, 71])
def test_more_than_there_are_cannot_be_held_back(sets, config, count):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    before = sorted(config.checkpoint_dir.iterdir())
    message = f"validation={count} leaves none of the 70 images to train on"
    for train_set in (sets[0], list(sets[0])):
        with pytest.raises(ConfigError, match=message):
            fit(make_linear(), train_set, sets[1], dataclasses.replace(config, validation=count))
    assert sorted(config.checkpoint_dir.iterdir()) == before
    history = fit(make_linear(), *sets, dataclasses.replace(config, validation=69, epochs=1))
    assert len(history) == 1


def test_by_default_none_is_held_back():
    assert TrainConfig().validation == 0
