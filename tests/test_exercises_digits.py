"""The exercises of notebook 01: right answers, typical mistakes, nonsense."""

import random
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mnist_helpers.tutorial.exercises import digits as exercises
from mnist_helpers.tutorial.exercises import verdicts
from tests.exercising import Hostile, divide, said, try_function


def in_a_loop(predictions, labels):
    right = 0
    for prediction, label in zip(predictions, labels, strict=True):
        if prediction == label:
            right += 1
    return right / len(labels)


def test_accuracy(capsys, monkeypatch):
    rights = [
        in_a_loop,
        lambda p, y: (p == y).float().mean(),
        lambda p, y: np.mean(p.numpy() == y.numpy()),
        lambda p, y: round(in_a_loop(p, y), 2),
        lambda p, y: sum(p == y) / len(y),
        lambda p, y: 1 - torch.count_nonzero(p - y) / p.numel(),
    ]
    wrongs = {
        "Of how many?": lambda p, y: (p == y).sum(),
        "per cent": lambda p, y: 100 * in_a_loop(p, y),
        "wrong ones": lambda p, y: (p != y).float().mean(),
        "for each prediction": lambda p, y: p == y,
        "every single one": torch.equal,
        "`//` and int() cut off": lambda p, y: int(in_a_loop(p, y)),
        "rounded to a whole": lambda p, y: round(in_a_loop(p, y)),
        "not always by 10,000": lambda p, y: (p == y).sum() / 10_000,
        "kinds of digits": lambda p, y: (p == y).sum() / 10,
        "no worse than": lambda p, y: (p - y).abs().float().mean(),
        "and 0.8 is right": lambda p, y: in_a_loop(p[:2], y[:2]),
    }
    try_function(capsys, monkeypatch, exercises.check_accuracy, rights, wrongs)


@pytest.fixture
def check():
    """A checker on digits that nearest mean reads, but for some that are drawn white on black."""
    random = np.random.RandomState(0)
    labels = random.permutation(2000) % 10
    images = random.uniform(0, 0.2, (2000, 28, 28))
    for place, label in enumerate(labels):
        images[place, 2 * label + 3 : 2 * label + 5] += 0.8
        if random.uniform() < 0.03:
            images[place] = 1 - images[place]
    data = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    return lambda answer: exercises.check_classifier(answer, *data)


def distances(images, labels, new):
    means = torch.stack([images[labels == digit].mean(0) for digit in range(10)])
    return torch.cdist(new.flatten(1), means.flatten(1))


def nearest_mean(*digits):
    return distances(*digits).argmin(1)


def nearest_digit(images, labels, new):
    return labels[torch.cdist(new.flatten(1), images.flatten(1)).argmin(1)]


def black_on_white(images, labels, new, limit=None):
    """Read white digits as well, up to a limit."""
    answers, far = nearest_mean(images, labels, new), distances(images, labels, new).argmax(1)
    places = (new.mean(dim=(1, 2)) > 0.5).nonzero().flatten()[:limit]
    answers[places] = far[places]
    return answers


def one_worse(*digits):
    answers = nearest_mean(*digits)
    answers[:5] = (answers[:5] + 1) % 10
    return answers


def test_classifier(capsys, monkeypatch, check):
    rights = [
        nearest_digit, black_on_white,
        lambda *digits: nearest_digit(*digits).numpy(),
        lambda *digits: nearest_digit(*digits).tolist(),
        lambda *digits: nearest_digit(*digits).float(),
    ]  # fmt: skip
    wrongs = {
        "Which of the ten is smallest?": distances,
        "have the shape (10,)": lambda *digits: distances(*digits).argmin(0),
        "`labels[...]`": lambda images, labels, new: (
            torch.cdist(new.flatten(1), images.flatten(1)).argmin(1)
        ),
        "or distances": lambda *digits: distances(*digits).min(1).values,
        "says 1 to everything": lambda images, labels, new: torch.ones(len(new)),
        "changes nothing": lambda *digits: (distances(*digits) ** 2).argmin(1),
        "Do you pick the farthest": lambda *digits: distances(*digits).argmax(1),
        "are images and labels in step": lambda images, labels, new: (
            torch.arange(len(new)) % 10
        ),
        "this idea doesn't help": one_worse,
        "luck alone": lambda *digits: black_on_white(*digits, limit=2),
        "not a bool": lambda *_: True,
    }  # fmt: skip
    try_function(capsys, monkeypatch, check, rights, wrongs)


