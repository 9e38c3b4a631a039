import errno
import math
import os
import pickle
import random
import struct
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mnist_helpers.data import idx
from mnist_helpers.data.idx import digest
from mnist_helpers.errors import CheckpointError, ConfigError, DamagedError
from mnist_helpers.machine.hardware import random_states, restore_random_states
from mnist_helpers.training.checkpoint import load_checkpoint, save_checkpoint
from mnist_helpers.training.folder import epoch_checkpoints, move_to_previous
from mnist_helpers.training.weights import take_weights
from tests.conftest import make_linear


def example(epoch=1):
    return {
        "epoch": epoch,
        "model_state_dict": {"weight": torch.arange(300.0).reshape(3, 100)},
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "lr": 0.1},
        "train_accuracy": 0.5,
        "test_accuracy": 0.25,
    }


def test_what_is_saved_is_loaded(tmp_path):
    path = save_checkpoint(tmp_path / "new" / "c.pth", example())
    assert digest(load_checkpoint(path)) == digest(example())
    assert [p.name for p in path.parent.iterdir()] == ["c.pth"]  # no temporary file is left


def test_it_is_a_plain_checkpoint_for_others(tmp_path):
    loaded = torch.load(save_checkpoint(tmp_path / "c.pth", example()), weights_only=True)
    assert {*example(), "digest"} == set(loaded)


@pytest.mark.parametrize("key", sorted(example()))
def test_a_key_that_is_missing_is_named(tmp_path, key):
    whole = example()
    del whole[key]
    with pytest.raises(CheckpointError, match=f"a checkpoint needs {key}"):
        save_checkpoint(tmp_path / "c.pth", whole)


def test_one_flipped_bit_in_the_weights_is_found(tmp_path):
    path = save_checkpoint(tmp_path / "c.pth", example())
    content = bytearray(path.read_bytes())
    where = content.find(np.arange(300, dtype="<f4").tobytes()) + 1000
    content[where] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # torch itself does not notice
    with pytest.raises(CheckpointError, match=r"c\.pth is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04 half a zip", bytes(2000)])
def test_what_was_read_and_is_not_whole_is_damaged(tmp_path, content):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(DamagedError, match=r"c\.pth is damaged"):
        load_checkpoint(tmp_path / "c.pth")


def legacy(path):
    torch.save(example(), path, _use_new_zipfile_serialization=False)


