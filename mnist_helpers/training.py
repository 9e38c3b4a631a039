"""A whole training run: epoch after epoch, with bars, checkpoints and a way back in."""

import copy
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from mnist_helpers.checkpoints import (
    BEST_NAME,
    EXTRAS,
    epoch_checkpoints,
    epoch_name,
    load_checkpoint,
    move_to_previous,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from mnist_helpers.config import MNIST, TrainConfig
from mnist_helpers.errors import CheckpointError
from mnist_helpers.history import EpochRecord, History
from mnist_helpers.loop import evaluate, in_training, train_one_epoch
from mnist_helpers.progress import announce, close_bar, in_words, open_bar


def fit(
    model: nn.Module,
    train_loader: DataLoader,
    test_loader: DataLoader,
    config: TrainConfig | None = None,
    *,
    resume_from: str | Path | None = None,
    on_epoch_end: Callable[[EpochRecord], None] | None = None,
) -> History:
    """Train for `config.epochs` epochs with SGD, testing and saving after each.

    With one bar an epoch; with `mnist_model_epoch_X.pth` after each and
    `best_mnist_model.pth` whenever test accuracy improves, in `config.checkpoint_dir`,
    where an older run's files first move to `previous/`. Stopping it (Ctrl-C, or the
    stop button) ends it with the epochs finished so far.

    Parameters
    ----------
    model
        Changed in place; moved to the device.
    train_loader, test_loader
        As `make_loaders` returns them.
    config
        The recipe; its defaults where it is None. A `checkpoint_dir` of None saves nothing.
    resume_from
        A checkpoint, or a folder whose last one is meant. The run goes on to the bit as
        if it had never stopped; `config.epochs` may have grown since. From an empty
        folder it starts at the beginning.
    on_epoch_end
        Called with the record of each epoch, after it is saved.

    Returns
    -------
    History
        All epochs, those before a resume included.

    Raises
    ------
    CheckpointError
        A checkpoint cannot be read or written, or belongs to another configuration or
        other data.
    TrainingError
        The loss is infinite or not a number.
    """
    run = Run(model, train_loader, test_loader, (config or TrainConfig()).resolved())
    run.start(resume_from)
    try:
        for epoch in range(len(run.history) + 1, run.config.epochs + 1):
            record = run.one_epoch(epoch)
            if on_epoch_end is not None:
                on_epoch_end(record)
    except KeyboardInterrupt:
        run.history.interrupted = True
        announce(f"\nStopped. Finished epochs: {len(run.history)}. {run.saved()}")
    return run.history


class Run:
    """What belongs to one training run; `fit` drives it."""

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader,
        test_loader: DataLoader,
        config: TrainConfig,
    ) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.model = model.to(self.device)
        self.train_loader, self.test_loader = train_loader, test_loader
        self.loss_fn = nn.CrossEntropyLoss()
        self.optimizer = SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
        self.history = History(source=getattr(train_loader.dataset, "source", MNIST))
        self.run_id = uuid.uuid4().hex

    def start(self, resume_from: str | Path | None) -> None:
        """Take up an earlier run or make room for a new one, and say how long it takes."""
        found = None if resume_from is None else _last_checkpoint(Path(resume_from))
        if found is not None:
            self._take_up(found)
        else:
            if resume_from is not None:
                announce(f"No checkpoint in {resume_from} yet: starting from the beginning.")
            if self.config.checkpoint_dir is not None:
                moved = move_to_previous(self.config.checkpoint_dir)
                if moved is not None:
                    announce(f"Checkpoints of an earlier run are now in {moved}.")
        if self.history.source != MNIST:
            announce(f"All accuracies below are of the {self.history.source}.")
        epochs_left = self.config.epochs - len(self.history)
        if epochs_left > 0:
            seconds = self._estimate_seconds()
            announce(
                f"{epochs_left} epochs on {self.device}: about {in_words(seconds)} each, "
                f"{in_words(seconds * epochs_left)} in all."
            )

    def _take_up(self, path: Path) -> None:
        checkpoint = load_checkpoint(path, map_location=self.device)
        missing = [key for key in EXTRAS if key not in checkpoint]
        if missing:
            raise CheckpointError(f"{path} lacks {', '.join(missing)}: a run cannot go on from it")
        differences = self.config.differences(checkpoint["config"])
        if checkpoint["data"] != self.history.source:
            differences.append(f"data: {checkpoint['data']!r} then, {self.history.source!r} now")
        if differences:
            raise CheckpointError(
                f"{path} comes from another configuration ({'; '.join(differences)}): "
                "use the same settings, or start a new run"
            )
        try:
            self.model.load_state_dict(checkpoint["model_state_dict"])
            self.optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} holds another network: {error}") from error
        self.history = History.from_records(checkpoint["history"], self.history.source)
        self.run_id = checkpoint["run_id"]
        restore_random_states(checkpoint["random_states"])
        done = len(self.history)
        if done >= self.config.epochs:
            announce(f"{path}: all {self.config.epochs} epochs are finished; nothing to do.")
        else:
            announce(f"Going on after epoch {done}, from {path}. So far:")
            for r in self.history:
                announce(f"Epoch {r.epoch:2}/{self.config.epochs} {_outcome(r)}")

    def _estimate_seconds(self) -> float:
        """Time three steps on a copy of the model, and reckon an epoch from them."""
        with torch.random.fork_rng():  # a loader draws random numbers, and so does dropout
            images, labels = next(iter(self.train_loader))
            images, labels = images.to(self.device), labels.to(self.device)
            model = copy.deepcopy(self.model).train()
            for step in range(3):
                if step == 1:  # the first one sets things up
                    started = time.perf_counter()
                self.loss_fn(model(images), labels).backward()
                _ = next(model.parameters()).grad.sum().item()  # wait for the device
        step_seconds = (time.perf_counter() - started) / 2
        # Testing goes forward only: about a third of the work.
        testing = step_seconds / 3 * len(self.test_loader.dataset) / len(labels)
        return step_seconds * len(self.train_loader) + testing

    def one_epoch(self, epoch: int) -> EpochRecord:
        """Train, test, save and show one epoch, counted from 1."""
        if hasattr(self.train_loader.sampler, "set_epoch"):
            self.train_loader.sampler.set_epoch(epoch)
        bar = open_bar(f"Epoch {epoch:2}/{self.config.epochs}", len(self.train_loader))
        text = "stopped"
        try:
            started = time.perf_counter()
            train = train_one_epoch(
                self.model, self.train_loader, self.loss_fn, self.optimizer, self.device, bar
            )
            trained = time.perf_counter()
            bar.set_postfix_str(in_training(*train) + " testing...")
            test = evaluate(self.model, self.test_loader, self.loss_fn, self.device)
            tested = time.perf_counter()
            record = EpochRecord(
                epoch=epoch,
                lr=self.optimizer.param_groups[0]["lr"],
                train_loss=train.loss,
                train_accuracy=train.accuracy,
                test_loss=test.loss,
                test_accuracy=test.accuracy,
                train_seconds=trained - started,
                test_seconds=tested - trained,
            )
            best = self._finish(record)
            text = _outcome(record) + " best" * best
        finally:
            close_bar(bar, text)
        return record

    def _finish(self, record: EpochRecord) -> bool:
        """Enter an epoch into the history and save it; tell whether it is the best."""
        before = self.history.best
        improved = before is None or record.test_accuracy > before.test_accuracy
        self.history.append(record)
        if self.config.checkpoint_dir is not None:
            checkpoint = self._checkpoint(record)
            # The best first: stopped between the two, a resume repeats the epoch and
            # writes both, while the other way round the best would stay the old one.
            if improved:
                save_checkpoint(self.config.checkpoint_dir / BEST_NAME, checkpoint)
            save_checkpoint(self.config.checkpoint_dir / epoch_name(record.epoch), checkpoint)
        return improved

    def _checkpoint(self, record: EpochRecord) -> dict[str, Any]:
        return {
            "epoch": record.epoch,
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "train_accuracy": record.train_accuracy,
            "test_accuracy": record.test_accuracy,
            "history": self.history.to_records(),
            "random_states": random_states(),
            "config": self.config.to_dict(),
            "data": self.history.source,
            "run_id": self.run_id,
        }

    def saved(self) -> str:
        """Say which checkpoint is the last whole one."""
        folder = self.config.checkpoint_dir
        if folder is None or not len(self.history):
            return "No checkpoint was saved."
        return f"The last checkpoint is {folder / epoch_name(len(self.history))}."


def _last_checkpoint(path: Path) -> Path | None:
    """Return the checkpoint that a path means: itself, or the last one of a folder."""
    if path.is_dir():
        return next(reversed(epoch_checkpoints(path)), None)
    if path.suffix == ".pth":
        return path
    return None


def _outcome(record: EpochRecord) -> str:
    """Say what an epoch reached, as its bar says it in the end."""
    training = in_training(record.train_loss, record.train_accuracy)
    return f"{training} test {record.test_accuracy:.2%}"
