"""The exercises of notebook 02: right answers, typical mistakes, nonsense."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mnist_helpers.tutorial.exercises import cnn as exercises
from mnist_helpers.tutorial.exercises import running
from tests.exercising import NO_NUMBERS, NUMBERS, said, try_function, try_number

ASKED = {
    "check_parameters": (
        263072,
        {
            263712: "scores", 73728: "alone", 264352: "second set", 262432: "no weights?",
            263136: "bias", 197536: "1x1", 189920: "all 128", 190496: "single", 189984: "as it was",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_a_number_is_judged(name, capsys):
    try_number(capsys, getattr(exercises, name), *ASKED[name])


def count_places(width, window, stride):
    places = 0
    for start in range(width):
        if start % stride == 0 and start + window <= width:
            places += 1
    return places


def test_a_size_is_judged(capsys, monkeypatch):
    rights = [
        lambda width, window, stride: (width - window) // stride + 1,
        lambda w, k, s: int((w - k) / s + 1),
        lambda w, k, s: len(range(0, w - k + 1, s)),
        lambda w, k, s: torch.tensor((w - k) // s + 1),
        lambda w, k, s: np.floor((w - k) / s) + 1,
        lambda w, k, s: torch.nn.functional.max_pool1d(torch.zeros(1, 1, w), k, s).shape[-1],
        count_places,
    ]
    wrongs = {
        "Whole windows only": lambda w, k, s: (w - k) / s + 1,
        "round up": lambda w, k, s: math.ceil((w - k) / s) + 1,
        "count the steps. Is": lambda w, k, s: (w - k) // s,
        "broken ones too": lambda w, k, s: (w - k) / s,
        "right for steps of 1": lambda w, k, s: w - k + 1,
        "how far the window can go": lambda w, k, s: w - k,
        "do you keep the first": lambda w, k, s: len(range(k, w + 1)) // s,
        "no longer fits": lambda w, k, s: w // s,
        "with padding": lambda w, k, s: (w + 2 * (k // 2) - k) // s + 1,
        "yours gives 27, and 26 is right": lambda w, k, s: (w - k) // s + 2,
    }  # fmt: skip
    try_function(capsys, monkeypatch, exercises.check_output_size, rights, wrongs)


GOOD = [[2, -1, -1], [-1, 2, -1], [-1, -1, 2]]
OTHER_GOOD = [[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]]


@pytest.mark.parametrize(
    "answer",
    [GOOD, OTHER_GOOD, tuple(map(tuple, GOOD)), np.array(GOOD), torch.tensor(GOOD),
     torch.tensor(GOOD, dtype=torch.float16), torch.tensor(GOOD)[None, None],
     torch.nn.Parameter(torch.tensor(OTHER_GOOD)), [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]],
)  # fmt: skip
def test_a_good_filter_is_seen(answer, capsys):
    assert said(capsys, exercises.check_diagonal, answer).startswith("Right. ")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "a sheet full of ink 3. What should all nine"),
        ([[1, -0.1, -0.1], [-0.1, 1, -0.1], [-0.1, -0.1, 1]], "not yet one and a half times"),
        ([[-1, -1, 2], [-1, 2, -1], [2, -1, -1]], "the other diagonal 6. Which corners"),
        ([[-1, -1, -1], [2, 2, 2], [-1, -1, -1]], "a horizontal line 6. Ink in a whole row"),
        ([[-1, 2, -1], [-1, 2, -1], [-1, 2, -1]], "a vertical line 6. Ink in a whole column"),
        ([[-2, 1, 1], [1, -2, 1], [1, 1, -2]], "Flip all signs"),
        ([[-1, -1, -1]] * 3, "A yes has to be positive"),
        ([[0, 0, 0]] * 3, "All weights are 0"),
        ([1, 2, 3], "yours is 3"),
        (torch.eye(5), "yours is 5x5"),
        (torch.zeros(2, 3, 3), "yours is 2x3x3"),
        ([[math.nan, 0, 0]] * 3, "finite"),
        ([[1, 2], [1]], "three rows of three numbers"),
        (7, "yours is one number"),
        ("a filter", "not this str"),
    ],
)
def test_a_wrong_filter_gets_its_hint(answer, hint, capsys):
    text = said(capsys, exercises.check_diagonal, answer)
    assert text.startswith("Not yet. ") and hint in text, text


def test_the_filter_waits_and_stands_nonsense(capsys):
    assert said(capsys, exercises.check_diagonal, ...) == "Not answered yet.\n"
    for nonsense in [*NUMBERS, *NO_NUMBERS]:
        assert said(capsys, exercises.check_diagonal, nonsense).startswith("Not yet. ")
    exercises.check_diagonal(torch.eye(3))
    exercises.check_diagonal(torch.eye(3))
    assert "0 in sum" in capsys.readouterr().out


def three_by_three(channels_in, channels_out, **options):
    return nn.Conv2d(channels_in, channels_out, 3, **{"bias": False, **options})


class Yours(nn.Module):
    """A network as a reader writes it; what makes one wrong is overridden below."""

    def __init__(self):
        super().__init__()
        self.conv1 = three_by_three(1, 32)
        self.conv2 = three_by_three(32, 64)
        self.conv3 = three_by_three(64, 128)
        self.pool = nn.MaxPool2d(2)
        self.squeeze = nn.Conv2d(128, 32, 1, bias=False)
        self.conv4 = three_by_three(32, 64)
        self.conv5 = three_by_three(64, 128)
        self.scores = nn.Conv2d(128, 10, 1, bias=False)

    def begin(self, x):
        return self.pool(self.conv3(self.conv2(self.conv1(x).relu()).relu())).relu()

    def body(self, x):
        return self.conv5(self.conv4(self.squeeze(self.begin(x)).relu()).relu()).relu()

    def votes(self, x):
        return self.scores(self.body(x))

    def forward(self, x):
        return self.votes(x).mean(dim=(2, 3))


class YoursDeeper(Yours):
    def __init__(self):
        super().__init__()
        self.conv6 = three_by_three(128, 64)
        self.scores = nn.Conv2d(64, 10, 1, bias=False)

    def body(self, x):
        return self.conv6(super().body(x)).relu()


def change(base=Yours, forward=None, **layers):
    """Return a class with another `forward`, or with other layers."""

    def __init__(self):  # noqa: N807
        base.__init__(self)
        for name, layer in layers.items():
            if hasattr(self, name):
                delattr(self, name)  # else PyTorch refuses what is no layer
            setattr(self, name, layer)

    return type("Changed", (base,), {"__init__": __init__, "forward": forward or base.forward})


def other_layers(net, x):
    x = torch.relu(net.squeeze(net.begin(x)))
    x = nn.functional.relu(net.conv5(nn.ReLU()(net.conv4(x))))
    return nn.AdaptiveAvgPool2d(1)(net.scores(x)).flatten(1)


def without_pool(net, x):
    x = net.conv3(net.conv2(net.conv1(x).relu()).relu()).relu()
    return net.scores(
        net.conv5(net.conv4(net.squeeze(x).relu()).relu()).relu()
    ).mean((2, 3))  # fmt: skip


def linear_squeeze(net, x):
    x = net.conv4(net.squeeze(net.begin(x))).relu()
    return net.scores(net.conv5(x).relu()).mean((2, 3))


def linear_conv5(net, x):
    x = net.conv5(net.conv4(net.squeeze(net.begin(x)).relu()).relu())
    return net.scores(x).mean((2, 3))


def forgets_squeeze(net, x):
    return net.scores(net.conv5(net.conv4(net.begin(x)).relu()).relu()).mean((2, 3))


def seven_by_seven(net, x):
    return nn.AvgPool2d(7)(net.votes(x)).flatten(1)


def is_endless(net, x):
    while True:
        pass


WRONG_NETWORKS = {
    "conv4 has a bias": change(conv4=nn.Conv2d(32, 64, 3)),
    "weights of conv4 have the shape (32, 32, 3, 3); they should": change(
        conv4=three_by_three(32, 32), conv5=three_by_three(32, 128)
    ),
    "weights of conv5 have the shape (128, 64, 5, 5)": change(
        conv5=nn.Conv2d(64, 128, 5, bias=False)
    ),
    "conv5 should do without padding": change(conv5=three_by_three(64, 128, padding=1)),
    "conv4 is not a convolution yet: it is a ellipsis": change(conv4=...),
    "conv5 is not a convolution yet: it is a Linear": change(conv5=nn.Linear(64, 128)),
    "What is bn.weight for?": change(bn=nn.BatchNorm2d(64)),
    "ten maps for each image": change(forward=Yours.votes),
    "(N, 10, 1, 1)": change(forward=lambda net, x: net.votes(x).mean((2, 3), keepdim=True)),
    "returns the shape (2, 7, 7)": change(forward=lambda net, x: net.votes(x).mean(1)),
    "ReLU after the last": change(forward=lambda net, x: net.votes(x).relu().mean((2, 3))),
    "ReLU after the average": change(forward=lambda net, x: Yours.forward(net, x).relu()),
    "softmax at the end": change(forward=lambda net, x: Yours.forward(net, x).softmax(1)),
    "pool is missing": change(forward=without_pool),
    "no ReLU after squeeze": change(forward=linear_squeeze),
    "no ReLU after conv5": change(forward=linear_conv5),
    "largest vote": change(forward=lambda net, x: net.votes(x).amax((2, 3))),
    "add up the votes": change(forward=lambda net, x: net.votes(x).sum((2, 3))),
    "scores are not": change(forward=lambda net, x: 2 * Yours.forward(net, x)),
    "Your network stopped with RuntimeError": change(forward=forgets_squeeze),
    "images of 44x44 it returns the shape (1, 40)": change(forward=seven_by_seven),
    "forward returns a list": change(forward=lambda net, x: [1]),
    "Your network was stopped": change(forward=is_endless),
    "brackets matter": type("Plain", (), {}),
}


@pytest.mark.parametrize("hint", WRONG_NETWORKS)
def test_a_wrong_network_gets_its_hint(hint, capsys, monkeypatch):
    monkeypatch.setattr(running, "SECONDS", 5.0 if "stopped" not in hint else 0.5)
    wrong = WRONG_NETWORKS[hint]
    text = said(capsys, exercises.check_network, wrong)
    assert text.startswith("Not yet. ") and hint in text, text
    assert exercises.yours_or_ours(wrong) is exercises.DigitNet


def test_a_good_network_is_seen(capsys):
    pooled = nn.Sequential(nn.MaxPool2d(2, stride=2))
    for good in (Yours, exercises.DigitNet, change(forward=other_layers), change(pool=pooled)):
        assert said(capsys, exercises.check_network, good).startswith("Right. Its ten")
        assert exercises.yours_or_ours(good) is good
    assert sum(weights.numel() for weights in Yours().parameters()) == 189_984


def test_a_deeper_network_is_judged(capsys):
    for good in (YoursDeeper, exercises.DeeperNet):
        assert said(capsys, exercises.check_deeper, good).startswith("Right. ")
    assert sum(w.numel() for w in YoursDeeper().parameters()) == ASKED["check_parameters"][0]
    wrongs = {
        "conv6 is not a convolution yet: it is a ellipsis": change(YoursDeeper, conv6=...),
        "scores have the shape (10, 128, 1, 1)": Yours,
        "scores have the shape (10, 128": change(
            YoursDeeper, scores=nn.Conv2d(128, 10, 1, bias=False)
        ),
        "conv6 have the shape (128, 128": change(YoursDeeper, conv6=three_by_three(128, 128)),
        "conv6 has a bias": change(YoursDeeper, conv6=nn.Conv2d(128, 64, 3)),
        "conv6 should do without padding": change(
            YoursDeeper, conv6=three_by_three(128, 64, padding=1)
        ),
        "no ReLU after conv6": change(
            YoursDeeper, lambda net, x: net.scores(net.conv6(Yours.body(net, x))).mean((2, 3))
        ),
        "RuntimeError": change(
            YoursDeeper, lambda net, x: net.scores(Yours.body(net, x)).mean((2, 3))
        ),
    }
    for hint, wrong in wrongs.items():
        text = said(capsys, exercises.check_deeper, wrong)
        assert text.startswith("Not yet. ") and hint in text, text
    exercises.check_deeper(Yours)
    exercises.check_deeper(Yours)
    assert "behind each line" in capsys.readouterr().out


def test_a_network_waits_and_stands_nonsense(capsys):
    class Failing:
        def __init__(self):
            raise SystemExit

    blank = change(forward=lambda net, x: ..., conv4=..., conv5=...)
    for check in (exercises.check_network, exercises.check_deeper):
        for unanswered in (..., blank):
            assert said(capsys, check, unanswered) == "Not answered yet.\n"
        for nonsense in (*NUMBERS, *NO_NUMBERS, Yours(), Failing, int, lambda: Yours()):
            assert said(capsys, check, nonsense).startswith("Not yet. ")
    assert exercises.yours_or_ours(blank) is exercises.DigitNet
