"""How long an epoch will take, from a few steps that change nothing."""

import copy
import time

import torch
from torch import nn

from mnist_helpers import workers
from mnist_helpers.batches import Loader
from mnist_helpers.loop import LossFn, lower_precision


def estimate_seconds(
    model: nn.Module,
    train_loader: Loader,
    test_loader: Loader,
    loss_fn: LossFn,
    device: torch.device,
    precision: str,
) -> float:
    """Time three steps on a copy of the model, and reckon an epoch from them."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # a loader draws random numbers, and so does dropout
        images, labels = next(iter(train_loader))
        images, labels = images.to(device), labels.to(device)
        model = copy.deepcopy(model).train()
        for step in range(3):
            if step == 1:  # the first one sets things up
                started = time.perf_counter()
            with lower_precision(device, precision):
                logits = model(images)
            loss_fn(logits.float(), labels).backward()
            if device.type != "cpu":
                torch.accelerator.synchronize(device)  # its work is only queued
    step_seconds = (time.perf_counter() - started) / 2
    # Testing goes forward only: about a third of the work, where the precision is the same.
    batch = len(labels) * workers.count()
    testing = step_seconds / 3 * len(test_loader.dataset) / batch
    return step_seconds * len(train_loader) + testing
