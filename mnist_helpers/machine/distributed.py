"""Several processes that train one network, started by PyTorch's torchrun: all of it is here."""

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

STOPPED = 130  # the exit code of what Ctrl-C has ended, as shells have it
PATIENCE = 10  # seconds; a busy machine may need some of them to start the first process
# All that torchrun tells a process. A shell can inherit a part of it, which then means nothing.
NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK")
_speaks = False  # whether this process is the one that reports the error


def rank() -> int:
    """Return this process's number, from 0; 0 where there is only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return how many processes work together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def launched() -> int:
    """Return how many processes torchrun started, whether or not they have joined; else 1."""
    complete = all(os.environ.get(name, "").isdecimal() for name in NUMBERS)
    started = complete and "TORCHELASTIC_RUN_ID" in os.environ
    return int(os.environ["WORLD_SIZE"]) if started else 1


def is_rank_zero() -> bool:
    """Return whether this is the process that prints and writes, joined yet or not."""
    return launched() == 1 or os.environ["RANK"] == "0"


def let_rank_zero_speak() -> None:
    """Before reporting an error that every process hits, give the machine's first time to do so.

    As soon as one process ends, torchrun stops the others on its machine: if this one ended
    now, the first might never speak; once it has spoken and ended, torchrun stops this one.
    After `joined` there is no need to wait: it lets only one process go on to report an error.
    """
    if launched() > 1 and not _speaks:
        try:
            time.sleep(PATIENCE * int(os.environ["LOCAL_RANK"]))
        except KeyboardInterrupt:
            sys.exit(STOPPED)  # silently: the first process has said it


def _claim_report() -> bool:
    """Return whether this process may report an error: the first that asks, and no other."""
    global _speaks
    if not _speaks and world_size() > 1:
        try:  # torchrun itself keeps this store, so it outlives a process
            store = distributed.distributed_c10d._get_default_store()
            _speaks = store.add("who reports the error", 1) == 1
        except RuntimeError:  # the store has gone: nobody can be asked
            _speaks = True
    return _speaks or world_size() == 1


def leave(code: int) -> NoReturn:
    """End this process with an exit code; one of several skips the interpreter's shutdown.

    So does one that was stopped: Python would end by the signal if it arrived inside an `exec`.
    DistributedDataParallel keeps gloo's threads alive beyond `destroy_process_group`. One of
    them may still hold a tensor of the last exchange, and freeing it while the interpreter
    shuts down aborts the process (https://github.com/pytorch/pytorch/pull/179291).
    """
    if launched() == 1 and code != STOPPED:
        sys.exit(code)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a full disk, no stdout
        sys.stdout.flush()
    os._exit(code)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, and yield the device of this one.

    Over gloo on CPUs and NCCL on GPUs, one GPU per process. A process on its own joins nothing.
    Whatever goes wrong is raised in one process alone, the first that meets it; the others end
    silently, since what they meet follows from it.

    Raises ConfigError if this machine lacks GPUs or a backend, WorkerError if another process
    was killed and this one can't go on without it.
    """
    if launched() == 1:
        yield device
        return
    device = _device_of_this_process(device)
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise WorkerError(f"the processes did not find each other: {_short(error)}") from error
    try:
        try:
            yield device
        except Exception as error:
            if not _claim_report():
                time.sleep(PATIENCE)  # until torchrun ends this process
                sys.exit(1)
            if not isinstance(error, RuntimeError) or not _is_communication_error(error):
                raise
            raise WorkerError(
                f"process {rank() + 1} of {world_size()} lost contact with the others: one of them "
                f"has ended: fix what ended it, and start again with --resume ({_short(error)})"
            ) from error
    except KeyboardInterrupt:  # by torchrun, too: once one has ended, it stops the others
        if rank() == 0 and not _claim_report():
            sys.exit(STOPPED)
        raise
    finally:
        distributed.destroy_process_group()


def _device_of_this_process(device: torch.device) -> torch.device:
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not distributed.is_nccl_available():
        raise ConfigError(f"several processes cannot share {device.type} here; use --device cpu")
    if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():  # the same for all
        raise ConfigError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes need one GPU each, but this machine "
            f"has {torch.cuda.device_count()}; start fewer"
        )
    number = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _is_communication_error(error: RuntimeError) -> bool:
    """Tell an error of a collective from every other one; gloo's are plain RuntimeErrors."""
    known = ("gloo", "closed by peer", "NCCL", "reset by peer", "Broken pipe", "process group")
    return isinstance(error, distributed.DistError) or any(k in str(error) for k in known)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__


@contextlib.contextmanager
def rank_zero_first() -> Iterator[None]:
    """Let the first process do something before the others; if it fails, so do they."""
    failed = [True]
    if rank() > 0:
        distributed.broadcast_object_list(failed)
        if failed[0]:
            raise WorkerError("the first process could not go on; its own message says why")
    try:
        yield
        failed[0] = False
    finally:
        if rank() == 0 and world_size() > 1:
            if failed[0]:
                _claim_report()  # before the others learn of it
            distributed.broadcast_object_list(failed)


def agree(value: Any) -> bool:
    """Return whether every process holds the same value."""
    if world_size() == 1:
        return True
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return all(other == value for other in values)


def all_reduce_min(value: Tensor) -> Tensor:
    """Take, in place, the smallest of what the processes hold."""
    if world_size() > 1:
        distributed.all_reduce(value, op=distributed.ReduceOp.MIN)
    return value


def all_reduce_sum(sums: Tensor) -> Tensor:
    """Add up, in place, what the processes hold."""
    if world_size() > 1:
        distributed.all_reduce(sums)
    return sums


def wrap_ddp(model: nn.Module, data: Any) -> nn.Module:
    """Wrap a model so that its gradients are those of the whole batch, in every process.

    DistributedDataParallel on its own averages over processes, which is wrong when the last
    batch doesn't divide evenly. So each gradient is weighted by `data.share`, the part of the
    batch that its process had, and then summed.
    """
    if world_size() == 1:
        return model
    wrapped = DistributedDataParallel(model)

    def weigh_and_sum(
        data: Any,
        bucket: distributed.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[Tensor]:
        gradients = bucket.buffer().mul_(data.share)
        work = distributed.all_reduce(gradients, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    wrapped.register_comm_hook(data, weigh_and_sum)
    return wrapped
