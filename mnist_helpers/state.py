"""What a checkpoint restores: weights, momentum, random generators."""

import copy
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from mnist_helpers.errors import CheckpointError


def load_weights(model: nn.Module, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Put a checkpoint's weights into a model.

    Raises
    ------
    CheckpointError
        They are of another network: names, shapes or types differ.
    """
    weights, own = checkpoint["model_state_dict"], model.state_dict()
    if {k: (w.shape, w.dtype) for k, w in weights.items()} != {
        k: (w.shape, w.dtype) for k, w in own.items()
    }:
        raise CheckpointError(f"{path} holds another network: its layers differ from the model's")
    model.load_state_dict(weights)


def load_optimizer(optimizer: Optimizer, checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Put a checkpoint's optimizer state (momentum, lr) into an optimizer.

    Raises
    ------
    CheckpointError
        It belongs to other parameters; PyTorch itself looks at their number alone.
    """
    fresh = copy.deepcopy(optimizer.state_dict()["param_groups"])
    try:
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        if optimizer.state_dict()["param_groups"] != fresh:
            raise ValueError("its learning rate or momentum differs")
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            buffer = optimizer.state[parameter].get("momentum_buffer")
            if optimizer.defaults["momentum"] == 0 and buffer is None:
                continue
            if buffer is None:
                raise ValueError("a momentum is missing")
            if buffer.shape != parameter.shape or not buffer.isfinite().all():
                raise ValueError(f"a momentum of shape {tuple(buffer.shape)}, or not finite")
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} holds the state of another optimizer: {error}") from error


def random_states() -> dict[str, Any]:
    """Return the states of all random generators in types a checkpoint can hold."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put all random generators back to where `random_states` found them.

    Raises
    ------
    CheckpointError
        These are not such states.
    """
    try:
        version, internal, gauss_next = states["python"]
        random.setstate((version, tuple(internal), gauss_next))
        kind, keys, position, has_gauss, gauss = states["numpy"]
        if not 0 <= position <= len(keys):  # NumPy does not look, and reads beyond them
            raise ValueError(f"position {position}")
        np.random.set_state((kind, keys, position, has_gauss, gauss))
        torch.set_rng_state(states["torch"].cpu())
        if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"the random states in a checkpoint are unusable: {error}") from error
