import dataclasses
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mnist_helpers.config import TrainConfig, as_path
from mnist_helpers.errors import ConfigError
from mnist_helpers.machine.hardware import pick_device, seed_everything


def test_the_defaults_are_the_recipe():
    config = TrainConfig()
    assert (config.epochs, config.lr, config.momentum, config.seed) == (20, 0.01, 0.9, 1)
    assert config.batch_size is None and config.train_limit is None and config.test_limit is None
    assert config.validation == 0
    assert config.data_root == Path("data")
    assert config.checkpoint_dir == Path("model_checkpoints")


@pytest.mark.parametrize(("device", "size"), [("cpu", 64), ("cuda", 128), ("mps", 128)])
def test_the_batch_size_follows_the_device(device, size, monkeypatch):
    monkeypatch.setattr("mnist_helpers.machine.hardware.pick_device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert TrainConfig(device=device).resolved().batch_size == size
    assert TrainConfig(device=device, batch_size=7).resolved().batch_size == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("epochs", bad) for bad in (0, -1, 1.5, "3", None, True)],
        *[("batch_size", bad) for bad in (0, 2.0, "64")],
        *[("lr", bad) for bad in (0, -0.1, math.nan, math.inf, "0.1", None, True)],
        *[("momentum", bad) for bad in (1, -0.1, math.nan, "0.9")],
        *[("seed", bad) for bad in (-1, 2**32, 1.0, None)],
        *[("device", bad) for bad in ("tpu", "", 3, None, "cuda:x")],
        *[("data_root", bad) for bad in (None, 3, "")],
        *[("checkpoint_dir", bad) for bad in (3, "")],
        *[("train_limit", bad) for bad in (0, -5, 1.5)],
        *[("test_limit", bad) for bad in (0, "10")],
        *[("validation", bad) for bad in (-1, 0.5, "10", None, True)],
        *[("weight_decay", bad) for bad in (-1, math.nan, "0")],
        *[("start", bad) for bad in (0, 1.1, "1")],
        *[("clip_norm", bad) for bad in (-1, math.inf, "4")],
        *[("warmup", bad) for bad in (0, 1, -0.1, None)],
        *[("average", bad) for bad in (1, -0.1, math.inf)],
        *[("schedule", bad) for bad in ("cosine", None, 1)],
        *[("precision", bad) for bad in ("half", None, 32)],
        *[("memory_format", bad) for bad in ("nhwc", None)],
        *[(name, bad) for name in ("nesterov", "in_memory") for bad in (1, None, "yes")],
    ],
)
def test_a_wrong_value_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=field) as caught:
        TrainConfig(**{field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps"])
@pytest.mark.parametrize("changes", [{}, {"batch_size": 7, "precision": "float32"}])
def test_a_resolved_recipe_leaves_nothing_to_the_machine(device, changes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    if device != "auto":
        monkeypatch.setattr("mnist_helpers.machine.hardware.pick_device", torch.device)
    recipe = TrainConfig(device=device, **changes)
    resolved = recipe.resolved()
    assert resolved.recipe is recipe
    decided = {f.name: getattr(resolved, f.name) for f in dataclasses.fields(resolved)}
    del decided["recipe"]
    assert not {None, "auto"} & set(decided.values())
    assert isinstance(resolved.device, torch.device)
    assert {name: type(value) for name, value in decided.items() if name != "device"} == {
        "batch_size": int, "precision": str, "memory_format": str
    }  # fmt: skip
    # What a checkpoint keeps is what was decided, in types that any file can hold.
    saved = resolved.to_dict()
    assert saved == {**saved, **decided, "device": str(resolved.device)}
    assert set(saved) == {f.name for f in dataclasses.fields(TrainConfig)}
    assert "auto" not in saved.values()
    assert all(isinstance(value, str | int | float | None) for value in saved.values())


def test_right_values_are_taken_in_the_right_types():
    config = TrainConfig(lr=1, momentum=0, seed=2**32 - 1, data_root="here", checkpoint_dir=None)
    assert config.lr == 1.0 and isinstance(config.lr, float)
    assert config.data_root == Path("here") and config.checkpoint_dir is None


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 0.1


def test_differences_name_what_a_continued_run_may_not_change():
    saved = TrainConfig(device="cpu").resolved().to_dict()
    same = TrainConfig(device="cpu", epochs=99, data_root="x", checkpoint_dir="y", in_memory=False)
    resolved = same.resolved()
    assert resolved.differences(saved) == []
    elsewhere = dataclasses.replace(resolved, device=torch.device("cuda:1"))
    assert elsewhere.differences(saved | {"device": "cuda"}) == []
    other = dataclasses.replace(same, lr=0.5, batch_size=1).resolved()
    assert other.differences(saved) == ["batch_size: 64 then, 1 now", "lr: 0.01 then, 0.5 now"]


def test_the_recipes_are_there_by_name():
    assert TrainConfig.recipe("baseline") == TrainConfig()
    fast = TrainConfig.recipe("fast", seed=5)
    assert (fast.epochs, fast.schedule, fast.average, fast.seed) == (1, "one_cycle", 0.98, 5)
    with pytest.raises(ConfigError, match="recipe must be one of baseline, fast, got 'slow'"):
        TrainConfig.recipe("slow")


def test_nesterov_needs_a_momentum():
    with pytest.raises(ConfigError, match="nesterov needs a momentum above 0"):
        TrainConfig(nesterov=True, momentum=0)


def test_auto_takes_the_best_device_there_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device().type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda"


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (1, "cuda:1")])
def test_a_device_that_is_not_there_is_named(monkeypatch, count, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(ConfigError, match=f"'{name}' is not on this machine; use 'auto' or 'cpu'"):
        pick_device(name)


@pytest.mark.parametrize("name", ["tpu", "meta", "cpu:x", "", 0])
def test_only_devices_that_the_package_knows_are_picked(name):
    with pytest.raises(ConfigError, match="device"):
        pick_device(name)
    with pytest.raises(ConfigError, match="device"):
        TrainConfig(device=name)


def test_a_seed_decides_all_three_generators():
    draws = []
    for _ in range(2):
        seed_everything(5)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    seed_everything(6)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) != draws[0]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("~/mnist", Path.home() / "mnist"),
        (Path("~/mnist"), Path.home() / "mnist"),
        ("'my data'", Path("my data")),
        ('"~/my data"', Path.home() / "my data"),
        (Path("a/b").absolute().as_uri(), Path("a/b").absolute()),
        ("file:///a%20b", Path("/a b")),
        (" data ", Path("data")),
        ("./~", None),
        (Path(" a "), Path(" a ")),
        (b"data", Path("data")),
    ],
)
def test_words_of_users_become_the_path_they_mean(words, meant):
    meant = Path("~").absolute() if meant is None else meant  # where the test runs
    assert as_path(words) == meant
    assert isinstance(words, bytes) or TrainConfig(data_root=words).data_root == meant


