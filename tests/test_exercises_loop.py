"""The exercises of notebook 03: right answers, typical mistakes, nonsense."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from mnist_helpers.tutorial.exercises import loop as exercises
from tests.exercising import NO_NUMBERS, NUMBERS, Liar, divide, said, try_function


def by_the_book(w, gradient_at, lr, momentum, steps):
    path, velocity = [w], 0
    for _ in range(steps):
        velocity = momentum * velocity + gradient_at(w)
        w = w - lr * velocity
        path.append(w)
    return path


def rate_in_the_velocity(w, gradient_at, lr, momentum, steps):
    path, move = torch.full((steps + 1,), w), 0.0
    for step in range(steps):
        move = momentum * move - lr * gradient_at(path[step].item())
        path[step + 1] = path[step] + move
    return path


def from_the_last_move(w, gradient_at, lr, momentum, steps):
    path = [w, w]
    while len(path) < steps + 2:
        move = momentum * (path[-1] - path[-2])
        path.append(path[-1] + move - lr * gradient_at(path[-1]))
    return np.array(path[1:])


def by_pytorch(w, gradient_at, lr, momentum, steps):
    weight = torch.tensor(w, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=lr, momentum=momentum)
    path = [w]
    for _ in range(steps):
        weight.grad = torch.tensor(gradient_at(weight.item()))
        optimizer.step()
        path.append(round(weight.item(), 2))
    return tuple(path)


def walk(move, velocity=0.0, anew=False, fixed=False):
    """Return a walk whose `move` makes velocity and w from velocity, w, gradient, lr, momentum."""

    def descend(w, gradient_at, lr, momentum, steps):
        path, v, start = [w], velocity, w
        for _ in range(steps):
            v = velocity if anew else v
            v, w = move(v, w, gradient_at(start if fixed else w), lr, momentum)
            path.append(w)
        return path

    return descend


def good(v, w, g, lr, m):
    return (v := m * v + g), w - lr * v


WRONG_WALKS = {
    "uphill": walk(lambda v, w, g, lr, m: ((v := m * v + g), w + lr * v)),
    "uphill. Which": walk(lambda v, w, g, lr, m: ((v := m * v - g), w - lr * v)),
    "never forgets": walk(lambda v, w, g, lr, m: ((v := v + g), w - lr * v)),
    "whatever `momentum` says": walk(lambda v, w, g, lr, m: good(v, w, g, lr, 0.9)),
    "never moves": walk(lambda v, w, g, lr, m: ((v := m * v), w - lr * v)),
    "fades the new gradient": walk(lambda v, w, g, lr, m: ((v := m * (v + g)), w - lr * v)),
    "an average": walk(lambda v, w, g, lr, m: ((v := m * v + (1 - m) * g), w - lr * v)),
    "counts twice": walk(lambda v, w, g, lr, m: ((v := m * v + lr * g), w - lr * v)),
    "rate is missing": walk(lambda v, w, g, lr, m: ((v := m * v + g), w - v)),
    "where w is now": walk(good, fixed=True),
    "begin with the start": lambda *case: by_the_book(*case)[1:],
    "is right": lambda *case: by_the_book(*case)[-1],
    "With w = -4.0": walk(lambda v, w, g, lr, m: (m * v + g, w - lr * v)),  # the old velocity
}


def test_momentum(capsys, monkeypatch):
    for plain in (walk(good, anew=True), walk(lambda v, w, g, lr, m: (v, w - lr * g))):
        assert said(capsys, exercises.check_momentum, plain).startswith("Not answered yet. These")
    rights = [by_the_book, rate_in_the_velocity, from_the_last_move, by_pytorch]
    try_function(capsys, monkeypatch, exercises.check_momentum, rights, WRONG_WALKS)
    exercises.check_momentum(WRONG_WALKS["uphill"])
    exercises.check_momentum(WRONG_WALKS["uphill"])
    assert "First velocity =" in capsys.readouterr().out


def in_one_line(model, images, labels, loss_fn, optimizer):
    optimizer.zero_grad()
    (loss := loss_fn(model(images), labels)).backward()
    optimizer.step()
    return loss.item()


def forget_at_the_end(model, images, labels, loss_fn, optimizer):
    loss = loss_fn(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach().numpy()


def by_the_model(model, images, labels, loss_fn, optimizer):
    logits = model(images)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    return round(loss.item(), 3)


def by_none(model, images, labels, loss_fn, optimizer):
    for weight in model.parameters():
        weight.grad = None
    loss = loss_fn(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def steps(*words, scores=lambda z: z, returns=lambda loss, _: loss):
    """Return a training step that does these things in this order."""

    def step(model, images, labels, loss_fn, optimizer):
        logits = model(images)
        loss = loss_fn(scores(logits), labels)
        for word in words:
            {"forget": optimizer.zero_grad, "ask": loss.backward, "step": optimizer.step}[word]()
        return returns(loss, logits)

    return step


def learn_nothing(model, images, labels, loss_fn, optimizer):
    optimizer.zero_grad()
    return 1.0


def twice(model, images, labels, loss_fn, optimizer):
    steps("forget", "ask", "step")(model, images, labels, loss_fn, optimizer)
    return steps("forget", "ask", "step")(model, images, labels, loss_fn, optimizer)


GOOD = ("forget", "ask", "step")
WRONG_STEPS = {
    "never go through": learn_nothing,
    "Nobody asks": steps("forget", "step"),
    "no weight moves. Which": steps("forget", "ask"),
    "old gradients": steps("ask", "step"),
    "before you ask": steps("forget", "step", "ask"),
    "between finding": steps("ask", "forget", "step"),
    "applies another": steps(*GOOD, scores=lambda z: z.softmax(dim=1)),
    "returns nothing": steps(*GOOD, returns=lambda *_: None),
    "not the loss of this batch": steps(*GOOD, returns=lambda _, logits: logits),
    "not as one step": twice,
}


def test_train_step(capsys, monkeypatch):
    rights = [in_one_line, forget_at_the_end, by_the_model, by_none]
    try_function(capsys, monkeypatch, exercises.check_train_step, rights, WRONG_STEPS)
    exercises.check_train_step(steps("ask", "step"))
    exercises.check_train_step(steps("ask", "step"))
    assert "in this order" in capsys.readouterr().out


def test_a_step_that_is_right_is_used_and_no_other(capsys):
    def lose(right):
        model = exercises.Pupil()
        optimizer = exercises.NotedSGD(model)
        step = exercises.working_step(right)
        batch = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
        return step(model, *batch, torch.nn.CrossEntropyLoss(), optimizer), model.log

    for right in (in_one_line, forget_at_the_end, by_the_model, by_none):
        loss, log = lose(right)
        assert type(loss) is float and log.count("step") == 1
        assert (log[-1] == "forget") == (right is forget_at_the_end)  # the reader's, not ours
        assert "your own train_step" in capsys.readouterr().out
    for wrong in (..., None, divide, lambda *_: None, *WRONG_STEPS.values()):
        loss, log = lose(wrong)
        assert type(loss) is float and log == ["predict", "forget", "ask", "step"]
        assert "still open" in capsys.readouterr().out


def in_place(images, labels):
    order = np.random.permutation(len(labels))
    return images[order], labels[order]


def in_a_list(images, labels):
    pairs = [(images[i], labels[i]) for i in torch.randperm(len(images))]
    return [torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])]


def one_order(images, labels):
    order = torch.randperm(len(images))
    return images[order].numpy(), labels[order].numpy()


def random_places(images, labels):
    places = torch.arange(len(images)) // 2
    return images[places], labels[places]


def shuffled(of_images, of_labels):
    def shuffle(images, labels):
        orders = [torch.randperm(len(labels)) if s else slice(None) for s in (of_images, of_labels)]
        return images[orders[0]], labels[orders[1]]

    return shuffle


WRONG_SHUFFLES = {
    "order of its own": shuffled(True, True),
    "Only the images": shuffled(True, False),
    "Only the labels": shuffled(False, True),
    "not shuffled at all": shuffled(False, False),
    "come back twice": random_places,
    "39 and 39 come back": lambda images, labels: (images[1:], labels[1:]),
    "two things": lambda images, labels: images,
    "in the shapes": lambda images, labels: (images.flatten(), labels),
}


def test_shuffle(capsys, monkeypatch):
    rights = [in_place, in_a_list, one_order]
    try_function(capsys, monkeypatch, exercises.check_shuffle, rights, WRONG_SHUFFLES)


def losses_at(rate):
    """Rates up to 0.004 survive."""
    return [2.5, 1.0, 0.5] if rate <= 0.004 else [2.5, 1.0, math.nan if rate > 1 else 9.7]


def test_largest_rate(capsys):
    check = partial(exercises.check_largest_rate, losses_at=losses_at)
    for right in (0.004, 0.003, torch.tensor(0.0035), np.float32(0.0035)):
        assert said(capsys, check, right).startswith("Right. ")
    assert "climbs to 9.7" in said(capsys, check, 0.006)
    assert "Be bolder" in said(capsys, check, 0.001)
    assert said(capsys, check, 5).startswith("Not yet. 5 does not survive")
    assert said(capsys, check, ...) == "Not answered yet.\n"
    for nonsense in (*NUMBERS, *NO_NUMBERS, 0, -0.01, "0.004"):
        assert said(capsys, check, nonsense).startswith("Not yet. ")
    broken = partial(exercises.check_largest_rate, losses_at=3)
    assert "TypeError" in said(capsys, broken, 0.004)


RIGHT = {"A": "labels", "B": "gradients", "C": "softmax"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RIGHT, "Right. "),
        ({letter: fault.upper() for letter, fault in RIGHT.items()}, "Right. "),
        (RIGHT | {"A": "softmax", "C": "labels"}, "1 of 3 are right. Look again: loop A"),
        (RIGHT | {"B": "labels", "A": "gradients"}, "loop A never"),
        (RIGHT | {"B": "softmax", "C": "gradients"}, "loop B sets off well"),
        (RIGHT | {"C": "labels"}, "loop C learns smoothly"),
        (RIGHT | {"C": "rate"}, "For C choose one of"),
        (RIGHT | {"C": 3}, "For C choose one of"),
        (RIGHT | {"A": ...}, "Not answered yet."),
        ({}, "Not answered yet."),
        (..., "Not answered yet."),
        ("labels", "must be a dictionary"),
    ],
)
def test_diagnosis(answer, words, capsys):
    assert words in said(capsys, exercises.check_diagnosis, answer)
    assert "must be a dictionary" in said(capsys, exercises.check_diagnosis, Liar())
