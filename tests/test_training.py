import contextlib
import copy
import dataclasses
import math
import re
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from mnist_helpers.config import RECIPES, DataSource, TrainConfig
from mnist_helpers.data.digits import DigitDataset
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.errors import CheckpointError, InputError, TrainingError
from mnist_helpers.machine import progress
from mnist_helpers.machine.hardware import place, seed_everything
from mnist_helpers.model import MnistCNN
from mnist_helpers.training import fit as fit_module
from mnist_helpers.training import optimizer as optimizer_module
from mnist_helpers.training import step
from mnist_helpers.training.checkpoint import digest, load_checkpoint, save_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.folder import find_run
from mnist_helpers.training.step import evaluate, train_one_epoch
from tests.conftest import make_digits, make_linear
from tests.test_progress import Terminal


def textbook_loop(model, loader, epochs, config):
    """The loop of every tutorial; return the loss of each step."""
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    losses = []
    for epoch in range(1, epochs + 1):
        loader.sampler.set_epoch(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [True, False])
def test_fit_and_a_textbook_loop_agree_to_the_last_bit_over_50_steps(
    monkeypatch, tmp_path, in_memory
):
    config = TrainConfig(
        epochs=2, batch_size=4, device="cpu", precision="float32",
        in_memory=in_memory, checkpoint_dir=tmp_path,
    )  # fmt: skip
    train_set, test_set = make_digits(100), make_digits(10, 1)
    seed_everything(1)
    in_package = MnistCNN()
    # What `fit` does to the model first: another memory format sums in another order.
    by_hand = place(copy.deepcopy(in_package), torch.device("cpu"), config.resolved().memory_format)
    expected = textbook_loop(by_hand, make_loader(train_set, config, train=True), 2, config)

    losses = []

    class Recording(nn.CrossEntropyLoss):
        def forward(self, logits, labels):
            loss = super().forward(logits, labels)
            if in_package.training and logits.requires_grad:
                losses.append(loss.item())
            return loss

    monkeypatch.setattr(fit_module.nn, "CrossEntropyLoss", Recording)
    fit(in_package, train_set, test_set, config)
    assert len(expected) == 50
    assert losses == expected
    assert digest(in_package.state_dict()) == digest(by_hand.state_dict())


def test_the_look_at_the_data_changes_nothing(loaders, sets, config):
    by_hand, in_package = (nn.Sequential(make_linear(), nn.Dropout(0.2)) for _ in range(2))
    seed_everything(1)
    textbook_loop(by_hand, loaders[0], 1, config)
    seed_everything(1)
    fit(in_package, *sets, dataclasses.replace(config, epochs=1, checkpoint_dir=None))
    assert digest(in_package.state_dict()) == digest(by_hand.state_dict())


def test_the_time_of_the_whole_run_stands_behind_the_first_epochs_bar_alone(
    sets, config, monkeypatch
):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)

    def shown(epochs, resume_from=None):
        terminal = Terminal()
        with contextlib.redirect_stdout(terminal):
            now = dataclasses.replace(config, epochs=epochs)
            fit(make_linear(), *sets, now, resume_from=resume_from)
        parts = re.split(r"[\r\n]+", terminal.getvalue())
        told = [part.rstrip() for part in parts if re.fullmatch(r"Epoch.*\d s *", part)]
        return {int(part[6:8]) for part in told}

    assert shown(3) == {1}
    assert shown(6, config.checkpoint_dir) == {4}  # how long the epochs that are left take
    assert shown(1) == set()  # a single bar tells its own time


def test_training_metrics_are_means_over_samples_as_the_network_stood(loaders, config):
    model = make_linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    reference = copy.deepcopy(model)
    metrics = train_one_epoch(model, loaders[0], nn.CrossEntropyLoss(), optimizer)

    optimizer = torch.optim.SGD(reference.parameters(), lr=config.lr)
    loss_sum, right, sizes = 0.0, 0, []
    for images, labels in loaders[0]:
        logits = reference(images)
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        loss_sum += loss.item()
        right += (logits.argmax(1) == labels).sum().item()
        sizes.append(len(labels))
        optimizer.zero_grad()
        (loss / len(labels)).backward()
        optimizer.step()
    assert sizes[-1] < sizes[0] and sum(sizes) == 70
    assert metrics.loss == pytest.approx(loss_sum / 70, rel=1e-5)
    assert metrics.accuracy == right / 70  # exact, not as float32 rounds it


