"""One training run: taking it up, its epochs, and what is saved of them."""

import dataclasses
import time
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mnist_helpers import workers
from mnist_helpers.batches import Loader
from mnist_helpers.checkpoints import save_checkpoint
from mnist_helpers.checks import check_batch, warn_if_stuck
from mnist_helpers.config import MNIST, TrainConfig
from mnist_helpers.errors import CheckpointError, ConfigError
from mnist_helpers.estimate import estimate_seconds
from mnist_helpers.hardware import MEMORY_FORMATS
from mnist_helpers.history import EpochRecord, History
from mnist_helpers.loop import evaluate, in_training, train_one_epoch
from mnist_helpers.progress import announce, close_bar, in_words, open_bar, watched
from mnist_helpers.resume import check_fits, find, history_in, mend_best
from mnist_helpers.runfolder import BEST_NAME, epoch_name, make_ready, move_to_previous
from mnist_helpers.state import random_states, restore_random_states
from mnist_helpers.update import Update


class Run:
    """What belongs to one training run; `fit` drives it."""

    def __init__(
        self,
        model: nn.Module,
        train_loader: Loader,
        test_loader: Loader,
        config: TrainConfig,
    ) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.model = model.to(self.device, memory_format=MEMORY_FORMATS[config.memory_format])
        self.train_loader, self.test_loader = train_loader, test_loader
        self.loss_fn = nn.CrossEntropyLoss()
        self.update = Update(self.model, config, len(train_loader))
        share = getattr(train_loader, "share", None)
        if workers.count() > 1 and share is None:
            raise ConfigError("several processes need the loaders of make_loaders: use them")
        self.working_model = workers.together(self.model, share)  # all processes' at once
        self.history = History(source=getattr(train_loader.dataset, "source", MNIST))
        self.run_id = uuid.uuid4().hex
        self.loaders = {  # what of them decides the result, besides the configuration
            "train_size": len(train_loader.dataset),
            "test_size": len(test_loader.dataset),
            "batch_size": train_loader.batch_size,
            "order_seed": getattr(train_loader.sampler, "seed", None),
            "processes": workers.count(),  # they add up in another order
        }

    def start(self, resume_from: str | Path | None) -> None:
        """Take up an earlier run or make room for a new one, and say how long it takes."""
        folder = self.config.checkpoint_dir
        writes = folder is not None and workers.rank() == 0
        if writes:
            make_ready(folder)
        found = None if resume_from is None else find(Path(resume_from), folder)
        if not workers.agree(found and (found[1]["epoch"], found[1].get("run_id"))):
            raise CheckpointError(
                f"the processes do not see the same checkpoints in {resume_from}; share a folder"
            )
        if found is not None:
            self._take_up(*found)
        elif resume_from is not None:
            announce(f"No checkpoint in {resume_from} yet: starting from the beginning.")
        if writes and (found is None or found[0].parent.resolve() != folder.resolve()):
            moved = move_to_previous(folder)
            if moved is not None:
                announce(f"Checkpoints of an earlier run are now in {moved}.")
        if writes and found is not None:
            mend_best(folder, found[0].parent, self.history.best.epoch, self.run_id)
        if self.history.source != MNIST:
            announce(f"All accuracies below are of the {self.history.source}.")
        if len(self.history) < self.config.epochs:
            self._look_ahead(self.config.epochs - len(self.history))

    def _look_ahead(self, epochs: int) -> None:
        """Check the first batches, and say how long the epochs to come will take."""
        check_batch(self.train_loader, "training")
        check_batch(self.test_loader, "test")
        one = estimate_seconds(
            self.model, self.train_loader, self.test_loader,
            self.loss_fn, self.device, self.config.precision,
        )  # fmt: skip
        several = f" in {workers.count()} processes" if workers.count() > 1 else ""
        where = f"{self.device}{several}, {self.config.precision}"
        count = f"{epochs} epoch{'s' * (epochs > 1)} on {where}"
        announce(f"{count}: about {in_words(one)} each, {in_words(one * epochs)} in all.")

    def _take_up(self, path: Path, checkpoint: dict[str, Any]) -> None:
        check_fits(path, checkpoint, self.config, self.history.source, self.loaders)
        history = history_in(path, checkpoint)
        self.update.load(checkpoint, path)
        self.history = history
        self.run_id = checkpoint["run_id"]
        try:
            restore_random_states(checkpoint["random_states"])
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        done = len(self.history)
        if done >= self.config.epochs:
            announce(f"{path}: all {self.config.epochs} epochs are finished; nothing to do.")
        else:
            announce(f"Going on after epoch {done}, from {path}. So far:")
            for r in self.history:
                announce(f"Epoch {r.epoch:2}/{self.config.epochs} {_outcome(r)}")

    def one_epoch(self, epoch: int) -> EpochRecord:
        """Train, test, save and show one epoch, counted from 1."""
        if hasattr(self.train_loader.sampler, "set_epoch"):
            self.train_loader.sampler.set_epoch(epoch)
        bar = open_bar(f"Epoch {epoch:2}/{self.config.epochs}", len(self.train_loader))
        text = "stopped"
        try:
            started = time.perf_counter()
            train = train_one_epoch(
                self.working_model, self.train_loader, self.loss_fn, self.update.optimizer,
                self.device, bar, precision=self.config.precision, scaler=self.update.scaler,
                after_step=self.update.after_step,
            )  # fmt: skip
            trained = time.perf_counter()
            text_so_far = in_training(*train) + " testing"
            batches = watched(self.test_loader, len(self.test_loader), bar, text_so_far)
            test = evaluate(self.update.tested, batches, self.loss_fn, self.device)
            tested = time.perf_counter()
            record = EpochRecord(
                epoch=epoch,
                lr=self.update.optimizer.param_groups[0]["lr"],
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
        warn_if_stuck(record, len(self.train_loader))
        return record

    def _finish(self, record: EpochRecord) -> bool:
        """Enter an epoch into the history and save it; tell whether it is the best."""
        before = self.history.best
        improved = before is None or record.test_accuracy > before.test_accuracy
        if self.config.checkpoint_dir is not None and workers.rank() == 0:
            checkpoint = self._checkpoint(record)
            # The best first: stopped between the two, a resume repeats the epoch.
            if improved:
                save_checkpoint(self.config.checkpoint_dir / BEST_NAME, checkpoint)
            save_checkpoint(self.config.checkpoint_dir / epoch_name(record.epoch), checkpoint)
        self.history.append(record)
        return improved

    def _checkpoint(self, record: EpochRecord) -> dict[str, Any]:
        return {
            "epoch": record.epoch,
            **self.update.state(),
            "train_accuracy": record.train_accuracy,
            "test_accuracy": record.test_accuracy,
            "history": [*self.history.to_records(), dataclasses.asdict(record)],
            "random_states": random_states(),
            "config": self.config.to_dict(),
            "data": self.history.source,
            "loaders": self.loaders,
            "run_id": self.run_id,
        }

    def saved(self) -> str:
        """Say which checkpoint is the last one."""
        if self.config.checkpoint_dir is None or not len(self.history):
            return "No checkpoint was saved."
        last = self.config.checkpoint_dir / epoch_name(len(self.history))
        return f"The last checkpoint is {last}."


def _outcome(record: EpochRecord) -> str:
    """Say what an epoch reached, as its bar says it in the end."""
    training = in_training(record.train_loss, record.train_accuracy)
    return f"{training} test {record.test_accuracy:.2%}"
