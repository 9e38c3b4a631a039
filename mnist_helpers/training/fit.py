"""A whole training run: start it or resume it, epoch after epoch, stop it and lose nothing."""

import contextlib
import copy
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from mnist_helpers.config import DataSource, ResolvedConfig, TrainConfig, as_path
from mnist_helpers.data.digits import identity_of, source_of
from mnist_helpers.data.loaders import check_loader, make_loaders
from mnist_helpers.errors import CheckpointError
from mnist_helpers.history import EpochRecord, History, training_text
from mnist_helpers.machine import distributed, hardware
from mnist_helpers.machine.progress import Bar, announce, close_bar, open_bar, with_progress
from mnist_helpers.model import try_network
from mnist_helpers.training import folder as files
from mnist_helpers.training import step
from mnist_helpers.training.checkpoint import save_checkpoint
from mnist_helpers.training.optimizer import Optimization
from mnist_helpers.training.step import evaluate, train_one_epoch

OnEpochEnd = Callable[[EpochRecord], None] | None


def fit(
    model: nn.Module, train_set: Dataset[Any], test_set: Dataset[Any],
    config: TrainConfig | None = None, *, resume_from: str | Path | None = None,
    on_epoch_end: OnEpochEnd = None,
) -> History:  # fmt: skip
    """Train, with a bar per epoch; test and save after each. Ctrl-C ends it, finished epochs kept.

    Parameters
    ----------
    model
        Changed in place, and moved to the device. However the run ends, it is left with the
        weights tested last; if none were, with those it came with.
    train_set, test_set
        As `load_mnist` returns them, or anything else with a length that gives (image, label)
        by index: a normalised float32 image (1, 28, 28), a label from 0 to 9.
    config
        The recipe. With a `checkpoint_dir`, each epoch is saved there as
        `mnist_model_epoch_X.pth`, and as `best_mnist_model.pth` whenever validation accuracy
        (or, without `validation`, test accuracy) improves; an older run moves to `previous/`.
    resume_from
        A checkpoint, or a folder (its last one; if there is none, a new run starts): go on to
        the bit, with the global random generators. `config.epochs` may have grown.
    on_epoch_end
        Called with the record of each epoch, after it is saved.

    Raises
    ------
    ConfigError, InputError, TrainingError, CheckpointError
        The recipe can't be run here; the data or the network don't fit; the loss is not a number;
        a checkpoint can't be read or written, or is of another run, which may still be going on.
    """
    run = Run(model, train_set, test_set, (config or TrainConfig()).resolved())
    run.go(None if resume_from is None else as_path(resume_from), on_epoch_end)
    return run.history


