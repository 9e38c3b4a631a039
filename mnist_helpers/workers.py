"""Several processes that train one network, started by PyTorch's torchrun."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mnist_helpers.errors import TrainingError


def rank() -> int:
    """Return this process's number, from 0; 0 where there is only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """Return how many processes work together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def launched() -> int:
    """Return how many processes torchrun started, joined yet or not; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_first() -> bool:
    """Tell whether this process is the one that prints and writes, joined yet or not."""
    return launched() == 1 or os.environ["RANK"] == "0"


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; give the device of this one.

    Over gloo on CPUs and NCCL on GPUs, one GPU a process. Alone, nothing happens.

    Raises
    ------
    TrainingError
        Another process has ended, and this one cannot go on without it.
    """
    if launched() == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    except RuntimeError as error:  # what the collectives raise, and nothing else of ours is
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise TrainingError(
            f"process {rank()} of {count()} lost contact with the others, one of which has "
            f"ended: start again with --resume ({str(error).splitlines()[0][:80]})"
        ) from error
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process do something, such as a download, before the others do it too."""
    if rank() > 0:
        distributed.barrier()
    yield
    if rank() == 0 and count() > 1:
        distributed.barrier()


def total(sums: Tensor) -> Tensor:
    """Add up, in place, what each process holds."""
    if count() > 1:
        distributed.all_reduce(sums)
    return sums


class Share:
    """How much of the current batch is this process's: what its gradients weigh."""

    value = 1.0


def together(model: nn.Module, share: Share) -> nn.Module:
    """Wrap a model so that its gradients are those of the whole batch, in every process.

    DistributedDataParallel by itself takes the mean over processes, which is another one
    where the last batch does not divide evenly. So each gradient is weighed by the share
    that its process had of the batch, and summed.
    """
    if count() == 1:
        return model
    wrapped = DistributedDataParallel(model)

    def weigh_and_sum(share: Share, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        gradients = bucket.buffer().mul_(share.value)
        work = distributed.all_reduce(gradients, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    wrapped.register_comm_hook(share, weigh_and_sum)
    return wrapped
