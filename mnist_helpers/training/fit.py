"""A whole training run: start it or resume it, epoch after epoch, stop it and lose nothing."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from mnist_helpers.config import DataSource, ResolvedConfig, TrainConfig
from mnist_helpers.data.digits import hold_back, size_of, source_of
from mnist_helpers.data.loaders import check_loader, make_loader
from mnist_helpers.errors import CheckpointError
from mnist_helpers.history import EpochRecord, History
from mnist_helpers.machine import distributed, hardware
from mnist_helpers.machine.progress import Bar, announce, close_bar, open_bar, with_progress
from mnist_helpers.training import folder as files
from mnist_helpers.training import step
from mnist_helpers.training.checkpoint import save_checkpoint
from mnist_helpers.training.optimizer import Optimization
from mnist_helpers.training.step import evaluate, train_one_epoch


def fit(
    model: nn.Module, train_set: Dataset[Any], test_set: Dataset[Any],
    config: TrainConfig | None = None, *, resume_from: str | Path | None = None,
    on_epoch_end: Callable[[EpochRecord], None] | None = None,
) -> History:  # fmt: skip
    """Train, with a bar per epoch; test and save after each. Ctrl-C ends it, finished epochs kept.

    Parameters
    ----------
    model
        Changed in place, and moved to the device. It ends with the weights that were tested,
        unless it is stopped in the middle of an epoch.
    train_set, test_set
        As `load_mnist` returns them, or anything else with a length that gives (image, label)
        by index: a normalised float32 image (1, 28, 28), a label from 0 to 9.
    config
        The recipe. With a `checkpoint_dir`, each epoch is saved there as
        `mnist_model_epoch_X.pth`, and as `best_mnist_model.pth` whenever validation accuracy
        (or, without `validation`, test accuracy) improves; an older run moves to `previous/`.
    resume_from
        A checkpoint, or a folder (its last one; if there is none, a new run starts): go on,
        to the bit, as if the run had never stopped. `config.epochs` may have grown.
    on_epoch_end
        Called with the record of each epoch, after it is saved.

    Raises
    ------
    ConfigError, InputError, TrainingError, CheckpointError
        The recipe can't be run here; the data are not what the network takes; the loss is not
        a number; a checkpoint can't be read or written, or belongs to another recipe or data.
    """
    run = Run(model, train_set, test_set, (config or TrainConfig()).resolved())
    try:
        run.start(resume_from)
        run.train(on_epoch_end)
    except KeyboardInterrupt:
        run.history.interrupted = True
        announce(f"\nStopped. Finished epochs: {len(run.history)}. {run.saved()}")
    run.optimization.finish()
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
        self.data = {  # what affects the result, in addition to the recipe
            "source": source_of(train_set).value,
            "test_source": source_of(test_set).value,
            "train_size": size_of(train_set),
            "test_size": size_of(test_set),
            "processes": distributed.world_size(),  # they add up in another order
        }
        measured = {"test": test_set}
        if self.recipe.validation:
            with hardware.random_states_kept():  # looking at data may draw from any of them
                train_set, part = hold_back(train_set, self.recipe.validation, self.recipe.seed)
            measured = {"validation": part, **measured}
        self.train_loader = make_loader(train_set, config, train=True)
        self.measured = {
            which: make_loader(dataset, config, train=False) for which, dataset in measured.items()
        }
        self.model = hardware.place(model, config.device, config.memory_format)
        self.loss_fn = nn.CrossEntropyLoss()
        self.optimization = Optimization(self.model, config, len(self.train_loader))
        self.working_model = distributed.wrap_ddp(self.model, self.train_loader.dataset)

    def start(self, resume_from: str | Path | None) -> None:
        """Resume an earlier run, check the data, and make room for a new one."""
        folder = self.folder if distributed.rank() == 0 else None
        if folder is not None:
            files.make_ready(folder)
        found = None
        if resume_from is not None:
            found = files.find_checkpoint(Path(resume_from), self.folder)
        if not distributed.agree(found and (found[1]["epoch"], found[1].get("run_id"))):
            raise CheckpointError(
                f"the processes see different checkpoints in {resume_from}; use a shared folder"
            )
        if found is not None:
            self._resume(*found)
        elif resume_from is not None:
            announce(f"No checkpoint in {resume_from} yet: starting from the beginning.")
        with hardware.random_states_kept():
            for which, loader in {"training": self.train_loader, **self.measured}.items():
                check_loader(loader, which)
        if folder is not None:
            self._tidy(folder, None if found is None else found[0].parent)
        if self.history.source != DataSource.MNIST:
            announce(f"All accuracies below are on {self.history.source.words}.")

    def _resume(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """Restore weights, momentum, averages, history and random generators."""
        files.check_fits(path, checkpoint, self.config, self.data)
        history = files.read_history(path, checkpoint, self.history.source)
        self.optimization.load(checkpoint, path)
        try:
            hardware.restore_random_states(checkpoint["random_states"])
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        self.history, self.run_id = history, checkpoint["run_id"]
        if len(history) >= self.recipe.epochs:
            announce(f"{path}: all {self.recipe.epochs} epochs are finished; nothing to do.")
            return
        announce(f"Going on after epoch {len(history)}, from {path}. So far:")
        for record in history:
            announce(f"Epoch {record.epoch:2}/{self.recipe.epochs} {_outcome(record)}")

    def _tidy(self, folder: Path, resumed_from: Path | None) -> None:
        """Move an older run aside, and see that the best checkpoint is this run's."""
        if resumed_from is None or resumed_from.resolve() != folder.resolve():
            moved = files.move_to_previous(folder)
            if moved is not None:
                announce(f"Checkpoints of an earlier run are now in {moved}.")
        if resumed_from is not None and self.history.best is not None:
            files.repair_best(folder, resumed_from, self.history.best.epoch, self.run_id)

    def train(self, on_epoch_end: Callable[[EpochRecord], None] | None) -> None:
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
                on_epoch_end(record)

    def saved(self) -> str:
        """Say which checkpoint is the last one."""
        if self.folder is None or not len(self.history):
            return "No checkpoint was saved."
        return f"The last checkpoint is {self.folder / files.epoch_name(len(self.history))}."

    def _one_epoch(self, epoch: int, epochs_like_it: int) -> EpochRecord:
        """Train, test, save and show one epoch, counted from 1."""
        if hasattr(self.train_loader.sampler, "set_epoch"):
            self.train_loader.sampler.set_epoch(epoch)
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
            measured = {which: self._measure(which, bar, train) for which in self.measured}
            numbers = {"train_loss": train.loss, "train_accuracy": train.accuracy}
            for which, metrics in measured.items():
                numbers |= {f"{which}_loss": metrics.loss, f"{which}_accuracy": metrics.accuracy}
            numbers["train_seconds"] = trained - started
            numbers["test_seconds"] = time.perf_counter() - trained
            lr = optimization.optimizer.param_groups[0]["lr"]
            record = EpochRecord(epoch=epoch, lr=lr, **numbers)
            text = _outcome(record) + " best" * self._finish(record)
        finally:
            close_bar(bar, text)
        step.warn_if_stuck(epoch, steps, train.loss)
        return record

    def _measure(self, which: str, bar: Bar, train: step.Metrics) -> step.Metrics:
        loader = self.measured[which]
        text = step.training_text(*train) + (" testing" if which == "test" else " validating")
        batches = with_progress(loader, len(loader), bar, text)
        return evaluate(self.optimization.tested, batches, self.loss_fn, which)

    def _finish(self, record: EpochRecord) -> bool:
        """Enter an epoch into the history and save it; return whether it is the best."""
        before = self.history.best
        improved = before is None or record.score > before.score
        if self.folder is not None and distributed.rank() == 0:
            checkpoint = self._checkpoint(record)
            # The best first: if the run stops between the two, a resume repeats the epoch.
            if improved:
                save_checkpoint(self.folder / files.BEST_NAME, checkpoint)
            save_checkpoint(self.folder / files.epoch_name(record.epoch), checkpoint)
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
            "run_id": self.run_id,
        }


def _outcome(record: EpochRecord) -> str:
    """Say what an epoch reached, as its bar says it at the end."""
    test = f"test {record.test_accuracy:.2%}"
    if record.validation_accuracy is None:
        return f"{step.training_text(record.train_loss, record.train_accuracy)} {test}"
    return f"train {record.train_accuracy:.2%} val {record.validation_accuracy:.2%} {test}"
