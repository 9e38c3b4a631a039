"""The scripts behind the figures in results/."""

import argparse
import json
import math
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from experiments import compare, seeds, target
from mnist_helpers.history import EpochRecord
from tests.conftest import make_digits, make_linear


@pytest.fixture
def rival(tmp_path, monkeypatch):
    """Return a rival of four epochs that learns small digits, and how often it has learned."""
    begun = []

    def usual_recipe(root, init, device):
        digits = make_digits(40)
        model = make_linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0001, momentum=0.9)
        loader = DataLoader(digits, 8, shuffle=True)
        return model, loader, DataLoader(digits, 40), nn.CrossEntropyLoss(), optimizer

    def plain_epoch(*parts):
        if len(begun) == 2 and stop_third:
            raise KeyboardInterrupt
        begun.append(1)
        return learn(*parts)

    learn, stop_third = seeds.plain_epoch, []
    monkeypatch.setattr(seeds, "usual_recipe", usual_recipe)
    monkeypatch.setattr(seeds, "plain_epoch", plain_epoch)
    monkeypatch.setattr(seeds, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(seeds, "UNFINISHED", tmp_path / "seeds")
    monkeypatch.setattr(seeds, "MOST_EPOCHS", 4)
    monkeypatch.setattr(seeds, "TARGET", 2.0)
    return begun, stop_third


def losses(name):
    records = seeds.train_rival(name, 1, argparse.Namespace(data_root=None))
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    return [record.train_loss for record in records]


def test_a_rival_that_was_interrupted_goes_on_as_if_it_had_not_been(rival):
    begun, stop_third = rival
    expected = losses("usual")
    begun.clear()
    stop_third.append(True)
    with pytest.raises(KeyboardInterrupt):
        losses("usual_he")
    stop_third.clear()
    begun.clear()
    assert losses("usual_he") == expected
    assert len(begun) == 2
    assert losses("usual_he") == expected and len(begun) == 2  # finished: nothing is learned anew


def test_a_rival_stops_where_it_has_reached_the_target(rival, monkeypatch):
    monkeypatch.setattr(seeds, "TARGET", 0.0)
    records = seeds.train_rival("usual", 1, argparse.Namespace(data_root=None))
    assert len(records) == 1
    again = seeds.train_rival("usual", 1, argparse.Namespace(data_root=None))
    assert again == records or math.isnan(again[0].test_loss)


def page(path, accuracies):
    """Write a page of seeds, each with its epochs' accuracies."""
    rows = [
        f"{seed},{epoch},{accuracy}"
        for seed, epochs in enumerate(accuracies, 1)
        for epoch, accuracy in enumerate(epochs, 1)
    ]
    path.write_text("seed,epoch,test_accuracy\n" + "\n".join(rows) + "\n")


def test_the_target_is_counted_in_epochs_and_compared_in_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(target, "RESULTS", tmp_path)
    page(tmp_path / "seeds_fast.csv", [[0.99], [0.991], [0.9899]])
    page(tmp_path / "seeds_default.csv", [[0.9, 0.98, 0.99], [0.995, 0.5], [0.98] * 5])
    page(tmp_path / "seeds_usual.csv", [[0.98] * 20, [0.98] * 11 + [0.99], [0.98] * 20])
    assert target.first_epochs(tmp_path / "seeds_fast.csv") == [1, 1, math.inf]
    assert target.first_epochs(tmp_path / "seeds_default.csv") == [3, 1, math.inf]
    assert target.first_epochs(tmp_path / "seeds_usual.csv") == [20, 12, 20]
    older, last = {"fast_over_usual": [9.0]}, {"fast_over_usual": [1.1, 1.0, 1.2], "machine": "m"}
    (tmp_path / "benchmarks.jsonl").write_text(f"{json.dumps(older)}\n{json.dumps(last)}\n")
    (tmp_path / "figures.json").write_text('{"other": "1"}')
    target.main()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["other"] == "1"
    assert (figures["target.fast"], figures["target.fast.seeds"]) == ("1", "3")
    assert (figures["target.usual"], figures["target.usual.over_fast"]) == ("20", "22.0")
    assert (figures["target.usual_he"], figures["target.usual_he.over_fast"]) == ("3", "3.3")
    assert "22.0 times sooner than usual" in capsys.readouterr().out
    page(tmp_path / "seeds_usual_he.csv", [[0.98, 0.99]])  # what was run itself comes first
    assert target.read_pages()["usual_he"] == [2]


def test_two_ways_are_compared_seed_by_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    page(tmp_path / "seeds_one.csv", [[0.5, 0.90], [0.5, 0.80], [0.5, 0.70]])
    page(tmp_path / "seeds_two.csv", [[0.5, 0.91], [0.5, 0.82], [0.5, 0.73], [0.5, 0.99]])
    (tmp_path / "figures.json").write_text('{"other": "1"}')
    monkeypatch.setattr(sys, "argv", ["compare", "one", "two", "--figure", "gain"])
    compare.main()
    # Differences of 1, 2 and 3: mean 2, deviation 1, so 4.303 / sqrt(3) either way.
    assert "two less one: +2.00 ± 2.48 percentage points, 3 seeds" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text()) == {
        "other": "1", "gain": "+2.00 ± 2.48", "gain.seeds": "3"
    }  # fmt: skip
    with pytest.raises(SystemExit, match="1 common seeds are too few"):
        compare.difference({1: 0.9, 2: 0.8}, {2: 0.9, 3: 0.8})


def test_what_was_set_is_kept_on_a_page_of_its_own_or_not_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(seeds, "RESULTS", tmp_path)
    record = EpochRecord(1, 0.01, 0.3, 0.9, 0.2, 0.95, 1.0, 1.0)
    trained = []

    def train_ours(name, seed, options, changes):
        trained.append((name, seed, changes))
        return [record]

    monkeypatch.setattr(seeds, "train_ours", train_ours)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seeds", *arguments])
        trained.clear()
        seeds.main()
        return trained

    assert run("fast", "--seeds", "1", "2") == [("fast", 1, {}), ("fast", 2, {})]
    assert run("fast", "--seeds", "2", "3") == [("fast", 3, {})]
    unclipped = "--set", "clip_norm=0.0", "precision=float32"
    changes = {"clip_norm": 0.0, "precision": "float32"}
    assert run("fast", "--seeds", "1", *unclipped) == [("fast", 1, changes)]
    assert "0.95" in capsys.readouterr().out
    assert [page.name for page in tmp_path.glob("*.csv")] == ["seeds_fast.csv"]
    assert run("fast", "--seeds", "1", *unclipped, "--page", "b") == [("fast", 1, changes)]
    assert run("fast", "--seeds", "1", "2", *unclipped, "--page", "b") == [("fast", 2, changes)]
    assert seeds.seeds_on(tmp_path / "seeds_b.csv") == {1, 2}
    assert seeds.seeds_on(tmp_path / "seeds_fast.csv") == {1, 2, 3}
    for wrong in (["usual", "--set", "lr=1"], ["fast", "--page", "fast"]):
        with pytest.raises(SystemExit):
            run(*wrong)