def test_numpys_numbers_and_pytorchs_devices_are_settings_too():
    numpys = TrainConfig(
        seed=np.int64(1), epochs=np.uint8(3), lr=np.float16(0.25), device=torch.device("cpu")
    )
    assert numpys == TrainConfig(seed=1, epochs=3, lr=0.25, device="cpu")
    assert {type(v) for v in (numpys.seed, numpys.epochs, numpys.lr)} == {int, float}
    assert pick_device(torch.device("cpu")) == torch.device("cpu")
    seed_everything(np.int64(7))
    first = random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(7)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


@pytest.mark.parametrize("words", ["", "  ", "a\0b", 5, None, "''"])
def test_what_is_no_path_is_refused_by_name(words):
    with pytest.raises(ConfigError, match="is not a path"):
        as_path(words)


def test_a_path_that_was_read_once_stays_as_it_is():
    for words in ("./~/x", "~/x", "a", "file:///a"):
        assert as_path(as_path(words)) == as_path(words)
    with pytest.raises(ConfigError, match="on this machine has three slashes"):
        as_path("file://usb/mnist")
    with pytest.raises(ConfigError, match="an address is not a path") as caught:
        TrainConfig(data_root="https://me:secret@host/x")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="data_root: '  ' is not a path"):
        TrainConfig(data_root="  ")
