"""Two real processes, started by torchrun, against one."""

import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from mnist_helpers import workers
from mnist_helpers.batches import MemoryLoader, make_loaders
from mnist_helpers.checkpoints import load_checkpoint
from mnist_helpers.checks import check_batch
from mnist_helpers.cli import main
from mnist_helpers.errors import ConfigError, InputError, TrainingError, WorkerError
from mnist_helpers.loop import train_one_epoch
from mnist_helpers.training import fit
from tests.conftest import make_digits, make_linear

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# 43 images in batches of 10: the last one is of 3, two for one process and one for the other.
SMALL = ["--train-limit", "43", "--test-limit", "20", "--batch-size", "10"]
SECOND_OF_TWO = {  # as torchrun tells a process that it is
    "TORCHELASTIC_RUN_ID": "x",
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
}


# The wheels for Windows come without the library that torchrun's meeting point needs.
needs_torchrun = pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv")


@pytest.fixture
def command(request, sample_root, monkeypatch):
    """Return a function that makes the arguments of `train`, on the sample."""
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def arguments(*more):
        data = ["--data-root", str(sample_root.parent), "--device", "cpu"]
        return ["train", *data, "--precision", "float32", "--lr", "0.001", *SMALL, *more]

    return arguments


@pytest.fixture
def at_start(request, tmp_path, monkeypatch):
    """Return a function that makes new processes run some code at their start."""

    def write(code):
        (tmp_path / "sitecustomize.py").write_text(code)
        path = os.pathsep.join([str(tmp_path), str(request.config.rootpath)])
        monkeypatch.setenv("PYTHONPATH", path)

    return write


def in_two_processes(arguments):
    run = [*TORCHRUN, "-m", "mnist_helpers", *arguments]
    return subprocess.run(run, capture_output=True, text=True, timeout=240)


@needs_torchrun
@pytest.mark.parametrize("more", [[], ["--clip-norm", "0.5"]], ids=["as it is", "clipped"])
def test_two_processes_learn_the_same_as_one_and_go_on(command, tmp_path, capsys, more):
    assert main(command("--epochs", "2", "--checkpoint-dir", "one", *more)) == 0
    one_process = capsys.readouterr().out
    first = in_two_processes(command("--epochs", "1", "--checkpoint-dir", "two", *more))
    assert first.returncode == 0, first.stderr
    done = in_two_processes(command("--epochs", "2", "--checkpoint-dir", "two", "--resume", *more))
    assert done.returncode == 0, done.stderr
    one, two = (load_checkpoint(tmp_path / d / "mnist_model_epoch_2.pth") for d in ("one", "two"))
    for name, weight in one["model_state_dict"].items():
        assert torch.allclose(weight, two["model_state_dict"][name], atol=1e-5), name
    for ours, theirs in zip(one["history"], two["history"], strict=True):
        for key in ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key
    if more:  # it did shorten gradients
        assert main(command("--epochs", "2", "--checkpoint-dir", "unclipped")) == 0
        unclipped = load_checkpoint(tmp_path / "unclipped" / "mnist_model_epoch_2.pth")
        losses = [run["history"][1]["train_loss"] for run in (one, unclipped)]
        assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    # One process draws, prints and writes: the second epoch's line is there once.
    assert one_process.count("Epoch  2/2") == 1 == done.stdout.count("Epoch  2/2")
    assert done.stdout.count("on cpu in 2 processes, float32") == 1
    assert done.stdout.count("Best test accuracy") == 1
    names = sorted(path.name for path in (tmp_path / "two").iterdir())
    assert names == ["best_mnist_model.pth", "mnist_model_epoch_1.pth", "mnist_model_epoch_2.pth"]


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the process in /proc")
def test_a_worker_that_dies_ends_all_with_one_message_and_what_is_saved(command, tmp_path):
    run = [*TORCHRUN, "-m", "mnist_helpers", *command("--epochs", "5000")]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        torchrun = subprocess.Popen(run, stdout=out, stderr=err)
        try:
            saved = tmp_path / "model_checkpoints" / "mnist_model_epoch_2.pth"
            wait_for(saved.exists)
            os.kill(second_of(torchrun.pid), signal.SIGKILL)
            assert torchrun.wait(timeout=60) != 0
        finally:
            torchrun.kill()
    said = (tmp_path / "out").read_text() + (tmp_path / "err").read_text()
    ends = [line for line in said.splitlines() if "lost contact" in line or "To go on" in line]
    assert len(ends) == 1, said
    assert "--resume" in ends[0]
    assert "[rank" not in said  # no traceback of ours
    assert load_checkpoint(saved)["epoch"] == 2


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def second_of(torchrun):
    """Return the process that torchrun started as its rank 1."""
    children = subprocess.run(
        ["pgrep", "-P", str(torchrun)], capture_output=True, text=True, check=True
    )
    for child in map(int, children.stdout.split()):
        environment = Path(f"/proc/{child}/environ").read_bytes()
        if "RANK=1" in environment.decode().split("\0"):
            return child
    raise AssertionError("torchrun has no second process")


@needs_torchrun
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", "0", "mnist-helpers: epochs must be a whole number"),
        ("--lr", "1e9", "mnist-helpers: the loss is"),
        ("--train-limit", "70000", "mnist-helpers: a limit of 70000"),
    ],
)
def test_what_all_processes_meet_is_said_by_one(command, at_start, option, value, message):
    at_start("import os, time; time.sleep(3 if os.environ.get('RANK') == '0' else 0)")
    done = in_two_processes(command(option, value))
    assert done.returncode != 0
    assert done.stderr.count("mnist-helpers: ") == done.stderr.count(message) == 1


