"""Device, precision, memory format: decided here alone; and the random generators."""

import contextlib
import math
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mnist_helpers.errors import CheckpointError, ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
# Settings of oneDNN, which computes a CPU's convolutions, and their values without bfloat16
# (https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html).
ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
ISAS_WITHOUT_BFLOAT16 = {
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI",
}  # fmt: skip

stop_requested = threading.Event()


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """Return this machine's device of that name; "auto" takes CUDA, then MPS, then the CPU."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = named_device(name)
    count = {"cuda": torch.cuda.device_count(), "mps": int(mps)}.get(device.type, 1)
    if (device.index or 0) >= count:
        raise ConfigError(f"device {name!r} is not on this machine; use 'auto' or 'cpu'")
    return device


def named_device(name: str | torch.device) -> torch.device:
    """Return the device of that name, whether or not this machine has it."""
    if not isinstance(name, str | torch.device) or str(name).split(":")[0] not in DEVICES[1:]:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not the name of a device") from error


def device_of(model: nn.Module) -> torch.device:
    """Return the device a model's weights are on; the CPU for a model without any."""
    return next(model.parameters(), torch.zeros(())).device


def place(model: nn.Module, device: torch.device, memory_format: str) -> nn.Module:
    """Move a model, in place, to a device and into one of `MEMORY_FORMATS`; return it."""
    return model.to(device, memory_format=MEMORY_FORMATS[memory_format])  # type: ignore[call-overload, no-any-return]


def pick_precision(name: str, device: torch.device) -> str:
    """Return the precision of that name; "auto" takes the fastest that trains as well.

    That is bfloat16 where the hardware multiplies matrices of it: CPUs with AVX-512 BF16
    or AMX, GPUs since NVIDIA's Ampere; float16 on NVIDIA's Volta and Turing; float32
    everywhere else. The hardware is asked, never timed, so a machine always decides alike.
    Raises ConfigError for float16 anywhere else: nothing would scale its gradients.
    """
    if name == "float16" and device.type != "cuda":
        raise ConfigError(
            f"float16 is for NVIDIA GPUs; on {device.type} use 'bfloat16', 'float32' or 'auto'"
        )
    if name != "auto":
        return name
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
    return "bfloat16" if device.type == "cpu" and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices and may be used for it."""
    limits = [os.environ.get(name, "").upper() for name in ISA_VARIABLES]
    if any(limit in ISAS_WITHOUT_BFLOAT16 for limit in limits):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pick_memory_format(name: str, device: torch.device) -> str:
    """Return the memory format of that name; "auto" takes channels_last except on a Mac's GPU."""
    if name != "auto":
        return name
    # The channels of a pixel side by side, as oneDNN and cuDNN want them; values are the same.
    return "contiguous" if device.type == "mps" else "channels_last"


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt, and remember that they did.

    Python drops what is raised in a destructor: `check_for_stop` raises it again. Signals that
    follow within a second are part of the first one.
    """
    last = -math.inf

    def stop(*_: Any) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        stop_requested.set()
        if last - before > 1:
            raise KeyboardInterrupt

    stop_requested.clear()
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere its owner handles them
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as for a job in the background
                handlers[number] = signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        if stop_requested.is_set():  # C code turns an interrupt into errors of its own
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        stop_requested.clear()


def check_for_stop() -> None:
    """Raise KeyboardInterrupt if somebody has asked to stop, inside `stoppable`."""
    if stop_requested.is_set():
        raise KeyboardInterrupt


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch (on every device)."""
    random.seed(int(seed))  # it doesn't take NumPy's whole numbers
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True  # else float32 on a GPU doesn't repeat


def random_states() -> dict[str, Any]:
    """Return the states of all random generators, in types a checkpoint can hold."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Put all random generators back to where they are now, whatever draws from them inside."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)


def restore_random_states(states: Mapping[str, Any], path: Path | None = None) -> None:
    """Put all random generators back to where `random_states` found them; `path` has them."""
    try:
        version, internal, gauss_next = states["python"]
        random.setstate((version, tuple(internal), gauss_next and float(gauss_next)))
        kind, keys, position, has_gauss, gauss = states["numpy"]
        if not 0 <= position <= len(keys):  # NumPy doesn't check, and would read beyond them
            raise ValueError(f"position {position}")
        np.random.set_state((kind, keys, position, has_gauss, gauss))
        torch.set_rng_state(states["torch"].cpu())
        if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"the random states in {path} are unusable: {error}") from error