class Run:
    """What belongs to one training run; `fit` drives it."""

    def __init__(
        self, model: nn.Module, train_set: Dataset[Any], test_set: Dataset[Any],
        config: ResolvedConfig,
    ) -> None:  # fmt: skip
        self.config, self.recipe = config, config.recipe
        self.folder = self.recipe.checkpoint_dir
        self.run_id = uuid.uuid4().hex
        self.history = History(source=source_of(test_set))
        self.sets = {"train": train_set, "test": test_set}
        # What affects the result, in addition to the recipe; processes add up in another order.
        self.data: dict[str, Any] = {"processes": distributed.world_size()}
        with hardware.random_states_kept():  # looking at data may draw from any of them
            self.test_loaders = make_loaders(train_set, test_set, config)
        self.train_loader = self.test_loaders.pop("training")
        self.model = hardware.place(model, config.device, config.memory_format)
        self.loss_fn = nn.CrossEntropyLoss()
        self.optimization = Optimization(self.model, config, len(self.train_loader))
        self.working_model = distributed.wrap_ddp(self.model, self.train_loader.dataset)
        self.tested_last = copy.deepcopy(self.model.state_dict())

    def go(self, resume_from: Path | None, on_epoch_end: OnEpochEnd) -> None:
        """Run until the last epoch, or until somebody stops it."""
        with contextlib.ExitStack() as self.lock:
            try:
                self.take_folder()
                self.start(resume_from)
                self.train(on_epoch_end)
            except (KeyboardInterrupt, Exception) as error:
                # C code may turn an interrupt into an error of its own.
                if not (isinstance(error, KeyboardInterrupt) or hardware.stop_requested.is_set()):
                    raise
                self.history.interrupted = True
                announce(f"\nStopped. Finished epochs: {len(self.history)}. {self.saved()}")
            finally:
                self.model.load_state_dict(self.tested_last)

    def take_folder(self) -> None:
        """Lock the folder until the run ends, and see that it takes a checkpoint."""
        try_network(self.model, self.config.device)
        with distributed.rank_zero_first():
            if self.folder is not None and distributed.rank() == 0:
                self.lock_id = self.lock.enter_context(files.owned(self.folder))
                trial = self._checkpoint(EpochRecord(1, *[0.0] * 7))
                save_checkpoint(self.folder / files.TRIAL_NAME, trial).unlink()

    def start(self, resume_from: Path | None) -> None:
        """Resume an earlier run, or make room for a new one."""
        found = None if resume_from is None else files.find_checkpoint(resume_from)
        if not distributed.agree(found and (found[1]["epoch"], found[1].get("run_id"))):
            raise CheckpointError(
                f"the processes see different checkpoints in {resume_from}; use a shared folder"
            )
        if found is not None:
            self.history = files.read_history(*found, self.history.source)
        elif resume_from is not None:
            announce(f"No checkpoint in {resume_from} yet: starting from the beginning.")
        with hardware.random_states_kept():
            for which, loader in {"training": self.train_loader, **self.test_loaders}.items():
                check_loader(loader, which)
            for which, dataset in self.sets.items():
                self.data |= identity_of(dataset, which)
        if found is not None:
            self._resume(*found)
        if self.folder is not None and distributed.rank() == 0:
            self._tidy(self.folder, None if found is None else found[0].parent)
        if self.history.source != DataSource.MNIST:
            announce(f"All accuracies below are on {self.history.source.words}.")

    def _resume(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """Restore weights, momentum, averages and random generators."""
        files.check_fits(path, checkpoint, self.config, self.data)
        self.optimization.load(checkpoint, path)
        hardware.restore_random_states(checkpoint["random_states"], path)
        self.run_id = checkpoint["run_id"]
        self.tested_last = copy.deepcopy(self.optimization.tested.state_dict())
        then, now = checkpoint["threads"], torch.get_num_threads()
        if then != now and self.config.device.type == "cpu":
            announce(f"CPU threads: {then} before, {now} now. The last decimals may differ.")
        if (done := len(self.history)) >= self.recipe.epochs:
            announce(f"{path}: {done} epochs are finished. To go on, ask for more than {done}.")
            return
        announce(f"Going on after epoch {done}, from {path}. So far:")
        for record in self.history:
            announce(f"Epoch {record.epoch:2}/{self.recipe.epochs} {record.outcome()}")

    def _tidy(self, folder: Path, resumed_from: Path | None) -> None:
        """Move an older run aside, and see that the best checkpoint is this run's."""
        is_own = resumed_from is not None and resumed_from.resolve() == folder.resolve()
        moved = files.move_to_previous(folder, self.run_id if is_own else None)
        if moved is not None:
            announce(f"An earlier run is now in {moved}; you may delete it.")
        if resumed_from is not None:
            files.repair_best(folder, resumed_from, self.history)

    def train(self, on_epoch_end: OnEpochEnd) -> None:
        """Run the epochs that are left."""
        left = self.recipe.epochs - len(self.history)
        if left > 0:
            size = distributed.world_size()
            where = f"{self.config.device}{f' in {size} processes' if size > 1 else ''}"
            announce(f"{left} epoch{'s' * (left > 1)} on {where}, {self.config.precision}.")
        for number in range(left):
            # The first bar's speed tells how long the whole run will take.
            record = self._one_epoch(len(self.history) + 1, left if number == 0 else 1)
            if on_epoch_end is not None:
                with hardware.random_states_kept():  # a resumed run won't call it again
                    on_epoch_end(record)

    def saved(self) -> str:
        """Say which checkpoint is the last one."""
        if self.folder is None or not len(self.history):
            return "No checkpoint was saved."
        path = self.folder / files.epoch_name(len(self.history))
        return f"The last checkpoint {f'is {path}' if path.exists() else 'has been deleted'}."

    def _one_epoch(self, epoch: int, epochs_like_it: int) -> EpochRecord:
        """Train, test, save and show one epoch, counted from 1."""
        self.train_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]  # our own
        name, steps = f"Epoch {epoch:2}/{self.recipe.epochs}", len(self.train_loader)
        bar, text = open_bar(name, steps, repeats=epochs_like_it), "stopped"
        optimization = self.optimization
        try:
            started = time.perf_counter()
            train = train_one_epoch(
                self.working_model, self.train_loader, self.loss_fn, optimization.optimizer, bar,
                precision=self.config.precision, scaler=optimization.scaler,
                after_step=optimization.after_step,
            )  # fmt: skip
            trained = time.perf_counter()
            measured = {which: self._measure(which, bar, train) for which in self.test_loaders}
            numbers: dict[str, float] = {}
            for which, metrics in {"train": train, **measured}.items():
                numbers |= {f"{which}_loss": metrics.loss, f"{which}_accuracy": metrics.accuracy}
            numbers["train_seconds"] = trained - started
            numbers["test_seconds"] = time.perf_counter() - trained
            numbers["lr"] = optimization.optimizer.param_groups[0]["lr"]
            record = EpochRecord(epoch=epoch, **numbers)
            text = record.outcome() + " best" * self._finish(record)
        finally:
            close_bar(bar, text)
        step.warn_if_stuck(epoch, steps, train.loss)
        return record

    def _measure(self, which: str, bar: Bar, train: step.Metrics) -> step.Metrics:
        loader = self.test_loaders[which]
        text = training_text(*train) + (" testing" if which == "test" else " validating")
        batches = with_progress(loader, len(loader), bar, text)
        return evaluate(self.optimization.tested, batches, self.loss_fn, which)

    def _finish(self, record: EpochRecord) -> bool:
        """Enter an epoch into the history and save it; return whether it is the best."""
        before = self.history.best
        improved = before is None or record.score > before.score
        if self.folder is not None and distributed.rank() == 0:
            if files.lock_of(self.folder) != self.lock_id:
                announce(f"{self.folder} or its lock was deleted; saving starts there again.")
                self.lock_id = self.lock.enter_context(files.owned(self.folder))
                files.move_to_previous(self.folder, self.run_id)
            checkpoint = self._checkpoint(record)
            # The best first: if the run stops between the two, a resume repeats the epoch.
            if improved:
                save_checkpoint(self.folder / files.BEST_NAME, checkpoint)
            save_checkpoint(self.folder / files.epoch_name(record.epoch), checkpoint)
        self.tested_last = copy.deepcopy(self.optimization.tested.state_dict())
        self.history.append(record)
        return improved

    def _checkpoint(self, record: EpochRecord) -> dict[str, Any]:
        return {
            "epoch": record.epoch,
            **self.optimization.state(),
            "train_accuracy": record.train_accuracy,
            "test_accuracy": record.test_accuracy,
            "history": [*self.history.to_records(), record.to_dict()],
            "random_states": hardware.random_states(),
            "config": self.config.to_dict(),
            "data": self.data,
            "threads": torch.get_num_threads(),
            "run_id": self.run_id,
        }
