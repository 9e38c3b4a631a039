import errno
import os
import pickle
import random

import numpy as np
import pytest
import torch

from mnist_helpers.errors import CheckpointError
from mnist_helpers.machine.hardware import random_states, restore_random_states
from mnist_helpers.training import checkpoint as checkpoint_module
from mnist_helpers.training.checkpoint import digest, load_checkpoint, save_checkpoint
from mnist_helpers.training.folder import epoch_checkpoints, move_to_previous


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


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04 half a zip"])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "c.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pth"):
        load_checkpoint(tmp_path / "c.pth")


def test_half_a_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "c.pth", example())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"c\.pth cannot be read; it is damaged"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*gone\.pth; train first"):
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

    monkeypatch.setattr(checkpoint_module.os, "fsync", full)
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
    assert digest(base) == digest(layout)
    others = [
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"].reshape(3, 1, 2, 2)},
        {**base, "a": base["a"] + 1e-6},
        {**base, "b": [1, 2.5, "x", None, False]},
        {**base, "b": [1, 2.5, "x", None]},
        {**base, "b": [1.0, 2.5, "x", None, True]},
        {**base, "b": [[1, 2.5], "x", None, True]},
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