@needs_torchrun
@pytest.mark.parametrize(
    ("more", "code"),  # torchrun's is 1 whatever ours is
    [([], 0), (["--lr", "1e9"], 1), (["--lr", "1e9", "--debug"], 1), (["--epochs", "many"], 1)],
)
def test_several_processes_leave_their_interpreters_standing(command, at_start, more, code):
    # PyTorch's threads may need an interpreter that is being taken down: that aborts a process.
    at_start(
        "import atexit, os\n"
        "if 'RANK' in os.environ:\n"
        "    print('started', flush=True)\n"
        "    atexit.register(print, 'taken down')\n"
    )
    done = in_two_processes(command("--epochs", "1", *more))
    assert done.returncode == code, done.stderr
    assert done.stdout.count("started") == 2
    assert "taken down" not in done.stdout
    assert (f"mnist_helpers{os.sep}cli.py" in done.stderr) == ("--debug" in more)


def test_who_leaves_loses_no_word(tmp_path):
    code = "from mnist_helpers import workers; print('the last word'); workers.leave(3)"
    for environment in (os.environ, os.environ | SECOND_OF_TWO):
        with (tmp_path / "out").open("w+") as out:  # a file, so that it is buffered
            done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=out)
            out.seek(0)
            assert (done.returncode, out.read()) == (3, "the last word\n")


@pytest.mark.parametrize(
    ("epochs", "message"),
    [("many", "argument --epochs: invalid int value: 'many'"), ("0", "epochs must be a whole")],
)
def test_wrong_words_are_told_by_the_first_at_once(launched, monkeypatch, capsys, epochs, message):
    waits = []
    monkeypatch.setattr(workers.time, "sleep", waits.append)
    for rank, waited in (("0", [0]), ("1", [0, workers.PATIENCE])):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        try:
            code = main(["train", "--epochs", epochs])
        except SystemExit as ended:
            code = ended.code
        assert (code, waits) == (2, waited)
        assert message in capsys.readouterr().err


def test_who_is_stopped_while_another_speaks_is_silent(launched, monkeypatch, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(workers.time, "sleep", stop)
    for epochs in ("many", "0"):
        with pytest.raises(SystemExit) as ended:
            main(["train", "--epochs", epochs])
        assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of some cluster, not of torchrun
    with workers.joined(torch.device("cpu")) as device:
        assert device == torch.device("cpu") and not torch.distributed.is_initialized()
        assert (workers.rank(), workers.count(), workers.launched()) == (0, 1, 1)
    assert workers.is_first()
    with workers.first_alone():
        assert workers.total(torch.ones(2)).tolist() == [1, 1]
    model = torch.nn.Linear(2, 2)
    assert workers.together(model, workers.Share()) is model


@pytest.fixture
def launched(monkeypatch):
    """Pretend to be the second of two processes that have found each other."""
    for name, value in SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)


def test_an_error_of_the_engine_becomes_one_of_ours_and_others_stay(launched):
    assert not workers.is_first()
    with (
        pytest.raises(WorkerError, match=r"lost contact.*--resume \(Connection closed"),
        workers.joined(torch.device("cpu")),
    ):
        raise RuntimeError("Connection closed by peer\nand so on")
    with pytest.raises(RuntimeError, match="sizes differ"), workers.joined(torch.device("cpu")):
        raise RuntimeError("sizes differ")


def test_processes_that_do_not_find_each_other_are_told(launched, monkeypatch):
    def fail(backend):
        raise RuntimeError("address already in use")

    monkeypatch.setattr(torch.distributed, "init_process_group", fail)
    with pytest.raises(WorkerError, match="did not find each other: address"):
        workers.joined(torch.device("cpu")).__enter__()


def test_devices_that_processes_cannot_share_are_refused(launched, monkeypatch):
    with pytest.raises(ConfigError, match="cannot share mps here; use --device cpu"):
        workers.joined(torch.device("mps")).__enter__()
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for local_rank in "01":
        monkeypatch.setenv("LOCAL_RANK", local_rank)  # all meet it, so that one can tell it
        with pytest.raises(ConfigError, match="2 processes need as many GPUs, and there are 1"):
            workers.joined(torch.device("cuda")).__enter__()


def test_of_several_processes_none_stops_before_all_do(monkeypatch, config):
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "total", lambda tensor: tensor)
    monkeypatch.setattr(workers, "least", lambda tensor: tensor)
    model, steps = make_linear(), []
    train_loader, _ = make_loaders(make_digits(48), make_digits(20), config)
    optimizer = torch.optim.SGD(model.parameters())

    def no_number(logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels) * torch.nan

    bar = tqdm(total=len(train_loader), mininterval=0, file=io.StringIO())  # drawn at each step
    with pytest.raises(TrainingError, match="the loss is nan since step 1"):
        train_one_epoch(
            model, train_loader, no_number, optimizer, bar=bar, after_step=lambda: steps.append(1)
        )  # fmt: skip
    assert len(steps) == len(train_loader) == 3


def test_a_process_without_a_test_image_lets_the_others_go_on(monkeypatch):
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "rank", lambda: 1)
    check_batch(MemoryLoader(make_digits(1), 10), "test")
    monkeypatch.undo()
    with pytest.raises(InputError, match="the test loader is empty"):
        check_batch(MemoryLoader(make_digits(1), 10, []), "test")


def test_loaders_that_do_not_share_are_refused(monkeypatch, config):
    digits = make_digits(20)
    loaders = make_loaders(digits, digits, dataclasses.replace(config, in_memory=False))
    monkeypatch.setattr(workers, "count", lambda: 2)
    with pytest.raises(ConfigError, match="need the loaders of make_loaders"):
        fit(make_linear(), *loaders, config)
