"""Several processes that train one network, started by PyTorch's torchrun."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mnist_helpers.errors import ConfigError, WorkerError

PATIENCE = 10  # seconds, of which a busy machine may need some to start the first process


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


def let_the_first_speak() -> None:
    """Before telling what every process meets, give the first of a machine time to tell it.

    As soon as one process ends, torchrun stops the others of its machine: had we gone in
    silence, the first might never speak, and once it has spoken, we are stopped here.
    """
    if launched() > 1:
        try:
            time.sleep(PATIENCE * int(os.environ["LOCAL_RANK"]))
        except KeyboardInterrupt:
            sys.exit(130)  # in silence: whoever stops us has been told


def leave(code: int) -> NoReturn:
    """End this process with an exit code; of several, without taking the interpreter down.

    DistributedDataParallel keeps gloo's threads alive beyond `destroy_process_group`. One of
    them may still hold a tensor of the last exchange, and giving it back while the interpreter
    is taken down aborts the process (https://github.com/pytorch/pytorch/pull/179291).
    """
    if launched() == 1:
        sys.exit(code)
    with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream
        sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started; give the device of this one.

    Over gloo on CPUs and NCCL on GPUs, one GPU a process. Alone, nothing happens.

    Raises
    ------
    ConfigError
        This machine cannot do it: too few GPUs, or an engine that is not there.
    WorkerError
        Another process has ended, and this one cannot go on without it.
    """
    if launched() == 1:
        yield device
        return
    device = _own_device(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise WorkerError(f"the processes did not find each other: {_short(error)}") from error
    try:
        yield device
    except RuntimeError as error:
        if not _is_of_the_engine(error):
            raise
        raise WorkerError(
            f"process {rank()} of {count()} lost contact with the others, one of which has "
            f"ended: mend what ended it, and start again with --resume ({_short(error)})"
        ) from error
    finally:
        distributed.destroy_process_group()


def _own_device(device: torch.device) -> torch.device:
    """Return the device of this one of several processes."""
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not distributed.is_nccl_available():
        raise ConfigError(f"several processes cannot share {device.type} here; use --device cpu")
    if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():  # all see it alike
        raise ConfigError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes need as many GPUs, and there are "
            f"{torch.cuda.device_count()}; start fewer"
        )
    number = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _is_of_the_engine(error: RuntimeError) -> bool:
    """Tell an error of a collective from every other one; gloo's are plain RuntimeErrors."""
    known = ("gloo", "closed by peer", "NCCL", "reset by peer", "Broken pipe", "process group")
    return isinstance(error, distributed.DistError) or any(k in str(error) for k in known)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process do something, such as a download, before the others do it too.

    Raises
    ------
    WorkerError
        In the others, where the first could not; it tells why, and they wait for it.
    """
    failed = [True]
    if rank() > 0:
        distributed.broadcast_object_list(failed)
        if failed[0]:
            let_the_first_speak()
            raise WorkerError("the first process could not go on; it says why")
    try:
        yield
        failed[0] = False
    finally:
        if rank() == 0 and count() > 1:
            distributed.broadcast_object_list(failed)


def agree(value: Any) -> bool:
    """Tell whether every process holds the same value."""
    if count() == 1:
        return True
    values = [None] * count()
    distributed.all_gather_object(values, value)
    return all(other == value for other in values)


def least(value: Tensor) -> Tensor:
    """Take, in place, the least of what each process holds."""
    if count() > 1:
        distributed.all_reduce(value, op=distributed.ReduceOp.MIN)
    return value


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
