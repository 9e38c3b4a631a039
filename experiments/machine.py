"""What the measurements share: the name of a machine, and a clock."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from mnist_helpers.machine.hardware import ISA_VARIABLES


def machine(device: torch.device) -> str:
    """Return what kind of hardware this is, as a reader would name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"MPS of {platform.machine()}"
    able = [
        text
        for text, there in (
            ("AMX", torch.cpu._is_amx_tile_supported()),
            ("AVX-512 bf16", torch.cpu._is_avx512_bf16_supported()),
            ("AVX-512", torch.cpu._is_avx512_supported()),
            ("AVX2", torch.cpu._is_avx2_supported()),
        )
        if there
    ]
    limit = next((os.environ[name] for name in ISA_VARIABLES if name in os.environ), "")
    count = torch.get_num_threads()
    threads = f"{count} thread{'s' * (count > 1)}"
    name = f"{threads} of {platform.machine()} with {able[0] if able else '?'}"
    return f"{name} limited to {limit}" if limit else name


def timed(work: Callable[..., Any], *arguments: Any, device: torch.device | None = None) -> float:
    """Return the seconds that a call takes, until its device is done."""
    started = time.perf_counter()
    work(*arguments)
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - started