def test_a_classifier_is_told_its_score_and_the_mark(capsys, check):
    text = said(capsys, check, nearest_digit)
    score, mark, lead = map(float, re.findall(r"(\d+\.\d)(?:%| points)", text))
    assert score == 100 and 95 < mark < 99 and abs(score - mark - lead) < 0.11
    assert "of 500 held-back digits" in text
    for more in (False, True):
        check(one_worse)
        assert ("more pictures than ten" in capsys.readouterr().out) == more


def test_a_classifier_learns_from_digits_that_it_is_not_judged_by(check):
    def spy(images, labels, new):
        assert len(images) == len(labels) == 1500 and len(new) == 500
        assert torch.cdist(new.flatten(1), images.flatten(1)).min() > 0
        seen.append(True)

    seen = []
    check(spy)
    assert seen == [True]


def cut(order, images, labels, size):
    for start in range(0, len(labels), size):
        places = order[start : start + size]
        yield images[places], labels[places]


def with_yield(images, labels, size):
    yield from cut(torch.randperm(len(labels)), images, labels, size)


def in_a_list(images, labels, size):
    pairs = list(zip(images.tolist(), labels.tolist(), strict=True))
    random.shuffle(pairs)
    groups = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return [[[image for image, _ in group], [y for _, y in group]] for group in groups]


def by_split(images, labels, size):
    order = np.random.permutation(len(labels))
    return zip(images[order].split(size), labels[order].split(size), strict=True)


def apart(images, labels, size):
    shuffled = labels[torch.randperm(len(labels))]
    return cut(torch.randperm(len(labels)), images, shuffled[torch.arange(len(labels))], size)


def first_only(images, labels, size):
    for batch in with_yield(images, labels, size):
        return batch


def fails_late(images, labels, size):
    yield images[:size], labels[:size]
    raise KeyError("late")


def images_only(images, labels, size):
    order = torch.randperm(len(labels))
    return zip(images[order].split(size), labels.split(size), strict=True)


def labels_only(images, labels, size):
    order = torch.randperm(len(labels))
    return zip(images.split(size), labels[order].split(size), strict=True)


def test_batches(capsys, monkeypatch):
    rights = [
        with_yield, in_a_list, by_split,
        lambda x, y, size: list(with_yield(x, y, size)),
        lambda x, y, size: DataLoader(TensorDataset(x, y), size, shuffle=True),
    ]  # fmt: skip
    wrongs = {
        "nothing is shuffled": lambda x, y, n: cut(torch.arange(len(y)), x, y, n),
        "an order of its own": apart,
        "Only the images are shuffled": images_only,
        "Only the labels are shuffled": labels_only,
        "last 2 digits are left out": lambda x, y, n: list(with_yield(x, y, n))[: len(y) // n],
        "only the first batch": first_only,
        "others not at all": lambda x, y, n: cut(torch.randint(len(y), (len(y),)), x, y, n),
        "the same each time": lambda x, y, n: cut(torch.arange(len(y)).flip(0), x, y, n),
        "sizes 4, 4, 4": lambda x, y, n: with_yield(x, y, 4),
        "as many labels": lambda x, y, n: x.split(n),
        "KeyError": fails_late,
        "sizes of nothing": lambda *_: [],
        "this is a int": lambda *_: 4,
    }
    try_function(capsys, monkeypatch, exercises.check_batches, rights, wrongs)


def test_endless_batches_are_cut_off(capsys):
    def again_and_again(images, labels, size):
        while True:
            yield from with_yield(images, labels, size)

    text = said(capsys, exercises.check_batches, again_and_again)
    assert "sizes 16, 16, 16, 2, 16" in text
    exercises.check_batches(again_and_again)
    assert "torch.randperm" in capsys.readouterr().out


def test_notebooks_go_on_with_ours_until_an_accuracy_is_right():
    assert exercises.yours_or_ours(in_a_loop) is in_a_loop
    wrongs = [lambda p, y: ..., lambda p, y: (p == y).sum(), divide, lambda *_: Hostile(), ..., 3]
    for wrong in wrongs:
        ours = exercises.yours_or_ours(wrong)
        assert float(ours(torch.tensor([1, 2]), torch.tensor([1, 3]))) == 0.5


@pytest.fixture(autouse=True)
def _nobody_has_answered():
    verdicts._wrong_answers.clear()
