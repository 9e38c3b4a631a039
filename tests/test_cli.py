import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnist_helpers import cli, options
from mnist_helpers.cli import main
from mnist_helpers.config import DataSource, TrainConfig
from mnist_helpers.data.digits import load_mnist
from mnist_helpers.history import History
from mnist_helpers.model import MnistCNN
from mnist_helpers.pictures import prepare
from mnist_helpers.training import fit as fit_module
from mnist_helpers.training.checkpoint import digest, load_checkpoint, save_checkpoint
from tests.conftest import make_digits
from tests.test_checkpoint import example
from tests.test_training import measure

PROJECT = Path(__file__).resolve().parent.parent
SMALL = ["--epochs", "2", "--batch-size", "10", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    """Give the commands 40 digits to train on; return the arguments they were loaded with."""
    calls = []

    def load(root, **options):
        calls.append({"root": root, **options})
        return make_digits(40), make_digits(20, seed=1)

    monkeypatch.setattr(cli, "load_mnist", load)
    return calls


def lines_with(out, *parts):
    """Return the only line that holds each part; they have to come in this order."""
    found = [(number, line) for part in parts for number, line in enumerate(out.splitlines())
             if part in line]  # fmt: skip
    assert len(found) == len(parts) and found == sorted(found), out
    return [line for _, line in found]


@pytest.mark.slow
def test_train_does_everything(tmp_path, capsys):
    outputs = ["--history", "h.json", "--plot", "curves.png"]
    assert main(["train", *SMALL, *outputs]) == 0
    out = capsys.readouterr().out
    history = History.load(tmp_path / "h.json")
    best, last = history.best, history[-1]
    assert (tmp_path / "model_checkpoints" / "best_mnist_model.pth").is_file()
    assert out.splitlines()[-6:] == [
        f"Test accuracy {last.test_accuracy:.2%} after epoch 2 (20 of 10,000 digits)",
        f"Best by test accuracy: epoch {best.epoch}, {best.test_accuracy:.2%}",
        f"Saved: {Path('model_checkpoints/best_mnist_model.pth')}",
        "Epochs written to h.json",
        "Curves drawn to curves.png",
        "Next: mnist-helpers predict photo.jpg",
    ]
    assert max(map(len, out.splitlines())) <= 60
    assert len(json.loads((tmp_path / "h.json").read_text())) == 2
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width == 1500


@pytest.mark.slow
def test_train_takes_every_field_of_the_recipe(small_data, tmp_path):
    given = [
        "--lr", "0.02", "--momentum", "0.5", "--seed", "7", "--data-root", "there",
        "--train-limit", "40", "--test-limit", "20", "--checkpoint-dir", "out", "--nesterov",
        "--weight-decay", "0.001", "--clip-norm", "2", "--schedule", "one_cycle",
        "--start", "0.5", "--warmup", "0.5", "--average", "0.9", "--precision", "float32",
        "--memory-format", "contiguous", "--no-in-memory", "--validation", "10",
    ]  # fmt: skip
    assert main(["train", *SMALL, *given, "--no-sample"]) == 0
    saved = load_checkpoint(tmp_path / "out" / "mnist_model_epoch_2.pth")["config"]
    assert saved == {
        "epochs": 2, "batch_size": 10, "lr": 0.02, "momentum": 0.5, "seed": 7, "device": "cpu",
        "data_root": "there", "checkpoint_dir": "out", "train_limit": 40, "test_limit": 20,
        "validation": 10, "nesterov": True, "weight_decay": 0.001, "clip_norm": 2.0,
        "schedule": "one_cycle", "start": 0.5, "warmup": 0.5, "average": 0.9,
        "precision": "float32", "memory_format": "contiguous", "in_memory": False,
    }  # fmt: skip
    (call,) = small_data
    assert str(call.pop("root")) == "there"
    assert call == {"allow_sample": False, "train_limit": 40, "test_limit": 20, "seed": 7}


@pytest.mark.slow
def test_validation_digits_choose_the_best_and_the_last_epoch_is_the_headline(monkeypatch, capsys):
    measure(monkeypatch, validation=[0.5, 0.25], test=[0.125, 0.75])
    assert main(["train", *SMALL, "--validation", "10"]) == 0
    out = capsys.readouterr().out
    headline, chosen = lines_with(out, "Test accuracy", "Best by")
    assert headline.startswith("Test accuracy 75.00% after epoch 2 ")
    assert chosen == "Best by validation accuracy: epoch 1, 50.00%"
    assert load_checkpoint("model_checkpoints/best_mnist_model.pth")["epoch"] == 1


def parse(*words):
    return options.build_parser().parse_args(words)


def test_the_defaults_are_the_recipe():
    assert options.config_of(parse("train")) == TrainConfig()
    config = TrainConfig()
    assert (config.epochs, config.lr, config.momentum, config.seed) == (20, 0.01, 0.9, 1)


def test_a_recipe_is_the_start_and_options_change_it():
    words = ["train", "--recipe", "fast", "--lr", "0.02"]
    assert options.config_of(parse(*words)) == TrainConfig.recipe("fast", lr=0.02)
    again = "mnist-helpers train --recipe fast --lr 0.02 --resume"
    assert options.command_to_go_on(words, 1) == again
    assert options.command_to_go_on([*words, "--resume"], 1) == again
    assert options.command_to_go_on(["train", "--nesterov", "--no-in-memory"], 2) == (
        "torchrun --nproc-per-node 2 -m mnist_helpers train --nesterov --no-in-memory --resume"
    )
    with pytest.raises(SystemExit):
        parse("train", "--recipe", "slow")


def stopping_after(epochs):
    """Return a `train_one_epoch` that is stopped when as many are done."""
    real, calls = fit_module.train_one_epoch, []

    def train(*arguments, **options):
        calls.append(1)
        if len(calls) > epochs:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    return train


@pytest.mark.slow
def test_a_stopped_run_exits_with_130_and_names_the_last_checkpoint(monkeypatch, capsys, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "train_one_epoch", stopping_after(1))
        assert main(["train", *SMALL]) == 130
    out = capsys.readouterr().out
    assert "mnist_model_epoch_1.pth" in out and "Next: " not in out
    assert main(["train", *SMALL, "--resume"]) == 0
    resumed = load_checkpoint(tmp_path / "model_checkpoints" / "mnist_model_epoch_2.pth")
    assert main(["train", *SMALL, "--checkpoint-dir", "whole"]) == 0
    whole = load_checkpoint(tmp_path / "whole" / "mnist_model_epoch_2.pth")
    assert digest(resumed["model_state_dict"]) == digest(whole["model_state_dict"])


@pytest.mark.slow
def test_resuming_a_finished_run_says_so_and_exits_with_0(capsys):
    assert main(["train", *SMALL]) == 0
    assert main(["train", *SMALL, "--resume"]) == 0
    assert "2 epochs are finished. To go on, ask for more than 2" in capsys.readouterr().out


def test_stopped_before_training_is_130_too(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_mnist", stop)
    assert main(["train", *SMALL]) == 130
    assert capsys.readouterr().err == "mnist-helpers: stopped\n"


@pytest.mark.slow
def test_evaluate_measures_a_checkpoint(capsys, monkeypatch):
    main(["train", *SMALL])
    capsys.readouterr()
    saved = load_checkpoint("model_checkpoints/best_mnist_model.pth")
    accuracy, loss = saved["test_accuracy"], saved["history"][saved["epoch"] - 1]["test_loss"]
    assert main(["evaluate", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    bar, result, after = out.splitlines()
    assert err == f"Network: {options.BEST_CHECKPOINT}, epoch {saved['epoch']}\n"
    assert re.fullmatch(r"Testing \|█████\| 100% \d\d:\d\d<00:00", bar)
    assert result == f"Test accuracy {accuracy:.2%}, loss {loss:.4f} (20 of 10,000 digits)"
    assert after == "Next: mnist-helpers predict photo.jpg"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [f".venv{os.sep}bin{os.sep}mnist-helpers"])  # not on the PATH
        assert main(["evaluate", "--device", "cpu"]) == 0
        assert capsys.readouterr().out.endswith(f"Next: {sys.argv[0]} predict photo.jpg\n")
    Path("model_checkpoints").rename("a b")
    assert main(["evaluate", "--checkpoint", "a b/best_mnist_model.pth", "--device", "cpu"]) == 0
    assert main(["evaluate", "a b/best_mnist_model.pth", "--device", "cpu"]) == 0
    *_, after = capsys.readouterr().out.splitlines()
    assert after == "Next: mnist-helpers predict photo.jpg --checkpoint 'a b/best_mnist_model.pth'"


@pytest.mark.parametrize(
    ("source", "size", "words"),
    [(DataSource.MNIST, 1200, "1,200 of 10,000 digits"), (DataSource.OTHER, 1200, "1,200 digits"),
     (DataSource.SAMPLE, 1000, "1,000 digits")],
)  # fmt: skip
def test_how_many_digits_were_tested_is_said_and_of_how_many(source, size, words):
    test_set = make_digits(size)
    test_set.source = source
    assert cli._size(test_set) == words


@pytest.mark.slow
def test_evaluate_names_the_sample(monkeypatch, capsys):
    main(["train", *SMALL])
    sample = make_digits(20)
    sample.source = DataSource.SAMPLE
    monkeypatch.setattr(cli, "load_mnist", lambda *_, **__: (sample, sample))
    main(["evaluate", "model_checkpoints/best_mnist_model.pth", "--device", "cpu"])
    assert "Tested on the sample of 5,000 MNIST digits." in capsys.readouterr().out


def test_evaluate_refuses_what_is_missing_or_another_network(tmp_path, capsys):
    assert main(["evaluate", "gone.pth"]) == 1
    assert "there is no file gone.pth" in capsys.readouterr().err
    save_checkpoint(tmp_path / "c.pth", example())
    assert main(["evaluate", "c.pth"]) == 1
    assert "c.pth holds a different network" in capsys.readouterr().err


def test_errors_are_one_message_without_a_traceback(capsys):
    assert main(["train", *SMALL, "--checkpoint-dir", __file__]) == 1
    err = capsys.readouterr().err
    assert err.startswith("mnist-helpers: ") and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [["--epochs", "0"], ["--lr", "-1"], ["--device", "cuda:99"], ["--device", "tpu"],
     ["--validation", "-1"], ["--history", "h.txt"], ["--plot", "curves.gif"]],
)  # fmt: skip
def test_wrong_values_exit_with_2_before_training(arguments, capsys, small_data):
    assert main(["train", *SMALL, *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err
    assert small_data == []


@pytest.mark.parametrize("arguments", [["fly"], ["train", "--epochs", "many"], ["predict"]])
def test_wrong_usage_exits_with_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_the_name_alone_shows_the_help(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert out == options.build_parser().format_help() and err == ""
    assert "predict   say which digits are in a picture" in out


def test_the_version_is_that_of_the_package(capsys, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    version = importlib.metadata.version("mnist-helpers")
    assert capsys.readouterr().out == f"mnist-helpers {version}\n"
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: iter(()))
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "not installed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", "download", "train", "evaluate", "predict", "describe"])
def test_each_help_has_examples_that_can_be_typed(name, capsys):
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    examples = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert examples and all(line.startswith(f"  mnist-helpers {name}") for line in examples)
    for line in examples:
        _, *words = shlex.split(line)
        if "--help" not in words:
            given = parse(*words)
            assert given.command == words[0]
            options.config_of(given)


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "photo.jpg"]])
def test_without_a_network_one_line_says_how_to_get_one(command, capsys, monkeypatch, tmp_path):
    missing = tmp_path / "missing.pth"  # as in a package that was installed without its project
    monkeypatch.setattr(cli, "PRETRAINED", missing)
    assert main(command) == 1
    assert capsys.readouterr().err == (
        f"mnist-helpers: there is no file {missing}; name another, or train first "
        "(`mnist-helpers train`, or `make run`)\n"
    )


