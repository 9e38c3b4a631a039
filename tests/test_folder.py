"""A run's folder: two runs at once, what cannot be read, runs side by side, the best."""

import collections
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from mnist_helpers.data.digits import DigitDataset
from mnist_helpers.data.idx import digest
from mnist_helpers.errors import CheckpointError, InputError
from mnist_helpers.training import folder as folder_module
from mnist_helpers.training.checkpoint import load_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.folder import BEST_NAME, epoch_checkpoints, epoch_name, find_run
from tests.conftest import make_digits, make_linear
from tests.test_faults import everything_in

PROJECT = Path(__file__).resolve().parent.parent
posix_only = pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")


def a_run(sets, config, epochs, **changes):
    return fit(make_linear(), *sets, dataclasses.replace(config, epochs=epochs, **changes))


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# --- two at once

HOLD = """
import sys, time
from pathlib import Path
from mnist_helpers.training.folder import owned
with owned(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that has the folder `held`, as a run has it."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "held")],
        cwd=PROJECT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert held.stdout.readline() == "locked\n"
    yield held
    held.kill()
    held.stdout.close()
    held.wait()


@pytest.mark.slow
def test_a_second_run_is_refused_by_the_process_of_the_first(sets, config, holder, tmp_path):
    config = dataclasses.replace(config, train_limit=70, test_limit=30)
    a_run(sets, config, 1)
    held = tmp_path / "held"
    for name in (epoch_name(1), BEST_NAME):
        (config.checkpoint_dir / name).rename(held / name)
    before = everything_in(held)
    config = dataclasses.replace(config, checkpoint_dir=held)
    model = make_linear()
    start = digest(model.state_dict())
    for resume_from in (None, held):
        with pytest.raises(CheckpointError, match=f"process {holder.pid} on .* is training in"):
            fit(model, *sets, config, resume_from=resume_from)
    assert everything_in(held) == before and digest(model.state_dict()) == start
    # Readers are free.
    assert find_run(dataclasses.replace(config, epochs=1)) is not None
    elsewhere = dataclasses.replace(config, epochs=2, checkpoint_dir=tmp_path / "elsewhere")
    assert len(fit(make_linear(), *sets, elsewhere, resume_from=held)) == 2


@pytest.mark.slow
@posix_only
def test_the_lock_of_a_process_that_is_gone_does_not_count(sets, config, holder, tmp_path):
    held = tmp_path / "held"
    leftover, foreign = held / f".{BEST_NAME}.0123.tmp", held / f".{BEST_NAME}.4567.tmp"
    for path in (leftover, foreign):
        path.touch()
    os.utime(leftover, (0, 0))  # the other may be one that somebody is writing now
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    a_run(sets, config, 1, checkpoint_dir=held)
    assert visible(held) == [BEST_NAME, epoch_name(1)]
    assert [p.name for p in held.iterdir() if p.name.startswith(".")] == [foreign.name]


def test_threads_of_one_process_are_kept_apart_too(sets, config):
    problems = []

    def second(_):
        def run():
            try:
                a_run(sets, config, 1)
            except CheckpointError as error:
                problems.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1), on_epoch_end=second)
    assert len(problems) == 1 and f"process {os.getpid()}" in problems[0]
    a_run(sets, config, 1)  # and the lock is free again
    assert visible(config.checkpoint_dir) == [BEST_NAME, epoch_name(1), "previous"]


def test_a_lock_that_is_a_link_is_not_followed(sets, config, tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    for name in (folder_module.LOCK_NAME, folder_module.OWNER_NAME, ".mine.tmp"):
        config.checkpoint_dir.mkdir(exist_ok=True)
        (config.checkpoint_dir / name).symlink_to(target)
    with pytest.raises(CheckpointError, match="no checkpoints can be written"):
        a_run(sets, config, 1)
    (config.checkpoint_dir / folder_module.LOCK_NAME).unlink()
    a_run(sets, config, 1)
    assert target.read_text() == "mine"


@posix_only
def test_everybody_who_may_write_to_the_folder_may_lock_it(sets, config):
    modes = []

    def look(_):
        modes.append((config.checkpoint_dir / folder_module.LOCK_NAME).stat().st_mode & 0o777)

    fit(make_linear(), *sets, config, on_epoch_end=look)
    assert modes == [0o666] * 3


def test_older_files_move_aside_together_or_not_at_all(sets, config, monkeypatch):
    a_run(sets, config, 2)
    before, real, moved = everything_in(config.checkpoint_dir), Path.rename, []

    def rename(path, target):
        moved.append(path)
        if len(moved) == 2:
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(CheckpointError, match="cannot be changed"):
        a_run(sets, config, 1)
    assert everything_in(config.checkpoint_dir) == before


def test_a_drive_without_locks_is_said_and_used(sets, config, monkeypatch, capsys):
    class NoLock:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            raise OSError(folder_module.errno.ENOLCK, "No locks available")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(folder_module, "FileLock", NoLock)
    assert len(a_run(sets, config, 1)) == 1
    assert "drive without locks: make sure only one run" in capsys.readouterr().out


# --- what cannot be read


@pytest.mark.slow
@pytest.mark.parametrize("which", ["the last", "all", "the best"])
def test_what_cannot_be_read_ends_a_resume_and_loses_nothing(sets, config, monkeypatch, which):
    a_run(sets, config, 2)
    folder = config.checkpoint_dir
    before, real = everything_in(folder), Path.open
    names = {"the last": [epoch_name(2)], "the best": [BEST_NAME]}.get(which, visible(folder))

    def open_(path, *mode, **how):
        if path.name in names:
            raise PermissionError(13, "Permission denied")
        return real(path, *mode, **how)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(CheckpointError, match=rf"{names[-1]} cannot be read: Permission denied"):
        fit(make_linear(), *sets, config, resume_from=folder)
    monkeypatch.undo()
    assert everything_in(folder) == before


def test_a_folder_that_cannot_be_listed_is_not_written_to(sets, config, monkeypatch):
    a_run(sets, config, 1)
    before, real = everything_in(config.checkpoint_dir), Path.iterdir

    def iterdir(path):
        if path == config.checkpoint_dir:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    for resume_from in (None, config.checkpoint_dir):
        with pytest.raises(CheckpointError, match="cannot be listed: Permission denied"):
            fit(make_linear(), *sets, config, resume_from=resume_from)
    monkeypatch.undo()
    assert everything_in(config.checkpoint_dir) == before


@pytest.mark.parametrize("foreign", ["a state dict", "the textbook's"])
def test_why_no_run_goes_on_from_weights_alone_is_said(sets, config, tmp_path, foreign):
    state = make_linear().state_dict()
    torch.save(state if foreign == "a state dict" else {"model_state_dict": state}, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"it lacks epoch, .*A run cannot go on from it"):
        fit(make_linear(), *sets, config, resume_from=tmp_path / "w")


def test_a_folder_that_is_called_like_a_file_is_a_folder(sets, config, tmp_path):
    config = dataclasses.replace(config, checkpoint_dir=tmp_path / "x.pth")
    assert len(fit(make_linear(), *sets, config, resume_from=tmp_path / "x.pth")) == 3
    longer = dataclasses.replace(config, epochs=4)
    assert len(fit(make_linear(), *sets, longer, resume_from=tmp_path / "x.pth")) == 4


# --- runs side by side


def test_a_run_that_goes_on_in_the_folder_of_another_moves_that_one_aside(sets, config, tmp_path):
    a_run(sets, config, 2, checkpoint_dir=tmp_path / "other")
    a_run(sets, config, 3)
    folder = config.checkpoint_dir
    before = everything_in(folder)
    guest = folder / "guest.pth"
    guest.write_bytes((tmp_path / "other" / epoch_name(1)).read_bytes())
    history = fit(make_linear(), *sets, config, resume_from=guest)
    assert len(history) == 3
    assert everything_in(folder / "previous") == before
    assert guest.exists() and epoch_name(1) not in visible(folder)
    assert {load_checkpoint(folder / epoch_name(n))["run_id"] for n in (2, 3)} == {
        load_checkpoint(guest)["run_id"]
    }


def test_more_epochs_than_asked_for_are_said_as_they_are(sets, config, capsys):
    a_run(sets, config, 3)
    before = everything_in(config.checkpoint_dir)
    shorter = dataclasses.replace(config, epochs=2)
    history = fit(make_linear(), *sets, shorter, resume_from=config.checkpoint_dir)
    assert len(history) == 3 and everything_in(config.checkpoint_dir) == before
    assert "3 epochs are finished. To go on, ask for more than 3" in capsys.readouterr().out
    history = fit(make_linear(), *sets, shorter, resume_from=config.checkpoint_dir / epoch_name(1))
    assert len(history) == 2


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["older", "gone", "damaged"])
def test_the_best_is_made_again_if_it_is_not_the_best_so_far(sets, config, spoil):
    config = dataclasses.replace(config, lr=0.0005)
    history = a_run(sets, config, 3)
    folder, epoch = config.checkpoint_dir, history.best.epoch
    assert epoch > 1
    best = load_checkpoint(folder / BEST_NAME)
    if spoil == "gone":
        (folder / BEST_NAME).unlink()
    else:
        content = (folder / epoch_name(1)).read_bytes()
        (folder / BEST_NAME).write_bytes(content if spoil == "older" else content[:-99])
    fit(make_linear(), *sets, config, resume_from=folder)
    assert digest(load_checkpoint(folder / BEST_NAME)) == digest(best)


# --- before the first step


class Unsaveable(nn.Module):
    """A network whose checkpoint cannot be saved, as its state holds what is no tensor."""

    def __init__(self):
        super().__init__()
        self.linear = make_linear()

    def get_extra_state(self):
        return {"when": object()}

    def set_extra_state(self, state):
        pass

    def forward(self, images):
        return self.linear(images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"for 2 it gives \(2, 9\)"),
        (lambda: nn.Linear(28, 10), "logits"),
        (lambda: nn.Conv2d(3, 10, 28), "can't take images"),
        (Unsaveable, "holds tensors and plain types only"),
    ],
)
def test_a_network_that_cannot_be_trained_or_saved_leaves_an_older_run(sets, config, model, words):
    a_run(sets, config, 1)
    before = everything_in(config.checkpoint_dir)
    with pytest.raises((InputError, CheckpointError), match=words):
        fit(model(), *sets, config)
    assert everything_in(config.checkpoint_dir) == before


@pytest.mark.slow
def test_a_folder_deleted_in_mid_run_is_said_and_locked_anew(sets, config, capsys):
    def delete(record):
        if record.epoch == 1:
            shutil.rmtree(config.checkpoint_dir)
        if record.epoch == 2:
            with pytest.raises(CheckpointError, match=f"process {os.getpid()} on .* is training"):
                a_run(sets, config, 1)

    assert len(fit(make_linear(), *sets, config, on_epoch_end=delete)) == 3
    assert "or its lock was deleted; saving starts there again" in capsys.readouterr().out

    def let_another_run_in(record):
        if record.epoch == 1:
            (config.checkpoint_dir / folder_module.LOCK_NAME).unlink()
            a_run(sets, config, 2)

    fit(make_linear(), *sets, config, on_epoch_end=let_another_run_in)
    mine = load_checkpoint(config.checkpoint_dir / epoch_name(3))["run_id"]
    assert {load_checkpoint(p)["run_id"] for p in epoch_checkpoints(config.checkpoint_dir)} == {
        mine
    }

    def rename_this_machine(record):
        (config.checkpoint_dir / folder_module.OWNER_NAME).write_text("somebody else")

    capsys.readouterr()
    assert len(fit(make_linear(), *sets, config, on_epoch_end=rename_this_machine)) == 3
    assert "was deleted" not in capsys.readouterr().out

    def delete_and_stop(record):
        (config.checkpoint_dir / epoch_name(record.epoch)).unlink()
        raise KeyboardInterrupt

    fit(make_linear(), *sets, config, on_epoch_end=delete_and_stop)
    assert "The last checkpoint has been deleted" in capsys.readouterr().out


# --- which data


def changed(dataset, what):
    images, labels = dataset.images.clone(), dataset.labels.clone()
    if what == "images":
        images = 255 - images
    else:
        labels[-1] = (labels[-1] + 1) % 10
    return DigitDataset(images, labels, dataset.source)


class Noisy(torch.utils.data.Dataset):
    """A data set whose noise comes from a generator of its own."""

    def __init__(self, digits):
        self.digits, self.generator = digits, torch.Generator()

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image, label = self.digits[index]
        return image + 0.01 * torch.rand(image.shape, generator=self.generator), label


def test_a_generator_that_no_resume_restores_is_said(sets, config, capsys):
    noisy = Noisy(sets[0]), sets[1]
    a_run(noisy, config, 1)
    assert "The train set has random numbers of its own" in capsys.readouterr().out
    assert len(fit(make_linear(), *noisy, config, resume_from=config.checkpoint_dir)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [lambda d: d, list, torch.utils.data.Subset])
@pytest.mark.parametrize("what", ["images", "labels"])
@pytest.mark.parametrize("which", [0, 1])
def test_other_data_of_the_same_size_are_noticed(sets, config, kind, what, which):
    def made(sets):
        return [
            kind(s) if kind is not torch.utils.data.Subset else kind(s, range(len(s))) for s in sets
        ]

    a_run(made(sets), config, 1)
    others = list(sets)
    others[which] = changed(sets[which], what)
    model = make_linear()
    before = digest(model.state_dict())
    with pytest.raises(CheckpointError, match=f"other {('train', 'test')[which]} images or labels"):
        fit(model, *made(others), config, resume_from=config.checkpoint_dir)
    assert digest(model.state_dict()) == before
    assert len(fit(model, *made(sets), config, resume_from=config.checkpoint_dir)) == 3


def test_another_number_of_threads_is_said(sets, config, capsys):
    a_run(sets, config, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    finally:
        torch.set_num_threads(threads)
    assert f"CPU threads: {threads} before, {threads + 1} now" in capsys.readouterr().out


def test_a_frozen_layer_is_no_reason_not_to_go_on(config):
    sets = make_digits(70), make_digits(30, seed=1)

    def frozen():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.Linear(20, 10), nn.Identity())
        model[1].requires_grad_(False)
        model.register_module("unused", nn.Linear(2, 2))
        model.forward = lambda images: model[2](model[1](model[0](images)))
        return model

    whole, model = frozen(), frozen()
    expected = fit(whole, *sets, dataclasses.replace(config, checkpoint_dir=None))
    fit(frozen(), *sets, dataclasses.replace(config, epochs=1))
    history = fit(model, *sets, config, resume_from=config.checkpoint_dir)
    assert history.column("test_loss") == expected.column("test_loss")
    assert digest(model.state_dict()) == digest(whole.state_dict())


# --- forged files, whose digest fits


def with_hidden_metadata(checkpoint):
    weights = collections.OrderedDict(checkpoint["model_state_dict"])
    weights._metadata = {"": {"version": 1, "assign_to_params_buffers": True}}
    checkpoint["model_state_dict"] = weights


def replaced(key, value):
    return lambda checkpoint: checkpoint.update({key: value})


def first_weight(checkpoint):
    return next(iter(checkpoint["model_state_dict"].items()))


def group(checkpoint):
    return checkpoint["optimizer_state_dict"]["param_groups"][0]


FORGERIES = {
    "epoch of 10**10": replaced("epoch", 10**10),
    "epoch of 10**30": replaced("epoch", 10**30),
    "epoch of True": replaced("epoch", True),
    "accuracy of NaN": replaced("test_accuracy", float("nan")),
    "a tensor in config": lambda c: c["config"].update(lr=torch.tensor([0.1, 0.2])),
    "a tensor in data": lambda c: c["data"].update(train_size=torch.tensor([70, 70])),
    "a tensor in param_groups": lambda c: group(c).update(lr=torch.tensor([0.1, 0.2])),
    "groups of nonsense": lambda c: c["optimizer_state_dict"].update(param_groups=[None]),
    "state of nonsense": lambda c: c["optimizer_state_dict"].update(state={"x": None}),
    "float8": lambda c: c["model_state_dict"].update(
        {first_weight(c)[0]: first_weight(c)[1].to(torch.float8_e4m3fn)}
    ),
    "quantised": lambda c: c["model_state_dict"].update(
        {first_weight(c)[0]: torch.quantize_per_tensor(first_weight(c)[1], 0.1, 0, torch.qint8)}
    ),
    "complex": lambda c: c["model_state_dict"].update(
        {first_weight(c)[0]: first_weight(c)[1].to(torch.complex64)}
    ),
    "history of 10**30": lambda c: c["history"][0].update(epoch=10**30),
    "history of a tensor": lambda c: c["history"][0].update(lr=torch.zeros(3)),
    "history of nothing": replaced("history", [None]),
    "a word as a random number": lambda c: c["random_states"].update(
        python=(*c["random_states"]["python"][:2], "x")
    ),
    "random states of nonsense": replaced("random_states", {"python": (3, [0], None)}),
}


def forged(sets, config, forge):
    a_run(sets, config, 1)
    path = config.checkpoint_dir / epoch_name(1)
    checkpoint = load_checkpoint(path)
    forge(checkpoint)
    with contextlib.suppress(TypeError, RuntimeError, NotImplementedError):  # some have no digest
        checkpoint["digest"] = digest(checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"digest": ""} | checkpoint, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORGERIES)
@pytest.mark.filterwarnings("ignore:.*quantized")
def test_a_forged_value_is_an_error_that_names_the_file(sets, config, kind):
    path = forged(sets, config, FORGERIES[kind])
    with pytest.raises(CheckpointError, match=path.name):
        fit(make_linear(), *sets, config, resume_from=path)


def test_find_run_takes_no_forged_file_for_a_run(sets, config):
    config = dataclasses.replace(config, epochs=1, train_limit=70, test_limit=30)
    for part, key in (("config", "lr"), ("data", "train_size")):
        forged(sets, config, lambda c, part=part, key=key: c[part].update({key: torch.zeros(2)}))
        assert find_run(config) is None


def overlapping(checkpoint):
    for state in checkpoint["optimizer_state_dict"]["state"].values():
        buffer = state["momentum_buffer"]
        state["momentum_buffer"] = torch.zeros(1).expand(buffer.shape)


@pytest.mark.slow
def test_what_no_digest_covers_changes_nothing(sets, config):
    expected = fit(make_linear(), *sets, dataclasses.replace(config, checkpoint_dir=None))
    path = forged(sets, config, with_hidden_metadata)
    model = make_linear()
    history = fit(model, *sets, config, resume_from=path)
    assert history.column("test_loss") == expected.column("test_loss")
    path = forged(sets, config, overlapping)  # as PyTorch would trip over it in the first step
    assert len(fit(model, *sets, config, resume_from=path)) == 3