def test_evaluate_means_over_samples_and_changes_nothing(loaders):
    model = nn.Sequential(make_linear(), nn.Dropout(0.9)).train()
    before = digest(model.state_dict())
    metrics = evaluate(model, loaders[0])
    images = torch.cat([images for images, _ in loaders[0]])
    labels = torch.cat([labels for _, labels in loaders[0]])
    logits = model.eval()(images)
    assert metrics.loss == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert metrics.accuracy == (logits.argmax(1) == labels).sum().item() / 70
    assert digest(model.state_dict()) == before
    model.train()
    evaluate(model, loaders[0])
    assert model.training
    evaluate(model.eval(), loaders[0])
    assert not model.training


def test_fit_learns_and_records_each_epoch(sets, config):
    seen, started = [], time.perf_counter()
    history = fit(make_linear(), *sets, config, on_epoch_end=seen.append)
    assert sum(r.train_seconds + r.test_seconds for r in history) < time.perf_counter() - started
    assert [r.epoch for r in history] == [1, 2, 3] and list(history) == seen
    assert all(r.lr == 0.001 and r.train_seconds > 0 and r.test_seconds > 0 for r in history)
    assert history[2].train_loss < history[0].train_loss
    assert history.best.test_accuracy > 0.8
    assert not history.interrupted


def test_the_record_is_what_evaluate_measures(loaders, sets, config):
    model = make_linear()
    history = fit(model, *sets, config)
    metrics = evaluate(model, loaders[1])
    assert (history[-1].test_loss, history[-1].test_accuracy) == metrics


def measure(monkeypatch, **accuracies):
    """Make `fit` measure these accuracies, one an epoch, for each set that is named."""
    real, left = fit_module.evaluate, {which: iter(values) for which, values in accuracies.items()}

    def evaluate_as_chosen(model, batches, loss_fn, which):
        return real(model, batches, loss_fn, which)._replace(accuracy=next(left[which]))

    monkeypatch.setattr(fit_module, "evaluate", evaluate_as_chosen)


def test_each_epoch_is_saved_and_the_best_when_test_accuracy_rises(sets, config, monkeypatch):
    measure(monkeypatch, test=[0.5, 0.4, 0.5, 0.6])
    best = []

    def look(record):
        best.append(load_checkpoint(config.checkpoint_dir / "best_mnist_model.pth")["epoch"])
        saved = load_checkpoint(config.checkpoint_dir / f"mnist_model_epoch_{record.epoch}.pth")
        assert saved["test_accuracy"] == record.test_accuracy
        assert saved["train_accuracy"] == record.train_accuracy
        assert len(saved["history"]) == saved["epoch"] == record.epoch

    fit(make_linear(), *sets, dataclasses.replace(config, epochs=4), on_epoch_end=look)
    assert best == [1, 1, 1, 4]


def stop_after(epoch):
    def stop(record):
        if record.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def test_a_run_stopped_and_resumed_is_the_run_that_was_not(sets, config, tmp_path, capsys):
    fit(make_linear(), *sets, config)
    config = dataclasses.replace(config, checkpoint_dir=tmp_path / "parts")
    history = fit(make_linear(), *sets, config, on_epoch_end=stop_after(2))
    assert history.interrupted and len(history) == 2
    assert "Finished epochs: 2. The last checkpoint is" in capsys.readouterr().out

    seed_everything(99)  # another process would have other random states and weights
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    history = fit(fresh, *sets, config, resume_from=config.checkpoint_dir)
    assert [r.epoch for r in history] == [1, 2, 3]
    one = load_checkpoint(tmp_path / "checkpoints" / "mnist_model_epoch_3.pth")
    two = load_checkpoint(tmp_path / "parts" / "mnist_model_epoch_3.pth")
    for key in ("model_state_dict", "optimizer_state_dict", "test_accuracy", "random_states"):
        assert digest(one[key]) == digest(two[key]), key
    first = load_checkpoint(tmp_path / "parts" / "mnist_model_epoch_1.pth")
    assert first["run_id"] == two["run_id"] != one["run_id"]


def test_without_momentum_restored_a_resumed_run_would_differ(sets, config, monkeypatch):
    whole, parts = make_linear(), make_linear()
    fit(whole, *sets, dataclasses.replace(config, checkpoint_dir=None))
    fit(parts, *sets, config, on_epoch_end=stop_after(2))
    monkeypatch.setattr(optimizer_module, "load_optimizer", lambda *_: None)
    fit(parts, *sets, config, resume_from=config.checkpoint_dir)
    assert digest(whole.state_dict()) != digest(parts.state_dict())


