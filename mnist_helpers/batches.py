"""Loaders: batches in a known order, read by PyTorch's DataLoader or held in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from mnist_helpers import workers
from mnist_helpers.config import TrainConfig
from mnist_helpers.data import DigitDataset, generator, normalise
from mnist_helpers.errors import ConfigError

# Images a step in testing. Without gradients larger batches were slower on a CPU, while a
# GPU needs them to be kept busy.
CPU_TEST_BATCH_SIZE, GPU_TEST_BATCH_SIZE = 250, 2000


class EpochSampler(Sampler[int]):
    """The order of samples, from (seed, epoch) and nothing else.

    Like PyTorch's DistributedSampler it wants `set_epoch` before each epoch. Any loop
    that has said the same epoch meets the same samples in the same order, after a
    resume as well, whatever else has drawn random numbers.

    Parameters
    ----------
    size
        How many samples there are.
    seed
        Not negative.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 1, whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(generator(self.seed, self.epoch).permutation(self.size).tolist())


class MemoryLoader:
    """Hand out the same batches as a `DataLoader` does, in the same order.

    All images are normalised at the first batch and stay on the device, 188 MB for the
    60,000 of MNIST; a batch is then gathered by its indices.

    Where several processes train together, each gets its part of every batch, and no
    image is dropped or doubled.

    Parameters
    ----------
    dataset
        The digits.
    batch_size
        Images a batch, of all processes together.
    sampler
        Gives the indices in their order; that of the dataset where it is None.
    device
        Where images and labels go.

    Attributes
    ----------
    share
        Of the current batch, what part this process has.
    """

    def __init__(
        self,
        dataset: DigitDataset,
        batch_size: int,
        sampler: Sampler[int] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.sampler = SequentialSampler(dataset) if sampler is None else sampler
        self.device = torch.device(device)
        self.share = workers.Share()
        self._held: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)  # rounded up

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self._hold()
        # A DataLoader draws a number here; so must we, for dropout to meet the same ones.
        torch.empty((), dtype=torch.int64).random_()
        order = torch.tensor(list(self.sampler), dtype=torch.int64, device=self.device)
        rank, count = workers.rank(), workers.count()
        for batch in order.split(self.batch_size) if len(order) else ():
            own = batch[rank::count]
            self.share.value = len(own) / len(batch)
            if len(own):  # in testing a process may have nothing to do
                yield images[own], labels[own]

    def _hold(self) -> tuple[Tensor, Tensor]:
        if self._held is None:
            images = normalise(self.dataset.images).unsqueeze(1)  # (N, 1, 28, 28)
            self._held = images.to(self.device), self.dataset.labels.to(self.device)
        return self._held


Loader = DataLoader | MemoryLoader


def make_loaders(
    train_set: DigitDataset, test_set: DigitDataset, config: TrainConfig | None = None
) -> tuple[Loader, Loader]:
    """Return a loader that shuffles the training set, and one for the test set.

    Parameters
    ----------
    train_set, test_set
        As `load_mnist` returns them.
    config
        Gives batch size, seed and device, and with `in_memory` the kind of loader, which
        makes no difference to the batches; the recipe where it is None.

    Returns
    -------
    tuple of two loaders
        The training loader (call `loader.sampler.set_epoch(epoch)` before each epoch)
        and the test loader, which keeps the order of the files.

    Raises
    ------
    ConfigError
        Several processes are to share batches that are not in memory, or too small.
    """
    config = (config or TrainConfig()).resolved()
    on_cpu = torch.device(config.device).type == "cpu"
    test_batch_size = CPU_TEST_BATCH_SIZE if on_cpu else GPU_TEST_BATCH_SIZE
    sampler = EpochSampler(len(train_set), config.seed)
    if workers.count() > 1:
        _check_shares(len(train_set), config)
    if config.in_memory:
        return (
            MemoryLoader(train_set, config.batch_size, sampler, config.device),
            MemoryLoader(test_set, test_batch_size, device=config.device),
        )
    return (
        DataLoader(train_set, batch_size=config.batch_size, sampler=sampler),
        DataLoader(test_set, batch_size=test_batch_size),
    )


def _check_shares(size: int, config: TrainConfig) -> None:
    """Refuse batches of which a process would get nothing: all must take every step."""
    if not config.in_memory:
        raise ConfigError("several processes share batches that are in memory: set in_memory")
    smallest = size % config.batch_size or config.batch_size
    if size and smallest < workers.count():
        raise ConfigError(
            f"{size:,} images in batches of {config.batch_size} leave {smallest} for the smallest "
            f"batch, too few for {workers.count()} processes; choose another batch size"
        )
