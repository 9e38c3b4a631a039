"""The exercises of notebook 05: right answers, typical mistakes, nonsense."""

import numpy as np
import torch

from mnist_helpers.tutorial.exercises import inside as exercises
from tests.exercising import Liar, try_function


def class_map(features, weights, digit):
    return torch.einsum("c,chw->hw", weights[digit], features)


def class_map_by_loop(features, weights, digit):
    total = 0
    for weight, feature in zip(weights[digit], features, strict=True):
        total = total + weight * feature
    return total.numpy()


def class_map_by_convolution(features, weights, digit):
    return torch.nn.functional.conv2d(features[None], weights[:, :, None, None])[0, digit]


def test_a_class_map_is_judged(capsys, monkeypatch):
    wrongs = {
        "all channels as they are": lambda f, w, d: f.sum(dim=0),
        "not added up yet": lambda f, w, d: w[d].view(-1, 1, 1) * f,
        "all ten digits": lambda f, w, d: torch.einsum("dc,chw->dhw", w, f),
        "a column of the weights": lambda f, w, d: class_map(f, w.T, d),
        "mean over the channels": lambda f, w, d: (w[d].view(-1, 1, 1) * f).mean(dim=0),
        "the logit already": lambda f, w, d: (w[d] * f.mean(dim=(1, 2))).sum(),
        "the places as well": lambda f, w, d: (w[d].view(-1, 1, 1) * f).sum(),
        "Leave out the ReLU": lambda f, w, d: class_map(f, w, d).clamp(min=0),
        "One weight for all": lambda f, w, d: (w[d, 0] * f).sum(0),
        "rows are columns": lambda f, w, d: class_map(f, w, d).T,
        "RuntimeError": lambda f, w, d: f @ w[d],
        "digit = 3 yours gives": lambda f, w, d: 2 * class_map(f, w, d),
    }
    rights = [class_map, class_map_by_loop, class_map_by_convolution]
    try_function(capsys, monkeypatch, exercises.check_class_map, rights, wrongs)


def push(image, gradient, epsilon):
    return torch.clamp(image + epsilon * torch.sign(gradient), 0, 1)


def push_with_numpy(image, gradient, epsilon):
    return np.clip(image.numpy() + epsilon * np.sign(gradient.numpy()), 0, 1)


def push_pixel_by_pixel(image, gradient, epsilon):
    result = image.clone()
    result[gradient > 0] += epsilon
    result[gradient < 0] -= epsilon
    return result.clamp(min=0).clamp(max=1)


def test_a_push_is_judged(capsys, monkeypatch):
    wrongs = {
        "the gradient itself": lambda i, g, e: (i + e * g).clamp(0, 1),
        "downhill": lambda i, g, e: (i - e * g.sign()).clamp(0, 1),
        "between 0 and 1": lambda i, g, e: i + e * g.sign(),
        "Only the change": lambda i, g, e: e * g.sign(),
        "moves by 1": lambda i, g, e: (i + g.sign()).clamp(0, 1),
        "by its largest number": lambda i, g, e: (i + e * g / g.abs().max()).clamp(0, 1),
        "scaled to length 1": lambda i, g, e: (i + e * g / g.norm()).clamp(0, 1),
        "more ink, whatever": lambda i, g, e: (i + e).clamp(0, 1),
        "limited the change": lambda i, g, e: i + (e * g.sign()).clamp(0, 1),
        "0 is paper": lambda i, g, e: (i + e * g.sign()).clamp(-1, 1),
        "is right": lambda i, g, e: i,
    }
    rights = [push, push_with_numpy, push_pixel_by_pixel]
    try_function(capsys, monkeypatch, exercises.check_push, rights, wrongs)


def reliability(confidence, correct, low, high):
    inside = (low < confidence) & (confidence <= high)
    return confidence[inside].mean(), correct[inside].double().mean()


def reliability_by_loop(confidence, correct, low, high):
    sure = [c.item() for c in confidence if low < c <= high]
    fine = [bool(f) for c, f in zip(confidence, correct, strict=True) if low < c <= high]
    return [sum(sure) / len(sure), round(sum(fine) / len(fine), 2)]


def reliability_with_numpy(confidence, correct, low, high):
    c, f = confidence.numpy(), correct.numpy()
    inside = (c > low) & (c <= high)
    return np.array([c[inside].mean(), f[inside].mean()])


def within(choose):
    def function(confidence, correct, low, high):
        inside = choose(confidence, low, high)
        return confidence[inside].mean(), correct[inside].float().mean()

    return function


def right_ones_only(confidence, correct, low, high):
    inside = (confidence > low) & (confidence <= high)
    return confidence[inside & correct].mean(), correct[inside].float().mean()


def of_all(confidence, correct, low, high):
    inside = (confidence > low) & (confidence <= high)
    return confidence[inside].mean(), correct[inside].sum() / len(correct)


def counted(confidence, correct, low, high):
    inside = (confidence > low) & (confidence <= high)
    return confidence[inside].mean(), correct[inside].sum()


def test_reliability_is_judged(capsys, monkeypatch):
    wrongs = {
        "other way round": lambda *case: reliability(*case)[::-1],
        "all answers. Choose": lambda c, f, low, high: (c.mean(), f.float().mean()),
        "no upper end": within(lambda c, low, high: c > low),
        "no lower end": within(lambda c, low, high: c <= high),
        "to the bin below": within(lambda c, low, high: (c >= low) & (c < high)),
        "at `high` belongs to the bin.": within(lambda c, low, high: (c > low) & (c < high)),
        "would count twice": within(lambda c, low, high: (c >= low) & (c <= high)),
        "right answers only": right_ones_only,
        "divides by all answers": of_all,
        "share of the bin": counted,
        "middle of the bin": lambda c, f, low, high: (
            (low + high) / 2,
            reliability(c, f, low, high)[1],
        ),
        "low = 0.7, high = 0.8": lambda c, f, low, high: reliability(c, f, low, high)[1],
    }
    rights = [reliability, reliability_by_loop, reliability_with_numpy]
    try_function(capsys, monkeypatch, exercises.check_reliability, rights, wrongs)


def test_a_readers_function_is_used_once_it_is_right():
    for ours, its, right in (
        (exercises.class_map_of, exercises.class_map, class_map),
        (exercises.push_of, exercises.push, push_with_numpy),
        (exercises.reliability_of, exercises.reliability, reliability_by_loop),
    ):
        for wrong in (..., 3, lambda *_: None, lambda *_: "a", lambda *_: Liar(), lambda *_: 1 / 0):
            assert ours(wrong) is its
        assert ours(right) is right