def test_stopping_in_the_middle_of_an_epoch_keeps_the_finished_ones(sets, config, monkeypatch):
    real, calls = fit_module.train_one_epoch, []

    def train(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(fit_module, "train_one_epoch", train)
    history = fit(make_linear(), *sets, config)
    assert history.interrupted and len(history) == 1
    names = sorted(p.name for p in config.checkpoint_dir.iterdir())
    assert names == ["best_mnist_model.pth", "mnist_model_epoch_1.pth"]


def test_more_epochs_may_follow_and_a_finished_run_says_so(sets, config, capsys):
    model = make_linear()
    fit(model, *sets, dataclasses.replace(config, epochs=2))
    history = fit(model, *sets, config, resume_from=config.checkpoint_dir)
    assert len(history) == 3
    before = digest(model.state_dict())
    capsys.readouterr()
    again = fit(model, *sets, config, resume_from=config.checkpoint_dir)
    assert "3 epochs are finished. To go on, ask for more than 3" in capsys.readouterr().out
    assert again == history and digest(model.state_dict()) == before


def test_resume_from_nothing_starts_and_says_so(sets, config, capsys):
    history = fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    assert len(history) == 3
    assert "starting from the beginning" in capsys.readouterr().out


def test_a_new_run_moves_the_old_one_aside(sets, config, capsys):
    fit(make_linear(), *sets, config)
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    previous = config.checkpoint_dir / "previous"
    assert len(list(previous.iterdir())) == 4
    assert len([p for p in config.checkpoint_dir.iterdir() if p.is_file()]) == 2
    assert f"An earlier run is now in {previous}; you may delete it." in capsys.readouterr().out


def test_another_configuration_is_refused_by_the_fields_that_differ(sets, config):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    other = dataclasses.replace(config, lr=0.5, seed=2)
    with pytest.raises(CheckpointError, match=r"lr: 0\.001 then, 0\.5 now; seed: 1 then, 2 now"):
        fit(make_linear(), *sets, other, resume_from=config.checkpoint_dir)


@pytest.mark.parametrize("buffer", [torch.full((10, 784), math.nan), torch.zeros(784, 10)])
def test_a_momentum_that_does_not_fit_is_refused(sets, config, buffer):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    path = config.checkpoint_dir / "mnist_model_epoch_1.pth"
    checkpoint = load_checkpoint(path)
    checkpoint["optimizer_state_dict"]["state"][0]["momentum_buffer"] = buffer
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError, match=r"another optimizer: a momentum of shape"):
        fit(make_linear(), *sets, config, resume_from=path)


def test_a_best_checkpoint_that_cannot_be_mended_is_said_to_be_lost(
    sets, config, capsys, monkeypatch
):
    measure(monkeypatch, test=[0.9, 0.5, 0.5, 0.5])
    fit(make_linear(), *sets, config)
    (config.checkpoint_dir / "best_mnist_model.pth").unlink()
    (config.checkpoint_dir / "mnist_model_epoch_1.pth").unlink()
    longer = dataclasses.replace(config, epochs=4)
    assert len(fit(make_linear(), *sets, longer, resume_from=config.checkpoint_dir)) == 4
    assert "The best checkpoint, of epoch 1, is lost" in capsys.readouterr().out


def test_a_run_goes_on_from_another_folder_into_its_own(sets, config, tmp_path):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=2))
    own = dataclasses.replace(config, checkpoint_dir=tmp_path / "own")
    assert len(fit(make_linear(), *sets, own, resume_from=config.checkpoint_dir)) == 3
    names = {path.name for path in own.checkpoint_dir.iterdir()}
    assert names == {"best_mnist_model.pth", "mnist_model_epoch_3.pth"}


def test_a_best_checkpoint_of_another_run_is_replaced(sets, config):
    fit(make_linear(), *sets, config)
    path = config.checkpoint_dir / "best_mnist_model.pth"
    best = load_checkpoint(path)
    for change in ({"run_id": "another"}, {"epoch": 77}):  # 77: of a run that went on elsewhere
        save_checkpoint(path, best | change)
        fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
        assert digest(load_checkpoint(path)) == digest(best)


def test_a_folder_that_is_not_there_is_named(sets, config, tmp_path):
    with pytest.raises(CheckpointError, match=r"gone does not exist; name a checkpoint"):
        fit(make_linear(), *sets, config, resume_from=tmp_path / "gone")


def test_other_data_and_another_network_are_refused(sets, config):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    with pytest.raises(CheckpointError, match="holds a different network"):
        fit(MnistCNN(), *sets, config, resume_from=config.checkpoint_dir)
    sets[0].source = DataSource.SAMPLE
    with pytest.raises(CheckpointError, match="source: 'mnist' then, 'sample' now"):
        fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)


def test_a_checkpoint_without_its_run_is_refused(sets, config, tmp_path):
    from tests.test_checkpoint import example

    path = save_checkpoint(tmp_path / "c.pth", example())
    with pytest.raises(CheckpointError, match="lacks a history; a run cannot go on"):
        fit(make_linear(), *sets, config, resume_from=path)


