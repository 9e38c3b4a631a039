"""SGD and what goes with it: schedule of the learning rate, clipping, averaged weights, scaler."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mnist_helpers.config import ResolvedConfig, TrainConfig
from mnist_helpers.errors import CheckpointError, ConfigError
from mnist_helpers.machine.hardware import check_for_stop
from mnist_helpers.training.checkpoint import SCALER, TRAINED, load_weights


class Optimization:
    """The optimizer of a run and what goes with it, all of it PyTorch's own.

    `optimizer` is SGD; `scheduler` moves its learning rate and `average` is the averaged
    model, each None if the recipe has none; `scaler` keeps float16 gradients from vanishing.
    `steps` are those of one epoch.
    """

    def __init__(self, model: nn.Module, config: ResolvedConfig, steps: int) -> None:
        recipe = config.recipe
        self.model = model
        self.optimizer = SGD(
            model.parameters(), lr=recipe.lr, momentum=recipe.momentum,
            weight_decay=recipe.weight_decay, nesterov=recipe.nesterov,
        )  # fmt: skip
        self._clip_norm = recipe.clip_norm
        if recipe.clip_norm:  # a hook sees what a step takes: unscaled, summed over processes
            self.optimizer.register_step_pre_hook(self._clip)
        self.steps = steps
        self.scheduler = _one_cycle(self.optimizer, recipe, steps)
        # Not AveragedModel, whose count on the CPU waits for a GPU at every step; same arithmetic.
        self.average = copy.deepcopy(model) if recipe.average else None
        self._fade = get_ema_multi_avg_fn(recipe.average)  # type: ignore[no-untyped-call]
        self._has_begun = False
        self.scaler = GradScaler(config.device.type, enabled=config.precision == "float16")

    @property
    def tested(self) -> nn.Module:
        """The model to test and to keep: the averaged one, if there is one."""
        return self.model if self.average is None else self.average

    def _clip(self, *_: Any) -> None:
        """Shorten a long gradient: at a high rate it could undo all that was learned."""
        clip_grad_norm_(self.model.parameters(), self._clip_norm)

    def after_step(self) -> None:
        """Move learning rate and average after each step, unless somebody has asked to stop."""
        check_for_stop()
        if self.scheduler is not None:
            with warnings.catch_warnings():
                if self.scaler.is_enabled():  # it skips steps whose float16 gradients overflow
                    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.scheduler.step()
        if self.average is not None:
            self._move_average(self.average)

    @torch.no_grad()
    def _move_average(self, average: nn.Module) -> None:
        old: list[Tensor] = list(average.parameters())
        new: list[Tensor] = list(self.model.parameters())
        if self._has_begun:
            self._fade(old, new, None)  # how many were averaged makes no difference
        else:
            torch._foreach_copy_(old, new)
            self._has_begun = True
        for ours, theirs in zip(average.buffers(), self.model.buffers(), strict=True):
            ours.copy_(theirs)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        state = {
            "model_state_dict": dict(self.tested.state_dict()),
            "optimizer_state_dict": self.optimizer.state_dict(),
        }
        if self.average is not None:
            state[TRAINED] = dict(self.model.state_dict())
        if self.scaler.is_enabled():
            state[SCALER] = self.scaler.state_dict()
        return state

    def load(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        """Put it back to where `state` found it, or raise CheckpointError."""
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


def load_optimizer(optimizer: Optimizer, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Put back momentum and lr; unlike PyTorch, check that they belong to these parameters."""
    fresh = copy.deepcopy(optimizer.state_dict()["param_groups"])
    try:
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        if optimizer.state_dict()["param_groups"] != fresh:
            raise ValueError("its learning rate or momentum differs")
        buffers = {p: s.get("momentum_buffer") for p, s in optimizer.state.items()}
        if optimizer.defaults["momentum"] and not any(b is not None for b in buffers.values()):
            raise ValueError("momentum is missing")  # of a frozen layer it may be
        for parameter, buffer in buffers.items():
            if buffer is not None:
                if buffer.shape != parameter.shape or not buffer.isfinite().all():
                    raise ValueError(f"a momentum of shape {tuple(buffer.shape)}, or not finite")
                # Into memory of its own: what a file holds may overlap itself.
                own = torch.empty_like(parameter).copy_(buffer)
                optimizer.state[parameter]["momentum_buffer"] = own
    except Exception as error:  # what a file holds may make PyTorch raise nearly anything
        raise CheckpointError(f"{path} holds the state of another optimizer: {error}") from error


def _one_cycle(optimizer: SGD, recipe: TrainConfig, steps: int) -> LRScheduler | None:
    if recipe.schedule == "constant":
        return None
    total = recipe.epochs * steps + 1  # so that the very last step still has a rate above 0
    if total * recipe.warmup <= 1:
        raise ConfigError(
            f"one_cycle has no step to rise in: {total - 1} steps, a warmup of {recipe.warmup:g}; "
            "take smaller batches, more epochs or a schedule of 'constant'"
        )
    return OneCycleLR(
        optimizer, max_lr=recipe.lr, total_steps=total, pct_start=recipe.warmup,
        div_factor=1 / recipe.start, cycle_momentum=False,
    )  # fmt: skip
