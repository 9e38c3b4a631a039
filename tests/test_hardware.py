import pytest
import torch

from mnist_helpers.errors import ConfigError
from mnist_helpers.machine.hardware import (
    cpu_has_bfloat16,
    pick_memory_format,
    pick_precision,
    seed_everything,
)

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.fixture
def cpu(monkeypatch):
    """Pretend a CPU with AVX-512 BF16, with AMX, or with neither."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def pretend(avx512_bf16, amx):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)

    return pretend


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "expected"),
    [
        (False, False, "float32"),
        (True, False, "bfloat16"),
        (False, True, "bfloat16"),
        (True, True, "bfloat16"),
    ],
)
def test_auto_takes_bfloat16_on_cpus_that_multiply_it(cpu, avx512_bf16, amx, expected):
    cpu(avx512_bf16, amx)
    assert pick_precision("auto", CPU) == expected
    assert pick_precision("float32", CPU) == "float32"
    assert pick_precision("bfloat16", CPU) == "bfloat16"
    assert pick_precision("auto", MPS) == "float32"


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        ("AVX512_CORE", False),
        ("avx2", False),
        ("AVX512_CORE_BF16", True),
        ("ALL", True),
        ("", True),
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_a_limit_set_for_onednn_is_respected(cpu, monkeypatch, name, isa, expected):
    cpu(True, True)
    monkeypatch.setenv(name, isa)
    assert cpu_has_bfloat16() is expected


@pytest.mark.parametrize(
    ("major", "expected"), [(6, "float32"), (7, "float16"), (8, "bfloat16"), (9, "bfloat16")]
)
def test_auto_asks_a_gpu_for_its_generation(monkeypatch, major, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 5))
    assert pick_precision("auto", CUDA) == expected


@pytest.mark.parametrize("device", [CPU, MPS])
def test_float16_is_for_gpus_that_scale_its_gradients(device):
    with pytest.raises(ConfigError, match=f"NVIDIA GPUs; on {device.type} use 'bfloat16'"):
        pick_precision("float16", device)
    assert pick_precision("float16", CUDA) == "float16"


def test_a_seed_holds_on_a_gpu_as_well(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    seed_everything(1)
    assert torch.backends.cudnn.deterministic  # else float32 didn't repeat on an H100


def test_the_memory_format_follows_the_device():
    assert pick_memory_format("auto", CPU) == pick_memory_format("auto", CUDA) == "channels_last"
    assert pick_memory_format("auto", MPS) == "contiguous"
    assert pick_memory_format("contiguous", CPU) == "contiguous"