def test_values_that_are_not_plain_are_refused(sets, config):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))
    path = config.checkpoint_dir / "mnist_model_epoch_1.pth"
    checkpoint = load_checkpoint(path)
    for part, name in (("config", "lr"), ("data", "train_size")):
        odd = checkpoint | {part: checkpoint[part] | {name: torch.tensor([1.0, 2.0])}}
        save_checkpoint(path, odd)
        with pytest.raises(CheckpointError, match="holds values of the wrong type"):
            fit(make_linear(), *sets, config, resume_from=path)


def test_stopped_while_it_looks_at_the_data_a_resumed_run_keeps_its_epochs(
    sets, config, monkeypatch, capsys
):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=1))

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mnist_helpers.training.fit.check_loader", stop)
    history = fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    assert history.interrupted and len(history) == 1
    assert "Finished epochs: 1. The last checkpoint is" in capsys.readouterr().out


def test_the_sample_is_named_before_its_accuracies(sets, config, capsys):
    sets[1].source = DataSource.SAMPLE
    history = fit(make_linear(), *sets, config)
    assert "All accuracies below are on the sample of 5,000" in capsys.readouterr().out
    assert history.source == DataSource.SAMPLE


def test_nothing_is_written_without_a_folder(sets, config, tmp_path):
    fit(make_linear(), *sets, dataclasses.replace(config, checkpoint_dir=None))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_loader_is_refused(loaders, config):
    empty = DigitDataset(
        torch.zeros(0, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)
    )
    with pytest.raises(InputError, match="the test loader is empty"):
        evaluate(make_linear(), make_loader(empty, config, train=False))


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_stopped_model_has_the_weights_of_the_last_finished_epoch(sets, config, average):
    config = dataclasses.replace(config, average=average)
    finished, model = make_linear(), make_linear()
    fit(finished, *sets, dataclasses.replace(config, epochs=2, checkpoint_dir=None))
    before, real = digest(model.state_dict()), step.train_step

    for epochs in (0, 2):
        steps = 0

        def stop_in_mid_epoch(*arguments, epochs=epochs):
            nonlocal steps
            steps += 1
            if steps == 5 * epochs + 3:  # 70 images in batches of 16 are five steps
                raise KeyboardInterrupt
            return real(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, "train_step", stop_in_mid_epoch)
            assert len(fit(model, *sets, config)) == epochs
        expected = digest(finished.state_dict()) if epochs else before
        assert digest(model.state_dict()) == expected


def test_a_loss_that_is_no_number_stops_with_advice(sets, config):
    deep = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Linear(64, 64), nn.Linear(64, 10))
    before = digest(deep.state_dict())
    with pytest.raises(TrainingError, match=r"(?s)loss became (nan|inf).*learning rate"):
        fit(deep, *sets, dataclasses.replace(config, lr=1e6))
    assert digest(deep.state_dict()) == before  # no epoch was finished


def test_weights_that_are_no_numbers_are_refused_before_the_first_step(sets, config):
    model = make_linear()
    with torch.no_grad():
        model[1].weight[3, 5] = math.inf
    with pytest.raises(InputError, match="weights that are NaN or infinite"):
        fit(model, *sets, config)


def test_find_run_takes_only_the_same_finished_run(sets, config):
    config = dataclasses.replace(config, train_limit=70, test_limit=30)
    assert find_run(config) is None
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=2))
    assert find_run(config) is None  # unfinished
    fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    assert find_run(config)["epoch"] == 3
    assert find_run(dataclasses.replace(config, lr=0.5)) is None
    assert find_run(dataclasses.replace(config, epochs=2)) is None
    assert find_run(config, DataSource.SAMPLE) is None
    assert find_run(dataclasses.replace(config, train_limit=None)) is None  # of fewer digits
    assert find_run(dataclasses.replace(config, checkpoint_dir=None)) is None


IN_ANOTHER_PROCESS = """
import sys
from tests.conftest import make_digits
from mnist_helpers import MnistCNN, TrainConfig, digest, fit, seed_everything
changes = {"epochs": 1, "batch_size": 8, "device": "cpu", "checkpoint_dir": None}
for name in sys.argv[1:]:
    config = TrainConfig.recipe(name, **changes)
    seed_everything(config.seed)
    model = MnistCNN()
    fit(model, make_digits(40), make_digits(10, 1), config)
    print(name, "ends in", digest(model.state_dict()))
"""


@pytest.fixture(scope="module")
def ends(request):
    """Train with each recipe in two processes at once; return the weights of both, by recipe."""
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, *RECIPES]
    both = [
        subprocess.Popen(command, cwd=request.config.rootpath, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    return {name: re.findall(f"{name} ends in (.*)", "".join(outputs)) for name in RECIPES}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_processes_with_the_same_seed_end_in_the_same_weights(ends, recipe):
    one, two = ends[recipe]
    assert one == two and len(one) == 64
