"""The exercises of notebook 01: right answers, typical mistakes, nonsense."""

import re

import numpy as np
import pytest
import torch

from mnist_helpers.tutorial.exercises import digits as exercises
from mnist_helpers.tutorial.exercises import verdicts
from tests.exercising import said, try_function, try_number


def test_batches(capsys):
    wrong = {
        937: "left after", 937.5: "half batches", 64: "size of a batch",
        3_840_000: "divide", 60_000: "a single digit", 900: "How many times",
    }  # fmt: skip
    try_number(capsys, exercises.check_batches, 938, wrong)


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


@pytest.fixture(autouse=True)
def _nobody_has_answered():
    verdicts._wrong_answers.clear()
