"""What this machine can compute with: its devices, and the numbers they are fast in."""

import os

import torch

from mnist_helpers.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MEMORY_FORMATS = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}
# What oneDNN, which computes PyTorch's convolutions on a CPU, may be told to leave unused,
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html. Limited to
# one of these it knows no bfloat16 arithmetic, whatever the processor has.
ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
ISAS_WITHOUT_BFLOAT16 = {
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI",
}  # fmt: skip


def pick_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" takes CUDA, then MPS, then the CPU.

    Raises
    ------
    ConfigError
        There is no such device, or not on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    device = named_device(name)
    count = {"cuda": torch.cuda.device_count(), "mps": int(mps)}.get(device.type, 1)
    if (device.index or 0) >= count:
        raise ConfigError(f"device {name!r} is not on this machine; use 'auto' or 'cpu'")
    return device


def named_device(name: str) -> torch.device:
    """Return the device of a name, be it on this machine or not.

    Raises
    ------
    ConfigError
        No device that this package knows is called so.
    """
    if not isinstance(name, str) or name.split(":")[0] not in DEVICES[1:]:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is not a device's name") from error


def pick_precision(name: str, device: torch.device) -> str:
    """Return the precision of that name; "auto" takes the fastest that trains as well.

    That is bfloat16 where the hardware multiplies matrices of it: CPUs with AVX-512 BF16
    or AMX, GPUs since NVIDIA's Ampere; float16 on NVIDIA's Volta and Turing; float32 on
    everything else. It asks what the hardware can do and never times it, so that the same
    machine always decides alike.

    Raises
    ------
    ConfigError
        float16 is asked for anywhere but on an NVIDIA GPU: nothing scales its gradients.
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
    """Tell whether the CPU multiplies bfloat16 matrices, and may be used for it."""
    limits = [os.environ.get(name, "").upper() for name in ISA_VARIABLES]
    if any(limit in ISAS_WITHOUT_BFLOAT16 for limit in limits):
        return False
    # Asked of torch 2.6 to 2.14 alike; `torch.cpu.get_capabilities` is newer.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pick_memory_format(name: str, device: torch.device) -> str:
    """Return the memory format of that name; "auto" takes channels_last but on a Mac's GPU.

    With channels_last the channels of a pixel lie side by side, as oneDNN and cuDNN
    want them; the values are the same.
    """
    if name != "auto":
        return name
    return "contiguous" if device.type == "mps" else "channels_last"