def as_torchscript(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


OTHER_KINDS = {
    "a Git LFS pointer": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "a safetensors file": lambda p: p.write_bytes(struct.pack("<Q", 30) + b'{"weight":{}}'),
    "a picture": lambda p: Image.new("L", (9, 9)).save(p, "PNG"),
    "is a folder": lambda p: p.mkdir(),
    "is not a regular file": lambda p: os.mkfifo(p),
    "not a checkpoint of mnist_helpers: it lacks digest": legacy,
    "it lacks epoch": lambda p: torch.save(make_linear().state_dict(), p),
    "a whole model; it was not executed": lambda p: torch.save(make_linear(), p),
    "is a TorchScript file": as_torchscript,
}


@pytest.mark.parametrize("words", OTHER_KINDS)
def test_a_file_of_another_kind_is_named_as_what_it_is(tmp_path, words):
    OTHER_KINDS[words](tmp_path / "c.pth")
    for read in (load_checkpoint, lambda path: take_weights(make_linear(), path)):
        if read is load_checkpoint or "lacks" not in words:
            with pytest.raises(CheckpointError, match=words) as caught:
                read(tmp_path / "c.pth")
            told = "".join(traceback.format_exception(caught.value))
            assert "weights_only=False" not in told and "weights_only`" not in told


@pytest.fixture
def unreadable(tmp_path, monkeypatch):
    """Return a function that makes reading one file fail, as a drive or a system may."""
    path, real = save_checkpoint(tmp_path / "c.pth", example()), Path.open

    def fail_with(error):
        def open_(self, *mode, **how):
            if self == path:
                raise error
            return real(self, *mode, **how)

        monkeypatch.setattr(Path, "open", open_)
        return path

    return fail_with


CAUSES = {
    "Permission denied": PermissionError(errno.EACCES, "Permission denied"),
    "Input/output error": OSError(errno.EIO, "Input/output error"),
    "Too many open files": OSError(errno.EMFILE, "Too many open files"),
    "not enough memory": MemoryError(),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_cannot_be_read_is_not_called_damaged(unreadable, cause):
    path = unreadable(CAUSES[cause])
    with pytest.raises(CheckpointError, match=rf"c\.pth cannot be read: {cause}") as caught:
        load_checkpoint(path)
    assert not isinstance(caught.value, DamagedError)


def test_a_device_that_this_machine_lacks_is_named(tmp_path):
    path = save_checkpoint(tmp_path / "c.pth", example())
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda' is not on this machine"):
            load_checkpoint(path, map_location="cuda")
    assert load_checkpoint(path, map_location=torch.device("cpu"))["epoch"] == 1


# --- weights of other programs


def textbook(state):
    return {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {}, "loss": 0.1}


FOREIGN = {
    "a state dict": lambda state: state,
    "the textbook loop's": textbook,
    "DataParallel's": lambda state: {f"module.{name}": w for name, w in state.items()},
    "compiled": lambda state: {"model": {f"_orig_mod.{name}": w for name, w in state.items()}},
    "both": lambda state: {f"_orig_mod.module.{name}": w for name, w in state.items()},
    "part of a model": lambda state: {f"net.body.{name}": w for name, w in state.items()},
    "averaged": lambda state: (
        torch.optim.swa_utils.AveragedModel(make_linear()).state_dict()
        | {f"module.{name}": w for name, w in state.items()}
    ),
    "float64": lambda state: {"state_dict": {name: w.double() for name, w in state.items()}},
    "other names": lambda state: {"fc.weight": state["1.weight"], "fc.bias": state["1.bias"]},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_other_programs_are_taken_where_they_fit(tmp_path, kind, zipped):
    state = {name: torch.rand_like(w) for name, w in make_linear().state_dict().items()}
    path = tmp_path / "foreign.pth"
    torch.save(FOREIGN[kind](state), path, _use_new_zipfile_serialization=zipped)
    model = make_linear()
    said = take_weights(model, path)
    assert digest(model.state_dict()) == digest(state)
    assert said.startswith("weights from another program")
    assert ("its layers differ" in said) == (kind == "other names")
    with pytest.raises(CheckpointError, match="A run cannot go on from it"):
        load_checkpoint(path)


def test_names_that_end_alike_are_not_mixed_up(tmp_path):
    def nested():
        return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4)))

    theirs, ours = nested(), nested()
    torch.save({f"net.{name}": w for name, w in theirs.state_dict().items()}, tmp_path / "w.pth")
    assert take_weights(ours, tmp_path / "w.pth") == "weights from another program"
    assert digest(ours.state_dict()) == digest(theirs.state_dict())


def test_our_own_checkpoint_says_its_epoch(tmp_path):
    model = make_linear()
    own = example(7) | {"model_state_dict": {n: w + 1 for n, w in model.state_dict().items()}}
    assert take_weights(model, save_checkpoint(tmp_path / "c.pth", own)) == "epoch 7"
    assert digest(model.state_dict()) == digest(own["model_state_dict"])
    torch.save(own | {"digest": "0"}, tmp_path / "c.pth")
    with pytest.raises(DamagedError):
        take_weights(model, tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            nn.Linear(3, 3).state_dict(),
            r"weight is float32 \(3, 3\) in the file, missing in the mod",
        ),
        ({"1.weight": torch.zeros(10, 784)}, r"1\.bias is missing in the file, float32 \(10,\)"),
        ({"1.weight": torch.zeros(9, 784), "1.bias": torch.zeros(9)}, r"1\.weight is .*\(9, 784\)"),
        (
            {"1.weight": torch.full((10, 784), math.nan), "1.bias": torch.zeros(10)},
            "NaN or infinite",
        ),
        ({"1.weight": torch.zeros(10, 784).char(), "1.bias": torch.zeros(10)}, "is int8"),
        ({"loss": 0.5}, "contains no state_dict"),
        ([torch.zeros(10, 784)], "contains no state_dict"),
        ({"1.weight": torch.zeros(10, 784).to_sparse(), "1.bias": torch.zeros(10)}, "foreign"),
        ({"1.weight": torch.zeros(10, 784, device="meta"), "1.bias": torch.zeros(10)}, "foreign"),
    ],
)
def test_what_does_not_fit_is_named_with_layers_and_shapes(tmp_path, state, words):
    torch.save(state, tmp_path / "foreign.pth")
    model = make_linear()
    before = digest(model.state_dict())
    with pytest.raises(CheckpointError, match=words):
        take_weights(model, tmp_path / "foreign.pth")
    assert digest(model.state_dict()) == before


