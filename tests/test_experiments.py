"""The scripts behind the figures in results/."""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from experiments import bench, compare, costs, ladder, mutants, pages, ranges, seeds, target
from mnist_helpers import RECIPES, MnistCNN, TrainConfig
from mnist_helpers.history import EpochRecord
from tests.conftest import make_digits, make_linear


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return a folder of results of one's own, with one figure in it."""
    for module in (pages, ranges, target):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    (tmp_path / "figures.json").write_text('{"other": "1"}')
    return tmp_path


def figures(results):
    return json.loads((results / "figures.json").read_text())


def page(name, accuracies, machine="2 threads of a computer"):
    """Write a page of seeds, each with its epochs' accuracies."""
    rows = [
        f"{seed},{epoch},{accuracy},{machine}"
        for seed, epochs in enumerate(accuracies, 1)
        for epoch, accuracy in enumerate(epochs, 1)
    ]
    pages.page_of(name).write_text("seed,epoch,test_accuracy,machine\n" + "\n".join(rows) + "\n")


@pytest.fixture
def rival(tmp_path, monkeypatch):
    """Return a rival of four epochs that learns small digits, and how often it has learned."""
    begun = []

    def usual_recipe(root, device, batch_size, init):
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
    monkeypatch.setattr(seeds, "UNFINISHED", tmp_path / "seeds")
    monkeypatch.setattr(seeds, "MOST_EPOCHS", 4)
    monkeypatch.setattr(seeds, "TARGET", 2.0)
    return begun, stop_third


def losses(name):
    records = seeds.train_rival(name, 1, argparse.Namespace(data_root=None, most=None))
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
    records = seeds.train_rival("usual", 1, argparse.Namespace(data_root=None, most=None))
    assert len(records) == 1
    again = seeds.train_rival("usual", 1, argparse.Namespace(data_root=None, most=None))
    assert len(rival[0]) == 1  # it had the target: nothing was learned anew
    assert [dataclasses.replace(record, test_loss=0.0) for record in again] == [
        dataclasses.replace(record, test_loss=0.0) for record in records
    ]


def test_the_target_is_counted_in_epochs_and_compared_in_time(results, capsys):
    page("fast", [[0.99], [0.991], [0.9899]], machine="1 thread of a computer")
    page("default", [[0.9, 0.98, 0.99], [0.995, 0.5], [0.98] * 5])
    page("usual", [[0.98] * 20, [0.98] * 11 + [0.99], [0.98] * 20])
    with pytest.raises(SystemExit, match="run `make bench` on a computer in float32"):
        target.main()
    speeds = [9.0, "2 threads of another"], [1.1, "4 threads of a computer"], [5.0, "a third"]
    lines = [
        json.dumps({"fast_over_usual": [s, s, s], "machine": m, "precision": precision})
        for (s, m), precision in zip(speeds, ("bfloat16", "float32", "float32"), strict=True)
    ]
    other = json.dumps(json.loads(lines[1]) | {"precision": "bfloat16", "fast_over_usual": [7]})
    old = json.dumps({"machine": "4 threads of a computer"})
    (results / "benchmarks.jsonl").write_text("\n".join([*lines, other, old]) + "\n")
    target.main()
    assert figures(results) == {
        "other": "1",
        "target.fast": "1", "target.fast.reached": "2 of 3",
        "target.usual": "at least 20", "target.usual.reached": "1 of 3",
        "target.usual.over_fast": "at least 22",
        "target.usual_he": "3", "target.usual_he.reached": "2 of 3",
        "target.usual_he.over_fast": "3.3",
    }  # fmt: skip
    assert "usual takes at least 22 times as long as fast" in capsys.readouterr().out
    page("usual_he", [[0.98, 0.99]])  # what was run itself comes first
    page("fast-precision=bfloat16", [[0.99]], machine="8 threads of another")
    target.main()
    assert figures(results)["target.usual_he"] == "2"
    assert figures(results)["target.usual_he.over_fast"] == "2.2"
    assert figures(results)["target.usual_he.over_fast.bfloat16"] == "18"


def test_a_seed_that_did_not_arrive_would_have_taken_longer():
    assert target.least_median({1: [0.99], 2: [0.5], 3: [0.5, 0.99]}) == (2, True)
    assert target.least_median({1: [0.99], 2: [0.5] * 3, 3: [0.5] * 6}) == (4, False)
    assert target.least_median({1: [0.5] * 20}) == (20, False)
    assert target.first_epochs({1: [0.5, 0.99, 0.5], 2: [0.5]}) == [2, math.inf]


