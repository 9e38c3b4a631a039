"""The weights in anybody's file, and the published ones."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_helpers.config import as_path
from mnist_helpers.errors import CheckpointError
from mnist_helpers.model import MnistCNN
from mnist_helpers.training.checkpoint import checked, differences, load_weights, read_file

#: The published weights, made by experiments/pretrain.py; the model card is beside them.
PRETRAINED = Path(__file__).resolve().parents[2] / "model_checkpoints" / "pretrained_mnist_cnn.pth"
# Where other programs keep weights, and what PyTorch's wrappers put into the names of them.
FOREIGN_KEYS = ("model_state_dict", "state_dict", "model", "net", "weights")
WRAPPERS = re.compile(r"\b(module|_orig_mod)\.")


def take_weights(model: nn.Module, path: str | Path) -> str:
    """Load a file's weights into a model, also those of other programs; say what they are.

    A checkpoint of this package is checked as by `load_checkpoint`. In any other file, the state
    dict may stand alone or under one of `FOREIGN_KEYS`; wrappers' prefixes are dropped. Layers of
    other names are matched by order if all shapes fit; if not, a CheckpointError names them.
    """
    path = as_path(path)
    loaded = read_file(path, torch.device("cpu"))
    if isinstance(loaded, dict) and {"digest", "model_state_dict"} <= loaded.keys():
        checkpoint = checked(path, loaded)
        load_weights(model, checkpoint, path)
        return f"epoch {checkpoint['epoch']}"
    wanted = model.state_dict()
    try:
        weights = {WRAPPERS.sub("", name): weight for name, weight in _find_weights(path, loaded)}
        weights.pop("n_averaged", None)  # torch.optim.swa_utils counts there
        found = {n: w.to(torch.float32) if w.is_floating_point() else w for n, w in weights.items()}
        if not all(weight.isfinite().all() for weight in found.values()):
            raise CheckpointError(f"{path} has weights that are NaN or infinite")
        first = next(iter(wanted))  # a part of a larger model has a prefix before all names
        prefixes = [name.removesuffix(first) for name in found if name.endswith(first)]
        fits = [p for p in prefixes if {p + name for name in wanted} == found.keys()]
        in_order = dict(zip(wanted, found.values(), strict=False))
        taken = {name: found[fits[0] + name] for name in wanted} if fits else in_order
        if len(found) != len(wanted) or differences(taken, wanted):
            raise CheckpointError(
                f"the weights in {path} don't fit this network: {differences(found, wanted)}. "
                "Build the network they belong to, and load them into it with load_state_dict"
            )
        model.load_state_dict(taken)
    except CheckpointError:
        raise
    except Exception as error:  # anybody's file may hold anything
        raise CheckpointError(f"{path} holds no weights that can be used: {error}") from error
    by_order = ", matched by order because the names of its layers differ"
    return f"weights from another program{'' if fits else by_order}"


def load_pretrained() -> MnistCNN:
    """Return the network with the published weights, `PRETRAINED`, in evaluation mode.

    Raises CheckpointError if they are missing, as in a package installed without its project.
    """
    model = MnistCNN()
    take_weights(model, PRETRAINED)
    return model.eval()


def _find_weights(path: Path, loaded: Any) -> list[tuple[str, Tensor]]:
    whole = loaded if isinstance(loaded, dict) else {}
    for place in [whole, *(whole.get(key) for key in FOREIGN_KEYS)]:
        items = list(place.items()) if isinstance(place, Mapping) else []
        if items and all(isinstance(weight, Tensor) for _, weight in items):
            return [(str(name), weight) for name, weight in items]
    raise CheckpointError(
        f"{path} contains no state_dict, on its own or under {', '.join(FOREIGN_KEYS)}; save "
        "`model.state_dict()`"
    )
