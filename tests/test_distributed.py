"""Two real processes, started by torchrun, against one."""

import dataclasses
import functools
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

from mnist_helpers.cli import main
from mnist_helpers.data.loaders import check_loader, make_loader
from mnist_helpers.errors import ConfigError, InputError, TrainingError, WorkerError
from mnist_helpers.machine import distributed
from mnist_helpers.training.checkpoint import load_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.step import evaluate, train_one_epoch
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


def train_in_two(arguments, **options):
    """Start `train` in two processes; the streams are read with `communicate`."""
    run = [*TORCHRUN, "-m", "mnist_helpers", *arguments]
    return subprocess.Popen(
        run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ended(process):
    """Wait for a process; return its exit code, and what it said on both streams."""
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def arguments_of(sample_root, *more):
    data = ["--data-root", str(sample_root.parent), "--device", "cpu"]
    return ["train", *data, "--precision", "float32", "--lr", "0.001", *SMALL, *more]


@pytest.fixture
def command(request, sample_root, monkeypatch):
    """Return a function that makes the arguments of `train`, on the sample."""
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return functools.partial(arguments_of, sample_root)


# What torchrun does for each line of arguments, but with forks: torch is imported once.
TORCHRUN_WITH_FORKS = """
import json, sys
import torch._dynamo, torch.distributed.tensor  # which DistributedDataParallel would import later
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from mnist_helpers.cli import main
local = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "max_restarts": 0}
for number, arguments in enumerate(json.load(sys.stdin)):
    print("--- run", number, flush=True)
    config = LaunchConfig(1, 1, 2, run_id=str(number), start_method="fork", **local)
    assert elastic_launch(config, main)(arguments) == {0: 0, 1: 0}
"""
CASES = {"as it is": [], "clipped": ["--clip-norm", "0.5"]}


@pytest.fixture(scope="module")
def learned(request, sample_root, tmp_path_factory):
    """Train in two processes, one epoch and then a second one, in each case; return the
    folder of the checkpoints and what the second run said."""
    folder, runs = tmp_path_factory.mktemp("learned"), []
    for name, more in CASES.items():
        place = ["--checkpoint-dir", str(folder / name)]
        runs.append(arguments_of(sample_root, "--epochs", "1", *place, *more))
        runs.append(arguments_of(sample_root, "--epochs", "2", *place, "--resume", *more))
    done = subprocess.run(
        [sys.executable, "-c", TORCHRUN_WITH_FORKS], input=json.dumps(runs), cwd=folder,
        env=environment_with(request.config.rootpath), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = re.split(r"--- run \d+\n", done.stdout)[2::2]
    return {name: (folder / name, out) for name, out in zip(CASES, said, strict=True)}


def environment_with(*folders):
    """Return this process's environment with these folders to import from, and one thread."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MNIST_")}
    path = os.pathsep.join(map(str, folders))
    return environment | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


# PyTorch's threads may need an interpreter that is being taken down: that aborts a process.
# And the first of the processes is the last to start, so that it speaks after the second.
# The second one works in a folder of its own, if there is one; then the first is slow to see who
# reports, so that torchrun's signal meets it before.
AT_START = """
import atexit, os, time
if "RANK" in os.environ:
    if os.environ["RANK"] == "1" and os.path.isdir("second"):
        os.chdir("second")
    print("started", flush=True)
    atexit.register(print, "taken down")
    time.sleep(3 if os.environ["RANK"] == "0" else 0)
    if os.environ["RANK"] == "0" and os.path.isdir("second"):
        from mnist_helpers.machine import distributed
        claim = distributed._claim_report
        distributed._claim_report = lambda: time.sleep(2) or claim()
"""
DONE = ("--epochs", "1")
NO_NUMBER = ("--epochs", "1", "--lr", "1e9")
WITH_TRACEBACK = (*NO_NUMBER, "--debug")
NO_OPTION = ("--epochs", "many")
NO_EPOCHS = ("--epochs", "0")
TOO_MANY = ("--train-limit", "70000")
NO_FOLDER = ("--checkpoint-dir", "file")
MET_BY_ONE = ("--checkpoint-dir", "c", "--resume")


@pytest.fixture(scope="module")
def ends(request, sample_root, tmp_path_factory):
    """Return how each of these commands ends in two processes; two of them run at a time."""
    folder = tmp_path_factory.mktemp("two processes")
    (folder / "sitecustomize.py").write_text(AT_START)
    environment = environment_with(folder, request.config.rootpath)

    def run(more):
        cwd = tmp_path_factory.mktemp("run")
        (cwd / "file").touch()
        if more == MET_BY_ONE:
            damaged = cwd / "second" / "c" / "mnist_model_epoch_1.pth"
            damaged.parent.mkdir(parents=True)
            damaged.write_text("damaged")
        return ended(train_in_two(arguments_of(sample_root, *more), cwd=cwd, env=environment))

    commands = (DONE, NO_NUMBER, WITH_TRACEBACK, NO_OPTION, NO_EPOCHS, TOO_MANY, NO_FOLDER,
                MET_BY_ONE)  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(run, commands), strict=True))


@needs_torchrun
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_the_same_as_one_and_go_on(learned, command, tmp_path, capsys, case):
    folder, out = learned[case]
    more = CASES[case]
    assert main(command("--epochs", "2", "--checkpoint-dir", "one", *more)) == 0
    one_process = capsys.readouterr().out
    one, two = (load_checkpoint(d / "mnist_model_epoch_2.pth") for d in (tmp_path / "one", folder))
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
    assert one_process.count("Epoch  2/2") == 1 == out.count("Epoch  2/2")
    assert out.count("on cpu in 2 processes, float32") == 1
    assert out.count("Saved: ") == out.count("Best by test accuracy: ") == 1
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["best_mnist_model.pth", "mnist_model_epoch_1.pth", "mnist_model_epoch_2.pth"]


@pytest.mark.slow
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
@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (NO_EPOCHS, "mnist-helpers: epochs must be a whole number"),
        (NO_NUMBER, "mnist-helpers: the loss became"),
        (TOO_MANY, "mnist-helpers: a limit of 70,000"),
        (NO_FOLDER, "mnist-helpers: no checkpoints can be written to file"),  # the first's alone
        (MET_BY_ONE, "mnist-helpers: every checkpoint in c"),  # the second's alone
    ],
)
def test_one_process_says_what_ended_all(ends, more, message):
    code, _, err = ends[more]
    assert code != 0
    assert err.count("mnist-helpers: ") == err.count(message) == 1


@needs_torchrun
@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "expected"),  # torchrun's is 1 whatever ours is
    [(DONE, 0), (NO_NUMBER, 1), (WITH_TRACEBACK, 1), (NO_OPTION, 1)],
)
def test_several_processes_leave_their_interpreters_standing(ends, more, expected):
    code, out, err = ends[more]
    assert code == expected, err
    assert out.count("started") == 2
    assert "taken down" not in out
    assert (f"mnist_helpers{os.sep}cli.py" in err) == ("--debug" in more)


@pytest.mark.slow
def test_who_leaves_loses_no_word(tmp_path):
    code = "from mnist_helpers.machine.distributed import leave; print('the last word'); leave(3)"
    environments, processes = (os.environ, os.environ | SECOND_OF_TWO), []
    for number, environment in enumerate(environments):
        with (tmp_path / f"{number}").open("w") as out:  # a file, so that it is buffered
            command = [sys.executable, "-c", code]
            processes.append(subprocess.Popen(command, env=environment, stdout=out))
    for number, process in enumerate(processes):
        assert process.wait(60) == 3
        assert (tmp_path / f"{number}").read_text() == "the last word\n"


@pytest.mark.parametrize(
    ("epochs", "message"),
    [("many", "argument --epochs: invalid int value: 'many'"), ("0", "epochs must be a whole")],
)
def test_wrong_words_are_told_by_the_first_at_once(launched, monkeypatch, capsys, epochs, message):
    waits = []
    monkeypatch.setattr(distributed.time, "sleep", waits.append)
    for rank, waited in (("0", [0]), ("1", [0, distributed.PATIENCE])):
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

    monkeypatch.setattr(distributed.time, "sleep", stop)
    for epochs in ("many", "0"):
        with pytest.raises(SystemExit) as ended:
            main(["train", "--epochs", epochs])
        assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of some cluster, not of torchrun
    with distributed.joined(torch.device("cpu")) as device:
        assert device == torch.device("cpu") and not torch.distributed.is_initialized()
        assert (distributed.rank(), distributed.world_size(), distributed.launched()) == (0, 1, 1)
    assert distributed.is_rank_zero()
    with distributed.rank_zero_first():
        assert distributed.all_reduce_sum(torch.ones(2)).tolist() == [1, 1]
    model = torch.nn.Linear(2, 2)
    assert distributed.wrap_ddp(model, make_digits(2)) is model


@pytest.mark.parametrize("name", SECOND_OF_TWO)
@pytest.mark.parametrize("value", [None, "two"])
def test_with_a_part_of_torchruns_variables_a_process_is_alone(monkeypatch, name, value):
    if (name, value) == ("TORCHELASTIC_RUN_ID", "two"):
        pytest.skip("any text is an id")
    for other in SECOND_OF_TWO.items():
        monkeypatch.setenv(*other)
    assert distributed.launched() == 2
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert distributed.launched() == 1 and distributed.is_rank_zero()
    distributed.let_rank_zero_speak()


@pytest.fixture
def launched(monkeypatch):
    """Pretend to be the second of two processes that have found each other."""
    for name, value in SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: None)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)


def test_an_error_of_the_engine_becomes_one_of_ours_and_others_stay(launched):
    assert not distributed.is_rank_zero()
    with (
        pytest.raises(
            WorkerError, match=r"process 1 of 1 lost contact.*--resume \(Connection closed"
        ),
        distributed.joined(torch.device("cpu")),
    ):
        raise RuntimeError("Connection closed by peer\nand so on")
    with pytest.raises(RuntimeError, match="sizes differ"), distributed.joined(torch.device("cpu")):
        raise RuntimeError("sizes differ")


def test_processes_that_do_not_find_each_other_are_told(launched, monkeypatch):
    def fail(backend):
        raise RuntimeError("address already in use")

    monkeypatch.setattr(torch.distributed, "init_process_group", fail)
    with pytest.raises(WorkerError, match="did not find each other: address"):
        distributed.joined(torch.device("cpu")).__enter__()


def test_devices_that_processes_cannot_share_are_refused(launched, monkeypatch):
    with pytest.raises(ConfigError, match="cannot share mps here; use --device cpu"):
        distributed.joined(torch.device("mps")).__enter__()
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for local_rank in "01":
        monkeypatch.setenv("LOCAL_RANK", local_rank)  # all meet it, so that one can tell it
        with pytest.raises(
            ConfigError, match="2 processes need one GPU each, but this machine has 1"
        ):
            distributed.joined(torch.device("cuda")).__enter__()


def test_of_several_processes_none_stops_before_all_do(monkeypatch, config):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda tensor: tensor)
    monkeypatch.setattr(distributed, "all_reduce_min", lambda tensor: tensor)
    model, steps = make_linear(), []
    train_loader = make_loader(make_digits(48), config, train=True)
    optimizer = torch.optim.SGD(model.parameters())

    def no_number(logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels) * torch.nan

    bar = tqdm(total=len(train_loader), mininterval=0, file=io.StringIO())  # drawn at each step
    with pytest.raises(TrainingError, match="the loss became nan at step 1"):
        train_one_epoch(
            model, train_loader, no_number, optimizer, bar=bar, after_step=lambda: steps.append(1)
        )  # fmt: skip
    assert len(steps) == len(train_loader) == 3


def test_a_process_without_a_test_image_lets_the_others_go_on(monkeypatch, config):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    loader = make_loader(make_digits(1), config, train=False)
    assert [len(labels) for _, labels in loader] == [0]
    check_loader(loader, "test")
    monkeypatch.setattr(distributed, "all_reduce_sum", lambda sums: sums + 1)  # of the other
    monkeypatch.setattr(distributed, "all_reduce_min", lambda value: value)
    assert math.isfinite(evaluate(make_linear(), loader).loss)
    monkeypatch.undo()
    with pytest.raises(InputError, match="the test set is empty"):
        check_loader(make_loader([], config, train=False), "test")


def test_loaders_that_do_not_share_are_refused(monkeypatch, config):
    digits = make_digits(20)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match="can only share batches in memory"):
        fit(make_linear(), digits, digits, dataclasses.replace(config, in_memory=False))