def test_where_half_of_fast_does_not_arrive_no_time_is_told(results):
    with pytest.raises(SystemExit, match="seeds fast` first"):
        target.main()
    page("fast", [[0.99], [0.98], [0.98]])
    page("usual", [[0.98] * 20])
    with pytest.raises(SystemExit, match="half of the seeds of fast stay below 99%"):
        target.main()
    assert figures(results) == {"other": "1"}


def test_two_ways_are_compared_seed_by_seed(results, monkeypatch, capsys):
    page("one", [[0.5, 0.9], [0.5, 0.8], [0.5, 0.7], [0.5, 0.6], [0.5, 0.5]])
    page("two", [[0.5, 0.91], [0.5, 0.82], [0.5, 0.73], [0.5, 0.64], [0.5, 0.55], [0.5, 0.99]])
    monkeypatch.setattr(sys, "argv", ["compare", "one", "two", "--figure", "gain"])
    compare.main()
    # Differences of 1 to 5: mean 3, deviation 1.58, so 2.776 * 1.58 / sqrt(5) either way.
    assert "two minus one: +3.00 ± 1.96 percentage points, 5 seeds" in capsys.readouterr().out
    assert figures(results) == {"other": "1", "gain": "+3.00 ± 1.96", "gain.seeds": "5"}
    with pytest.raises(SystemExit, match="4 common seeds are too few, 5 are needed"):
        compare.difference(dict.fromkeys(range(4), 0.9), dict.fromkeys(range(9), 0.8))
    monkeypatch.setattr(sys, "argv", ["compare", "usual", "two"])
    with pytest.raises(SystemExit):
        compare.main()
    assert "other weights and another order" in capsys.readouterr().err


def test_a_range_reaches_four_deviations_around_the_last_epochs(results, capsys):
    page("quick", [[0.5, a] for a in (0.93, 0.94, 0.95, 0.94, 0.94)])  # deviation 0.0071
    page("default", [[0.98, 0.99], [0.97, 0.991]])
    page("fast", [[0.992], [0.99]])
    page("fast-clip_norm=0.0", [[0.991], [0.98], [0.5]])
    ranges.main()
    assert json.loads((results / "ranges.json").read_text()) == {
        "quick": {"last": [0.91, 0.97], "seeds": 5}
    }
    assert figures(results) == {
        "other": "1", "range.quick": "91 to 97 %", "expect.quick": "91.8% to 96.2%",
        "seeds.quick": "5",
        "fast.last": "99.00% to 99.20%", "fast.mean": "99.10%", "fast.seeds": "2",
        "fast.unclipped": "98.00%", "fast.clipped": "99.00%", "fast.unclipped.seeds": "2",
    }  # fmt: skip
    assert "default: 2 seeds are too few" in capsys.readouterr().out
    page("default", [[0.98, 0.99], [0.97, 0.99], [0.96, 0.99], [0.98, 0.992], [0.98, 0.99]])
    ranges.main()
    assert figures(results)["default.first.seeds"] == "96.00% to 98.00%"
    assert figures(results)["default.last.seeds"] == "99.00% to 99.20%"
    with pages.page_of("quick").open("a") as file:
        file.write("9,1,0.5,m\n")
    with pytest.raises(SystemExit, match=r"seeds_quick\.csv: some seeds have fewer epochs"):
        ranges.main()
    assert ranges.range_of([0.999, 0.9995, 1.0], 0.001) == (0.997, 1.0)