def test_the_readers_own_network_answers_or_else_the_published_one(pictures, sample_root, capsys):
    label = int(load_mnist(sample_root.parent)[1].labels[0])
    own = Path(options.BEST_CHECKPOINT)
    assert main(["predict", pictures[0]]) == 0
    assert capsys.readouterr().err.endswith(f"Network: {own}, epoch 2\n")
    own.unlink()
    assert main(["predict", pictures[0]]) == 0
    out, err = capsys.readouterr()
    assert err == "Network: the published weights\n" and out.startswith(
        f"{pictures[0]}: {label}  ({label}: 9"
    )


def test_each_digit_of_a_row_is_answered_with_its_place(sample_root, capsys, tmp_path):
    digits = load_mnist(sample_root.parent)[1]
    five, two = (digits.images[int((digits.labels == n).nonzero()[0])].numpy() for n in (5, 2))
    row = np.pad(np.hstack([five, two]), ((20, 20), (20, 20))).repeat(6, 0).repeat(6, 1)
    Image.fromarray(255 - row).save(tmp_path / "row.png")
    assert main(["predict", "row.png"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.match(r"row.png, at \d+ \d+ \d+ \d+: 5  \(5: ", first) and ": 2  (2: " in second
    assert main(["predict", "row.png", "--json", "--save", "seen.png"]) == 0
    out, err = capsys.readouterr()
    one, other = json.loads(out)
    assert err.endswith("What the network saw: seen.png\n")
    assert 120 <= one["box"][0] < one["box"][2] < other["box"][0] < other["box"][2] <= 456
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size == (56, 28)
    Image.fromarray(255 - row[:, :300]).save(tmp_path / "one.png")
    assert main(["predict", "one.png"]) == 0
    assert capsys.readouterr().out.startswith("one.png: 5  (5: ")


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "photo.jpg", "--checkpoint"]])
def test_a_picture_and_a_folder_in_place_of_a_network_are_called_so(command, capsys, tmp_path):
    for kind in ("png", "jpeg", "gif", "bmp", "webp"):
        Image.new("L", (28, 28)).save(tmp_path / f"three.{kind}")
        assert main([*command, f"three.{kind}"]) == 1
        assert f"three.{kind} is a picture, not a network; to read" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert main([*command, "folder"]) == 1
    assert "it is a folder; name a .pth file in it" in capsys.readouterr().err