def test_half_a_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "c.pth", example())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DamagedError, match=r"c\.pth is damaged"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*gone\.pth; name another"):
        load_checkpoint(tmp_path / "gone.pth")


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 1}, torch.zeros(3)])
def test_what_is_no_checkpoint_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="not a checkpoint of mnist_helpers"):
        load_checkpoint(tmp_path / "c.pth")


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_checkpoint_is_never_executed(tmp_path):
    torch.save({**example(), "digest": Malicious()}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="not executed"):
        load_checkpoint(tmp_path / "c.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "raw.pth")
    assert not (tmp_path / "executed").exists()


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path):
    path = save_checkpoint(tmp_path / "c.pth", example())
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="what was there before is untouched"):
        save_checkpoint(path, {**example(), "history": lambda: None})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "c.pth", example())
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(idx.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"c\.pth cannot be written .*No space.*make room"):
        save_checkpoint(path, example(2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file.c\.pth cannot be written"):
        save_checkpoint(tmp_path / "file" / "c.pth", example())


def test_the_digest_sees_every_difference_and_nothing_else():
    base = {"a": torch.arange(12.0).reshape(1, 3, 2, 2), "b": [1, 2.5, "x", None, True]}
    layout = {**base, "a": base["a"].to(memory_format=torch.channels_last)}
    turned_round = {"b": base["b"], "a": base["a"]}
    assert digest(base) == digest(layout) == digest(turned_round)
    others = [
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"].reshape(3, 1, 2, 2)},
        {**base, "a": base["a"] + 1e-6},
        {**base, "b": [1, 2.5, "x", None, False]},
        {**base, "b": [1, 2.5, "x", None]},
        {**base, "b": [1.0, 2.5, "x", None, True]},
        {**base, "b": [[1, 2.5], "x", None, True]},
        {**base, "b": tuple(base["b"])},
        {"a": base["a"], "c": base["b"]},
        {**base, "b": [1, 2.5000000000000004, "x", None, True]},
    ]
    assert len({digest(value) for value in [base, *others]}) == 1 + len(others)


def test_epochs_are_in_the_order_of_numbers(tmp_path):
    for epoch in (10, 9, 1):
        save_checkpoint(tmp_path / f"mnist_model_epoch_{epoch}.pth", example(epoch))
    (tmp_path / "mnist_model_epoch_x.pth").touch()
    names = [p.name for p in epoch_checkpoints(tmp_path)]
    assert names == [f"mnist_model_epoch_{n}.pth" for n in (1, 9, 10)]


def test_an_older_run_moves_aside_and_nothing_is_overwritten(tmp_path):
    assert move_to_previous(tmp_path / "nowhere") is None
    for run, folder in ((1, "previous"), (2, "previous-2")):
        save_checkpoint(tmp_path / "mnist_model_epoch_1.pth", example(run))
        save_checkpoint(tmp_path / "best_mnist_model.pth", example(run))
        (tmp_path / "notes.txt").touch()
        assert move_to_previous(tmp_path) == tmp_path / folder
    for run, folder in ((1, "previous"), (2, "previous-2")):
        kept = tmp_path / folder
        assert len(list(kept.iterdir())) == 2
        assert load_checkpoint(kept / "mnist_model_epoch_1.pth")["epoch"] == run
        assert load_checkpoint(kept / "best_mnist_model.pth")["epoch"] == run
    assert (tmp_path / "notes.txt").exists()


def test_random_states_come_back_through_a_file(tmp_path):
    def draw():
        return random.random(), np.random.normal(), torch.rand(1).item()

    np.random.normal()  # leaves a second, stored number behind
    path = save_checkpoint(tmp_path / "c.pth", {**example(), "random_states": random_states()})
    expected = draw()
    restore_random_states(load_checkpoint(path)["random_states"])
    assert draw() == expected