def test_each_rung_adds_to_the_one_before_until_it_is_fast(tmp_path, monkeypatch):
    settings = [ladder.settings_of(name) for name in ladder.RUNGS]
    for before, after in itertools.pairwise(settings):
        assert before.items() <= after.items() or after.keys() == before.keys()
    fast = {**RECIPES["fast"], "precision": "float32", "checkpoint_dir": None}
    assert settings[-1] == fast and len(settings[0]) == 4
    assert ladder.settings_of(ladder.BESIDE) == settings[0]
    first, second = (ladder.network_of(n).input_block[0].weight for n in list(ladder.RUNGS)[:2])
    assert first.std() < second.std() / 2
    network = ladder.network_of(ladder.BESIDE)
    layers = [type(layer).__name__ for layer in network]
    assert layers.count("BatchNorm2d") == layers.count("Conv2d") - 1 == 6
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_ladder_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    trained = []

    def train(name, seed, data_root):
        trained.append((name, seed))
        if len(trained) in (3, 20):
            raise KeyboardInterrupt
        return 0.9 + seed / 100

    monkeypatch.setattr(ladder, "PAGE", tmp_path / "ladder.csv")
    monkeypatch.setattr(ladder, "train", train)
    monkeypatch.setattr(sys, "argv", ["ladder", "--seeds", "1", "2"])
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):
            ladder.main()
    assert len(trained) == 17 and trained[2] == trained[3]  # the interrupted one, once more
    rows = ladder.rows()
    assert [(row["rung"], row["seed"]) for row in rows[:2]] == [
        ("default start", "1"), ("He's start", "1"),
    ]  # fmt: skip
    assert len(rows) == 16 and {row["test_accuracy"] for row in rows} == {"0.91", "0.92"}


def test_what_was_set_is_kept_on_a_page_of_its_own_or_not_at_all(results, monkeypatch, capsys):
    record, trained = EpochRecord(1, 0.01, 0.3, 0.9, 0.2, 0.95, 1.0, 1.0), []

    def train_ours(name, seed, options):
        trained.append((name, seed))
        return [record]

    monkeypatch.setattr(seeds, "train_ours", train_ours)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seeds", *arguments])
        trained.clear()
        seeds.main()
        return trained

    assert run("fast", "--seeds", "1", "2") == [("fast", 1), ("fast", 2)]
    assert run("fast", "--seeds", "2", "3") == [("fast", 3)]
    changes = "--set", "clip_norm=0.0", "precision=float32"
    unclipped = "fast-clip_norm=0.0-precision=float32"
    assert run("fast", "--seeds", "1", *changes) == [(unclipped, 1)]
    assert "0.95" in capsys.readouterr().out
    assert [path.name for path in results.glob("*.csv")] == ["seeds_fast.csv"]
    assert run("fast", "--seeds", "1", *changes, "--keep") == [(unclipped, 1)]
    assert run("fast", "--seeds", "1", "2", *changes, "--keep") == [(unclipped, 2)]
    assert pages.last_of(unclipped) == {1: 0.95, 2: 0.95}
    assert pages.epochs_of("fast") == {1: [0.95], 2: [0.95], 3: [0.95]}
    with pytest.raises(SystemExit):
        run("usual", "--set", "lr=1")
    assert "a rival has none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("fast", "--set", "lr")
    assert "FIELD=VALUE, such as lr=0.02, got 'lr'" in capsys.readouterr().err
    assert pages.noted_recipes() == {
        name: pages.recipe_hash(pages.config_of(name)) for name in ("fast", unclipped)
    }
    monkeypatch.setitem(RECIPES["fast"], "lr", 0.05)
    with pytest.raises(SystemExit, match=r"seeds_fast\.csv is of another recipe than today's"):
        run("fast", "--seeds", "4")


@pytest.mark.slow
def test_a_changed_run_is_another_one(monkeypatch):
    digits = make_digits(40)
    monkeypatch.setattr(seeds, "load_mnist", lambda *_, **__: (digits, digits))

    def loss(precision):
        page = f"fast-batch_size=5-precision={precision}"
        (record,) = seeds.train_ours(page, 1, argparse.Namespace(data_root="d"))
        return record.train_loss

    plain, changed, again = loss("float32"), loss("bfloat16"), loss("float32")
    assert plain == again != changed


def test_a_finished_rival_leaves_its_state_nowhere(rival, results, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["seeds", "usual", "--seeds", "1", "2", "--most", "3"])
    seeds.main()
    assert {seed: len(epochs) for seed, epochs in pages.epochs_of("usual").items()} == {1: 3, 2: 3}
    assert list(seeds.UNFINISHED.iterdir()) == []


