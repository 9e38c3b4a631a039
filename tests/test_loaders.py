import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mnist_helpers.config import TrainConfig
from mnist_helpers.data.digits import DigitDataset, load_mnist
from mnist_helpers.data.loaders import EpochSampler, InMemory, make_loader
from mnist_helpers.errors import ConfigError, InputError, TrainingError
from mnist_helpers.machine import distributed
from mnist_helpers.training.checkpoint import digest
from mnist_helpers.training.step import evaluate, train_one_epoch
from tests.conftest import make_digits, make_linear


@pytest.fixture(scope="module")
def sample(sample_root):
    return load_mnist(sample_root.parent)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_batch_is_what_the_usual_loader_would_stack(sample, in_memory):
    config = TrainConfig(batch_size=48, device="cpu", in_memory=in_memory)
    ours = make_loader(sample[0], config, train=True)
    usual = DataLoader(
        [sample[0][i] for i in range(len(sample[0]))], 48, sampler=EpochSampler(4000, config.seed)
    )
    for number, (a, b) in enumerate(zip(ours, usual, strict=True)):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        if number == 5:
            break
    assert a[0].shape == (48, 1, 28, 28) and a[0].dtype == torch.float32
    assert a[1].shape == (48,) and a[1].dtype == torch.int64


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_memory_and_dataloader_give_the_same_batches_in_every_epoch(size):
    def batches(in_memory):
        config = TrainConfig(device="cpu", in_memory=in_memory)
        train_loader = make_loader(make_digits(size), config, train=True)
        test_loader = make_loader(make_digits(300), config, train=False)
        kind = InMemory if in_memory else DigitDataset
        assert type(train_loader.dataset) is type(test_loader.dataset) is kind
        assert type(train_loader) is type(test_loader) is DataLoader
        assert len(train_loader) == -(-size // 64) and train_loader.batch_size == 64
        for epoch in (1, 2):
            train_loader.sampler.set_epoch(epoch)
            yield from train_loader
        yield from test_loader

    for ours, theirs in zip(batches(True), batches(False), strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
        assert ours[0].dtype == theirs[0].dtype and ours[1].dtype == theirs[1].dtype


def test_what_is_held_in_memory_can_be_read_one_by_one():
    digits = make_digits(7)
    held = InMemory(digits, torch.device("cpu"))
    assert len(list(held)) == len(held) == 7
    for (image, label), (expected, number) in zip(held, digits, strict=True):
        assert torch.equal(image, expected) and label == number


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_share_each_batch_and_drop_and_double_nothing(monkeypatch, count):
    monkeypatch.setattr(distributed, "world_size", lambda: count)
    config = TrainConfig(batch_size=10, device="cpu")
    digits, parts, shares = make_digits(103), [], []
    for rank in range(count):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        loader = make_loader(digits, config, train=True)
        parts.append([])
        for images, _ in loader:
            parts[-1].append(images)
            shares.append(loader.dataset.share)
    assert {len(part) for part in parts} == {11}
    assert sum(shares) == pytest.approx(11)
    monkeypatch.undo()
    whole = make_loader(digits, config, train=True)
    for pieces, (images, _) in zip(zip(*parts, strict=True), whole, strict=True):
        assert sorted(map(rows, torch.cat(pieces))) == sorted(map(rows, images))


def rows(image):
    return image.flatten().tolist()


def test_a_batch_too_small_for_the_processes_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    config = TrainConfig(batch_size=10, device="cpu")
    message = r"101 images in batches of 10 leave 1 for the smallest batch, too few for 2 processes"
    with pytest.raises(ConfigError, match=message):
        make_loader(make_digits(101), config, train=True)
    make_loader(make_digits(102), config, train=True)
    make_loader(make_digits(251), config, train=False)  # a test batch may be of one


def test_dropout_meets_the_same_numbers_with_both_loaders():
    drawn = []
    for in_memory in (True, False):
        config = TrainConfig(device="cpu", in_memory=in_memory)
        train_loader = make_loader(make_digits(130), config, train=True)
        torch.manual_seed(1)
        drawn.append([torch.rand(1).item() for _ in (1, 2) for _ in train_loader])
    assert drawn[0] == drawn[1] and len(drawn[0]) == 6


def test_processes_want_their_batches_in_memory(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match="use a DigitDataset and in_memory"):
        make_loader(make_digits(20), TrainConfig(in_memory=False), train=True)
    with pytest.raises(ConfigError, match="use a DigitDataset and in_memory"):
        make_loader(list(make_digits(20)), TrainConfig(), train=True)


def test_the_order_comes_from_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = EpochSampler(100, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(1, 1) == order(1, 1)
    orders = [tuple(order(seed, epoch)) for seed, epoch in ((1, 1), (1, 2), (2, 1), (0, 3))]
    assert len(set(orders)) == 4
    assert all(sorted(o) == list(range(100)) for o in orders)
    assert list(EpochSampler(100, 1)) == order(1, 1)
    assert len(EpochSampler(100, 1)) == 100


def test_the_order_is_the_same_on_every_machine():
    assert list(EpochSampler(10, 1)) == FROZEN_ORDER


FROZEN_ORDER = [9, 2, 8, 0, 7, 3, 1, 5, 4, 6]


def test_the_training_set_is_shuffled_on_the_cpu_too_and_the_test_set_is_not(sample):
    train_loader, test_loader = (
        make_loader(dataset, TrainConfig(device="cpu"), train=train)
        for dataset, train in zip(sample, (True, False), strict=True)
    )
    _, labels = next(iter(train_loader))
    assert labels.tolist() != sample[0].labels[:64].tolist()
    test_labels = torch.cat([labels for _, labels in test_loader])
    assert torch.equal(test_labels, sample[1].labels)
    assert train_loader.batch_size == 64


# --- loaders of people, for train_one_epoch and evaluate


def trained(loader, lr=0.001, model=None):
    """Return what an epoch over a loader measures, and the weights after it."""
    model = make_linear() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    metrics = train_one_epoch(model, loader, torch.nn.CrossEntropyLoss(), optimizer)
    return metrics, digest(model.state_dict())


def batches(kind=tuple, images=lambda x: x, labels=lambda x: x):
    """Return three batches, each a pair of that kind with its parts changed."""
    loader = DataLoader(make_digits(20), 8)
    return [kind((images(one), labels(other))) for one, other in loader]


FITTING = {
    "list": batches,
    "lists": lambda: batches(list),
    "generator": lambda: iter(batches()),
    "DataLoader": lambda: DataLoader(make_digits(20), 8),
    "NumPy": lambda: batches(images=lambda x: x.numpy(), labels=lambda x: x.numpy()),
    "NumPy's doubles": lambda: batches(images=lambda x: x.numpy().astype(np.float64)),
    "bytes as labels": lambda: batches(labels=lambda x: x.numpy().astype(np.uint8)),
    "int32 labels": lambda: batches(labels=lambda x: x.int()),
}


@pytest.mark.parametrize("kind", FITTING)
def test_a_loader_of_any_kind_gives_the_same_to_the_bit(kind):
    assert trained(FITTING[kind]()) == trained(batches())
    assert evaluate(make_linear(), FITTING[kind]()) == evaluate(make_linear(), batches())


IMAGES, LABELS = torch.zeros(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "received"),
    [
        ({"image": IMAGES, "label": LABELS}, "a dict with the keys 'image', 'label'"),
        (IMAGES, r"torch.float32 \(8, 1, 28, 28\)"),
        (IMAGES[:2], r"torch.float32 \(2, 1, 28, 28\)"),  # two images are no pair
        ((IMAGES,), r"a tuple of torch.float32 \(8, 1, 28, 28\)"),
        ((IMAGES, LABELS, LABELS), "a tuple of torch.float32 .*, torch.int64 .*, torch.int64"),
        ((IMAGES, LABELS[:7]), r"torch.int64 \(7,\)"),
        ((IMAGES, LABELS.float()), r"torch.float32 \(8,\)"),
        ((IMAGES, np.array(["3"] * 8)), "<U1"),
        ((IMAGES.byte(), LABELS), r"torch.uint8 \(8, 1, 28, 28\)"),
        ((IMAGES[0], 3), "a tuple of torch.float32 .*, int"),  # an item: the data set itself
        ([], "a list of nothing"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_batch_is_named(batch, received):
    good = (IMAGES, LABELS)
    for which, run in (("training", trained), ("test", lambda x: evaluate(make_linear(), x))):
        message = f"batch 2 of the {which} loader is .*{received}.*; it must be a pair"
        with pytest.raises(InputError, match=message):
            run([good, batch])


def test_a_wrong_label_is_named_with_its_batch():
    wrong = batches()
    wrong[2][1][-1] = 10
    with pytest.raises(
        InputError, match="batch 3: the training labels must be 0 to 9, got 6 to 10"
    ):
        trained(wrong)
    with pytest.raises(InputError, match="batch 3: the test labels must be 0 to 9"):
        evaluate(make_linear(), wrong)


@pytest.mark.parametrize("spoil", ["rate", "image"])
def test_a_loss_that_is_no_number_has_two_possible_causes(spoil):
    given, lr = batches() * 20, 1e38 if spoil == "rate" else 0.25
    if spoil == "image":
        given[1][0][0, 0, 3, 3] = math.nan
    cause = rf"the learning rate, {lr:g}, is too high \(lower it\), or some images hold".replace(
        "+", r"\+"
    )
    with pytest.raises(TrainingError, match=rf"the loss became (nan|inf) at step .*{cause}"):
        trained(given, lr)


def test_in_testing_no_learning_rate_is_blamed():
    model, given = make_linear(), batches()
    given[2][0][0] = math.inf
    with pytest.raises(TrainingError, match="at step 3: either the weights are far too large"):
        evaluate(model, given)
