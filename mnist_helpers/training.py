"""A whole training run: epoch after epoch, with bars, checkpoints and a way back in."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from mnist_helpers.batches import Loader
from mnist_helpers.config import TrainConfig
from mnist_helpers.history import EpochRecord, History
from mnist_helpers.loop import evaluate, train_one_epoch
from mnist_helpers.progress import announce
from mnist_helpers.run import Run

__all__ = ["evaluate", "fit", "train_one_epoch"]


def fit(
    model: nn.Module,
    train_loader: Loader,
    test_loader: Loader,
    config: TrainConfig | None = None,
    *,
    resume_from: str | Path | None = None,
    on_epoch_end: Callable[[EpochRecord], None] | None = None,
) -> History:
    """Train for `config.epochs` epochs, testing and saving after each.

    With one bar an epoch; with `mnist_model_epoch_X.pth` after each and
    `best_mnist_model.pth` whenever test accuracy improves, in `config.checkpoint_dir`,
    where an older run's files first move to `previous/`. Stopping it (Ctrl-C, or the
    stop button) ends it with the epochs finished so far.

    Parameters
    ----------
    model
        Changed in place; moved to the device. Where the recipe averages weights, it ends
        with the averaged ones, those that were tested.
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
    InputError
        A loader is empty, or its images and labels are not what the network takes.
    TrainingError
        The loss is infinite or not a number.
    """
    run = Run(model, train_loader, test_loader, (config or TrainConfig()).resolved())
    try:
        run.start(resume_from)
        for epoch in range(len(run.history) + 1, run.config.epochs + 1):
            record = run.one_epoch(epoch)
            if on_epoch_end is not None:
                on_epoch_end(record)
    except KeyboardInterrupt:
        run.history.interrupted = True
        announce(f"\nStopped. Finished epochs: {len(run.history)}. {run.saved()}")
    run.update.finish()
    return run.history
