"""What moves the weights of a run: optimizer, learning rate over time, average."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mnist_helpers.checkpoints import WEIGHTS
from mnist_helpers.config import TrainConfig
from mnist_helpers.errors import CheckpointError, ConfigError
from mnist_helpers.state import load_optimizer, load_weights

TRAINED = WEIGHTS[1]  # the weights that go on learning, where averaged ones are tested
SCALER = "scaler_state_dict"


class Update:
    """The optimizer of a run and what goes with it, all of it PyTorch's own.

    Parameters
    ----------
    model
        Its parameters are moved.
    config
        Resolved.
    steps
        Those of one epoch.

    Attributes
    ----------
    optimizer, scheduler, average, scaler
        SGD; the schedule of its learning rate and the averaged model, each None where the
        recipe has none; what keeps float16 gradients from vanishing.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, steps: int) -> None:
        self.model = model
        self.optimizer = SGD(
            model.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
        self._clip_norm = config.clip_norm
        if config.clip_norm:  # a hook sees what a step takes: unscaled, summed over processes
            self.optimizer.register_step_pre_hook(self._clip)
        self.steps = steps
        self.scheduler = _one_cycle(self.optimizer, config, steps)
        # Not PyTorch's AveragedModel: it keeps its count on the CPU, and waits for a GPU to
        # be told of it at every step. The arithmetic is PyTorch's.
        self.average = copy.deepcopy(model) if config.average else None
        self._fade = get_ema_multi_avg_fn(config.average)
        self._has_begun = False
        device = torch.device(config.device)
        self.scaler = GradScaler(device.type, enabled=config.precision == "float16")

    @property
    def tested(self) -> nn.Module:
        """The model to test and to keep: the averaged one, where there is one."""
        return self.model if self.average is None else self.average

    def _clip(self, *_: Any) -> None:
        """Shorten a long gradient: at a high rate it could undo all that was learned."""
        clip_grad_norm_(self.model.parameters(), self._clip_norm)

    def after_step(self) -> None:
        """Move the learning rate and the average, after each step of the optimizer."""
        if self.scheduler is not None:
            self._move_rate()
        if self.average is not None:
            self._move_average()

    def _move_rate(self) -> None:
        if not self.scaler.is_enabled():
            self.scheduler.step()
            return
        with warnings.catch_warnings():
            # The scaler skips steps whose float16 gradients overflow, as the first may.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.scheduler.step()

    @torch.no_grad()
    def _move_average(self) -> None:
        old, new = list(self.average.parameters()), list(self.model.parameters())
        if self._has_begun:
            self._fade(old, new, None)  # how many were averaged makes no difference
        else:
            torch._foreach_copy_(old, new)
            self._has_begun = True
        for ours, theirs in zip(self.average.buffers(), self.model.buffers(), strict=True):
            ours.copy_(theirs)

    def finish(self) -> None:
        """Leave in the model the weights that were tested."""
        if self.average is not None and self._has_begun:
            self.model.load_state_dict(self.tested.state_dict())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        state = {
            "model_state_dict": self.tested.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
        }
        if self.average is not None:
            state[TRAINED] = self.model.state_dict()
        if self.scaler.is_enabled():
            state[SCALER] = self.scaler.state_dict()
        return state

    def load(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Put it back to where `state` found it, after that many epochs.

        Raises
        ------
        CheckpointError
            The checkpoint is of another network or another optimizer.
        """
        load_weights(self.tested, checkpoint, path)
        if self.average is not None:
            if not isinstance(checkpoint.get(TRAINED), Mapping):
                raise CheckpointError(f"{path} lacks {TRAINED}: a run cannot go on from it")
            load_weights(self.model, {"model_state_dict": checkpoint[TRAINED]}, path)
            self._has_begun = True
        if self.scheduler is not None:
            done = self.steps * checkpoint["epoch"]
            self.scheduler.load_state_dict({"last_epoch": done - 1, "_step_count": done + 1})
            self.scheduler.step()
        load_optimizer(self.optimizer, checkpoint, path)
        if self.scaler.is_enabled():
            try:
                self.scaler.load_state_dict(checkpoint[SCALER])
            except (KeyError, TypeError, RuntimeError) as error:
                raise CheckpointError(f"{path} holds no state of the scaler: {error}") from error


def _one_cycle(optimizer: SGD, config: TrainConfig, steps: int) -> LRScheduler | None:
    if config.schedule == "constant":
        return None
    total = config.epochs * steps + 1  # the last step itself would have a rate of nothing
    if total * config.warmup <= 1:
        raise ConfigError(
            f"one_cycle has no step to rise in: {total - 1} steps, a warmup of {config.warmup:g}; "
            "take smaller batches, more epochs or a schedule of 'constant'"
        )
    return OneCycleLR(
        optimizer,
        max_lr=config.lr,
        total_steps=total,
        div_factor=1 / config.start,
        pct_start=config.warmup,
        cycle_momentum=False,
    )