@pytest.mark.slow
def test_fresh_deletes_what_earlier_runs_left_and_nothing_else(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model_checkpoints"
    for _ in range(3):
        assert main(["train", *SMALL, "--epochs", "1"]) == 0
    mine = [folder / "previous-2" / "notes.txt", folder / "previous_best" / cli.files.BEST_NAME]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")

    def kept():
        return {str(p.relative_to(folder)) for p in folder.rglob("*.pth")}

    before = kept()
    assert {"previous/mnist_model_epoch_1.pth", "previous-2/best_mnist_model.pth"} <= before
    with monkeypatch.context() as patch:  # it is stopped: there may be a reason to go back
        patch.setattr(fit_module, "train_one_epoch", stopping_after(1))
        assert main(["train", *SMALL, "--fresh"]) == 130
    assert len(kept()) == len(before) + 2
    capsys.readouterr()
    assert main(["train", *SMALL, "--fresh", "--resume"]) == 0
    assert f"Deleted: {Path('model_checkpoints/previous')}\n" in capsys.readouterr().out
    assert kept() == {"best_mnist_model.pth", "mnist_model_epoch_1.pth", "mnist_model_epoch_2.pth",
                      "previous_best/best_mnist_model.pth"}  # fmt: skip
    assert all(path.read_text() == "mine" for path in mine)
    assert sorted(p.name for p in folder.glob("previous*")) == ["previous-2", "previous_best"]


def test_debug_shows_the_traceback():
    with pytest.raises(Exception, match=r"gone\.pth"):
        main(["evaluate", "gone.pth", "--debug"])


def test_download_says_where_the_files_are(monkeypatch, capsys, tmp_path):
    asked = {}

    def download(root, **options):
        asked.update(options, root=str(root))
        return root / "sample"

    monkeypatch.setattr(cli, "download_mnist", download)
    assert main(["download", "--data-root", "d", "--no-sample"]) == 0
    assert asked == {"root": "d", "allow_sample": False}
    assert capsys.readouterr().out.splitlines() == [
        f"The files are in {Path('d/sample/MNIST/raw')}.",
        "Next: mnist-helpers train --data-root d --no-sample",
    ]


def test_describe_shows_the_table(capsys):
    assert main(["describe"]) == 0
    assert "52,159,872" in capsys.readouterr().out


@pytest.fixture
def pictures(sample_root, tmp_path):
    """Two real digits as PNG files, and a file that is no picture."""
    digits = load_mnist(sample_root.parent)[1].images.numpy()
    for number in (0, 1):
        Image.fromarray(255 - digits[number]).save(tmp_path / f"digit {number} ü.png")
    (tmp_path / "text.png").write_text("not a picture")
    main(["train", *SMALL])
    return ["digit 0 ü.png", "text.png", "digit 1 ü.png"]


def test_predict_answers_what_it_can_and_names_the_rest(pictures, capsys):
    capsys.readouterr()
    assert main(["predict", *pictures]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(
        f"Network: {options.BEST_CHECKPOINT}, epoch 2\n"
        "mnist-helpers: text.png is not a picture in one of .*; export it as PNG\n",
        captured.err,
    )
    first, second = captured.out.splitlines()
    beliefs = r"\(\d: [\d.]+%, \d: [\d.]+%, \d: [\d.]+%\)"
    assert re.fullmatch(rf"digit 0 ü\.png: \d  {beliefs}(  Doubtful: .+\.)?", first)
    assert second.startswith("digit 1 ü.png: ")
    assert main(["predict", pictures[0]]) == 0


def test_predict_speaks_json(pictures, capsys):
    capsys.readouterr()
    assert main(["predict", "--json", *pictures]) == 1
    first, second, _ = json.loads(capsys.readouterr().out)
    assert first["file"] == pictures[0] and len(first["probabilities"]) == 10
    assert first["digit"] == max(range(10), key=first["probabilities"].__getitem__)
    assert "text.png" in second["error"]


def test_predict_saves_what_the_network_saw(pictures, capsys, tmp_path):
    assert main(["predict", pictures[0], "--save", "seen.png"]) == 0
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.size == (28, 28) and seen.mode == "L"
        assert np.array_equal(np.asarray(seen), prepare(tmp_path / pictures[0]))


@pytest.mark.parametrize(
    "arguments", [["a.png", "b.png", "--save", "c.png"], ["a.png", "--save", "c.jpg"]]
)
def test_predict_saves_one_png_only(arguments, capsys):
    assert main(["predict", *arguments]) == 2
    assert "name one image, and a file that ends in .png" in capsys.readouterr().err


def test_predict_without_a_network_says_to_train(pictures, capsys):
    assert main(["predict", pictures[0], "--checkpoint", "gone.pth"]) == 1
    assert "there is no file gone.pth; name another" in capsys.readouterr().err


def test_a_stopped_run_names_the_command_to_go_on(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "train_one_epoch", stop)
    assert main(["train", *SMALL, "--checkpoint-dir", "a b"]) == 130
    expected = "--epochs 2 --batch-size 10 --device cpu --checkpoint-dir 'a b' --resume"
    assert f"To go on: mnist-helpers train {expected}" in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_and_predict_take_weights_of_other_programs_and_say_so(pictures, capsys, tmp_path):
    torch.save({"state_dict": MnistCNN().state_dict()}, tmp_path / "theirs.pth")
    assert main(["evaluate", "theirs.pth", "--device", "cpu"]) == 0
    assert "theirs.pth, weights from another program\n" in capsys.readouterr().err
    assert main(["predict", str(pictures[0]), "--checkpoint", "theirs.pth", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1 and "theirs.pth, weights from another program" in err


@pytest.mark.slow
def test_home_and_quotes_are_understood_in_every_option(small_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    options_of_all = ["--data-root=~/d", "--checkpoint-dir='~/c'", "--history=~/h.JSON"]
    assert main(["train", *SMALL, *options_of_all, "--plot=~/p.PNG"]) == 0
    home = tmp_path / "home"
    assert {p.name for p in home.iterdir()} == {"c", "h.JSON", "p.PNG"}
    assert small_data[0]["root"] == home / "d"
    with pytest.raises(SystemExit):
        main(["evaluate", ""])
    assert "invalid path value: ''" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_without_a_stream_it_works_too(monkeypatch, stream, tmp_path):
    monkeypatch.setattr(sys, stream, None)
    assert main(["train", *SMALL]) == 0
    assert main(["evaluate", "gone.pth"]) == 1
    assert (tmp_path / "model_checkpoints" / "mnist_model_epoch_2.pth").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs limits of POSIX")
def test_too_small_an_address_space_is_one_line():
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    code = [sys.executable, "-m", "mnist_helpers", "describe"]
    done = subprocess.run(code, preexec_fn=limit, capture_output=True, text=True, cwd=PROJECT)
    line = "mnist-helpers: this shell limits a process to 3.0 GB of addresses, and PyTorch needs 4"
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


CANNOT_BE_WRITTEN = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nowhere": lambda path: path.symlink_to("gone/h.csv"),
    "read-only": lambda path: path.touch(0o444),
}


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and links of POSIX")
@pytest.mark.parametrize("kind", CANNOT_BE_WRITTEN)
def test_a_file_that_cannot_be_written_is_refused_before_training(tmp_path, small_data, kind):
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    CANNOT_BE_WRITTEN[kind](tmp_path / "h.csv")
    assert main(["train", *SMALL, "--history", "h.csv"]) == 2
    (tmp_path / "file").touch()
    assert main(["train", *SMALL, "--history", "file/h.csv"]) == 2
    assert small_data == []


def test_a_matplotlib_that_cannot_be_loaded_is_refused_before_training(monkeypatch, small_data):
    monkeypatch.setitem(sys.modules, "mnist_helpers.plots", None)  # so importing it fails
    assert main(["train", *SMALL, "--plot", "p.png"]) == 2
    assert small_data == []


@pytest.mark.slow
def test_a_folder_that_looks_like_an_option_can_be_resumed_as_it_is_said(monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "train_one_epoch", stop)
        assert main(["train", *SMALL, "--checkpoint-dir=-x"]) == 130
    said = capsys.readouterr().out.partition("To go on: mnist-helpers ")[2]
    assert main(shlex.split(said)) == 0