@pytest.mark.slow
def test_costs_are_measured_and_kept(results, monkeypatch, capsys):
    monkeypatch.setattr(costs, "COSTS", results / "costs.jsonl")
    monkeypatch.setattr(costs, "load_mnist", lambda root: (make_digits(1000), make_digits(20)))
    monkeypatch.setattr(costs, "import_share", lambda: 0.025)
    monkeypatch.setattr(costs, "WARM_UP", 2)
    monkeypatch.setattr(sys, "argv", ["costs", "--unit", "100"])
    costs.main()
    (line,) = (results / "costs.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert list(entry["epoch_seconds"]) == ["100", "200", "400", "600"]
    assert all(seconds > 0 for seconds in entry["epoch_seconds"].values())
    assert 0 < entry["slowest_over_fastest_rate"] <= 1
    assert -0.05 < entry["bar_and_metrics_share"] < 0.5
    assert entry["import_over_torch"] == 0.025
    assert '"machine"' in capsys.readouterr().out


def test_parts_of_all_epochs_are_timed_in_turn_and_none_is_left_out(monkeypatch):
    learned = []

    def with_bar(model, batches, loss_fn, optimizer, total):
        learned.append(list(batches))
        assert len(learned[-1]) == total

    monkeypatch.setattr(costs, "with_bar", with_bar)
    epochs = {"short": range(3), "long": range(100, 125)}
    seconds = costs.epoch_seconds(epochs, None, None, None)
    assert all(seconds[name] > 0 for name in epochs)
    assert learned[:3] == [[100, 101], [102, 103, 104], [105, 106]]
    assert sorted(batch for part in learned for batch in part) == [*range(3), *range(100, 125)]


def test_both_ways_to_the_matrix_product_are_one(monkeypatch):
    monkeypatch.setattr(bench, "WIDTH", 64)
    plain, convolved = bench.products(TrainConfig(device="cpu", precision="float32").resolved())
    assert torch.allclose(plain(), convolved().reshape(64, 64).T, atol=1e-4)


@pytest.mark.slow
def test_the_bench_times_all_in_turn_and_keeps_what_it_timed(results, monkeypatch, capsys):
    digits = make_digits(40)

    def rival(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
        return model, DataLoader(digits, 20), None, nn.CrossEntropyLoss(), optimizer

    monkeypatch.setattr(bench, "BENCHMARKS", results / "benchmarks.jsonl")
    monkeypatch.setattr(bench, "WIDTH", 64)
    monkeypatch.setattr(bench, "load_mnist", lambda *_, **__: (digits, digits))
    monkeypatch.setattr(bench, "usual_recipe", lambda *_, **__: rival(MnistCNN()))
    monkeypatch.setattr(bench, "basic_example", lambda *_, **__: rival(make_linear()))
    arguments = ["--pairs", "3", "--images", "40", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    bench.main()
    entry = json.loads((results / "benchmarks.jsonl").read_text())
    assert (entry["pairs"], entry["images"], entry["fast_batch_size"]) == (3, 40, 32)
    median, smallest, largest = entry["ours_over_basic"]
    assert 0 < smallest <= median <= largest < 1  # a linear layer is faster than any convolution
    rates, contenders = entry["images_per_second"], "ours fast usual basic product convolution"
    assert list(rates) == ["ours", "fast", "usual", "basic"]
    assert rates["basic"][0] > rates["fast"][0] > 0
    seconds = {name: [2.0, 4.0, 1.0] for name in contenders.split()}  # known ones
    seconds |= {"ours": [1.0, 1.0, 1.0], "convolution": [1.0, 5.0, 2.0]}
    config = TrainConfig(device="cpu", precision="float32", batch_size=64).resolved()
    made = bench.entry_of(argparse.Namespace(images=100, pairs=3), config, config, seconds)
    assert made["ours_over_usual"] == [2.0, 1.0, 4.0]
    gflop = 20 * 64**3 / 1e9
    assert made["product_gflops"] == pytest.approx([gflop, gflop / 4, gflop], rel=0.001)
    assert made["share_of_product"][0] == pytest.approx(31.3 / gflop, rel=0.001)
    shown = capsys.readouterr().out
    assert f"{'fast over (a)':22} {entry['fast_over_usual'][0]:8.4g}" in shown


def test_mutants_are_made_of_modules_and_met_by_tests_that_are_there():
    tests = {name for names in mutants.TESTS.values() for name in names}
    assert all((mutants.PROJECT / "tests" / name).is_file() for name in tests)
    for module in mutants.TESTS:
        assert (mutants.PROJECT / "mnist_helpers" / f"{module}.py").is_file()
    line, change, source = next(mutants.mutants_of("machine/hardware"))
    assert line > 0 and "->" in change
    compile(source, "mutant", "exec")
