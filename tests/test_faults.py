"""What goes wrong from outside: kills, full disks, broken mirrors, odd surroundings.

`MNIST_FAULTS=long` (make test-faults) kills and mutates ten times as often.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mnist_helpers import cli
from mnist_helpers.data import mirrors as mirror_module
from mnist_helpers.data.digits import load_mnist
from mnist_helpers.data.download import download_mnist
from mnist_helpers.data.idx import FILES, raw_folder
from mnist_helpers.data.loaders import EpochSampler
from mnist_helpers.errors import CheckpointError, DataError, InputError, TrainingError
from mnist_helpers.training import fit as fit_module
from mnist_helpers.training import step
from mnist_helpers.training.checkpoint import digest, load_checkpoint, save_checkpoint
from mnist_helpers.training.fit import fit
from tests.conftest import make_digits, make_linear
from tests.test_checkpoint import example
from tests.test_download import CONTENTS, PACKED, on_disk, stand_ins, two_mirrors

PROJECT = Path(__file__).resolve().parent.parent
LONG = os.environ.get("MNIST_FAULTS") == "long"
posix_only = pytest.mark.skipif(os.name == "nt", reason="needs fork, signals or uids of POSIX")


def campaign(name, count, folder, **options):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.campaigns.{name}", str(count), str(folder)],
        cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PROJECT)}, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return json.loads(done.stdout.splitlines()[-1])


@posix_only
@pytest.mark.slow
def test_killed_at_any_moment_a_run_ends_as_if_never_killed(tmp_path):
    outcome = campaign("kill", 50 if LONG else 6, tmp_path)
    assert outcome["same end state"]
    assert outcome["temporary files left in the end"] == 0
    assert sum(outcome["kills"].values()) == (50 if LONG else 6)


@posix_only
@pytest.mark.slow
def test_mutated_files_are_refused_or_harmless(tmp_path):
    outcome = campaign("mutate", 200 if LONG else 30, tmp_path)
    for part in ("data", "checkpoint"):
        tried = sum(sum(kind.values()) for kind in outcome[part].values())
        assert tried == (200 if LONG else 30)
    assert outcome["MiB above the import"] < 1024


@posix_only
@pytest.mark.slow
def test_stopped_at_any_moment_it_ends_with_130_and_goes_on_to_the_same_end(tmp_path):
    outcome = campaign("stop", 60 if LONG else 6, tmp_path)
    assert sum(sum(ends.values()) for ends in outcome["ends"].values()) == (60 if LONG else 6)


# --- checkpoints


@posix_only
@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_midst_of_a_write_leaves_the_old_file(tmp_path):
    """A limit on the size of files makes the kernel refuse the second half of a write."""
    code = f"""
import resource, torch
from mnist_helpers.training.checkpoint import save_checkpoint
from mnist_helpers.errors import CheckpointError
from tests.test_checkpoint import example
path = {str(tmp_path / "c.pth")!r}
save_checkpoint(path, example(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
big = example(2) | {{"model_state_dict": {{"weight": torch.zeros(100_000)}}}}
try:
    save_checkpoint(path, big)
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "c.pth cannot be written" in done.stdout and "make room" in done.stdout
    assert load_checkpoint(tmp_path / "c.pth")["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth"]


@posix_only
def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    path = save_checkpoint(folder / "c.pth", example(1))
    folder.chmod(0o555)
    if os.geteuid() == 0:  # root may write anywhere: be somebody else for a moment
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents:
            with contextlib.suppress(PermissionError):
                parent.chmod(parent.stat().st_mode | 0o011)
        os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match=r"locked/c\.pth cannot be written .*denied"):
            save_checkpoint(path, example(2))
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)
    assert load_checkpoint(path)["epoch"] == 1


def everything_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stopped_after(sets, config, epochs):
    fit(make_linear(), *sets, dataclasses.replace(config, epochs=epochs))


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_it_used(sets, config, capsys):
    fit(make_linear(), *sets, config)
    expected = digest(
        load_checkpoint(config.checkpoint_dir / "mnist_model_epoch_3.pth")["model_state_dict"]
    )
    for epoch, spoil in ((3, lambda c: c[:100]), (2, lambda c: c[:-900] + bytes(900))):
        path = config.checkpoint_dir / f"mnist_model_epoch_{epoch}.pth"
        path.write_bytes(spoil(path.read_bytes()))
    history = fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    out = capsys.readouterr().out
    assert "mnist_model_epoch_3.pth is damaged" in out
    assert "mnist_model_epoch_2.pth" in out and "Going on after epoch 1" in out
    assert len(history) == 3
    last = load_checkpoint(config.checkpoint_dir / "mnist_model_epoch_3.pth")
    assert digest(last["model_state_dict"]) == expected


def test_where_all_are_damaged_nothing_is_started_over(sets, config):
    stopped_after(sets, config, 1)
    path = config.checkpoint_dir / "mnist_model_epoch_1.pth"
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    assert path.read_bytes() == b"damaged"


TRAIN_SLOWLY = """
import signal, sys, time
from mnist_helpers import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
from tests.conftest import make_digits
real = cli.fit
def slow_fit(*arguments, **options):
    def wait(record):
        print("waiting", flush=True)
        time.sleep(30)
    return real(*arguments, on_epoch_end=wait, **options)
cli.fit = slow_fit
cli.load_mnist = lambda *_, **__: (make_digits(40), make_digits(20, 1))
sys.exit(cli.main(["train", "--epochs", "2", "--device", "cpu", "--checkpoint-dir", sys.argv[1]]))
"""


SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return how a run ends after each signal, and what it says; all of them run at once."""
    folder, ends = tmp_path_factory.mktemp("stopped"), {}
    processes = {
        number: subprocess.Popen(
            [sys.executable, "-c", TRAIN_SLOWLY, str(folder / str(int(number)))],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in SIGNALS
    }  # fmt: skip
    for number, process in processes.items():
        assert any("waiting" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(number)
        rest = process.stdout.read()
        process.stdout.close()
        ends[number] = process.wait(20), rest
    return ends


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_run_with_what_is_saved_and_how_to_go_on(stopped, number):
    code, rest = stopped[number]
    assert code == 130
    assert "Finished epochs: 1. The last checkpoint is" in rest and "epoch_1.pth" in rest
    assert "To go on: mnist-helpers train" in rest and "--resume" in rest
    assert "Traceback" not in rest


# --- data


@pytest.fixture
def small_files(monkeypatch):
    stand_ins.__wrapped__(monkeypatch)


@pytest.fixture
def mirrors(small_files, monkeypatch):
    with two_mirrors(monkeypatch) as started:
        yield started


@contextlib.contextmanager
def raw_server(answer):
    """Run a server that treats each connection as `answer(socket)` says."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            request = self.request.recv(4096)
            with contextlib.suppress(OSError):
                if request.startswith(b"HEAD"):
                    self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                else:
                    answer(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def head(length):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


def drip(socket):
    socket.sendall(head(100_000))
    for _ in range(100):  # each pause is shorter than any time-out
        socket.sendall(b"x")
        threading.Event().wait(0.1)


def go_on(socket, start, piece):
    socket.sendall(b"HTTP/1.1 200 OK\r\n" + start)
    for _ in range((256 << 20) // len(piece)):
        socket.sendall(piece)


def drip_head(socket):
    for letter in b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: " + b"x" * 100:
        socket.sendall(bytes([letter]))
        threading.Event().wait(0.1)


ANSWERS = {
    "drips its head": drip_head,
    "hangs": lambda socket: threading.Event().wait(3),
    "drips": drip,
    "promises more": lambda socket: socket.sendall(head(10_000) + b"short"),
    "gives more": lambda socket: socket.sendall(head(3) + b"far too long"),
    "is cut in the middle": lambda s: s.sendall(head(500) + PACKED[f"{FILES[0].name}.gz"][:60]),
    "redirects for ever": lambda socket: socket.sendall(
        b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ),
    "never ends": lambda socket: go_on(socket, b"\r\n", bytes(1 << 16)),
    "never ends its head": lambda socket: go_on(socket, b"", b"X: y\r\n"),
    "chunks badly": lambda socket: go_on(socket, b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
    "says two lengths": lambda socket: socket.sendall(head("3\r\nContent-Length: 4") + b"four"),
    "speaks no HTTP": lambda socket: socket.sendall(b"hello\r\n\r\n"),
    "says nothing": lambda socket: socket.close(),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_broken_mirror_is_left_for_the_next(kind, mirrors, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "PATIENCE_SECONDS", 0.5)
    with raw_server(ANSWERS[kind]) as url:
        monkeypatch.setattr(mirror_module, "MIRRORS", (url, mirrors[1].url))
        started = time.perf_counter()
        assert download_mnist(tmp_path) == tmp_path
        assert time.perf_counter() - started < 8
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_broken_mirror_alone_is_one_clear_error_and_no_file(
    kind, small_files, tmp_path, monkeypatch
):
    monkeypatch.setattr(mirror_module, "PATIENCE_SECONDS", 0.5)
    with raw_server(ANSWERS[kind]) as url:
        monkeypatch.setattr(mirror_module, "MIRRORS", (url,))
        with pytest.raises(DataError) as caught:
            download_mnist(tmp_path, allow_sample=False)
    assert url in str(caught.value) and FILES[0].name in str(caught.value)
    assert on_disk(tmp_path) == {}


def test_an_interrupted_download_starts_over_and_never_counts(mirrors, tmp_path, monkeypatch):
    folder = raw_folder(tmp_path)
    folder.mkdir(parents=True)
    old, new = folder / ".train-images-idx3-ubyte.77.tmp", folder / "tmpk3jx"
    for path in (old, new):
        path.write_bytes(b"half of it")
    os.utime(old, (time.time() - 3600,) * 2)
    (folder / "train-images-idx3-ubyte").write_bytes(b"half of it")
    assert download_mnist(tmp_path) == tmp_path
    # What another download may still be writing is nobody else's to delete, however old.
    assert on_disk(tmp_path) == {
        **CONTENTS, **PACKED, old.name: b"half of it", new.name: b"half of it"
    }  # fmt: skip


DOWNLOAD = """
import sys
from mnist_helpers.data import download, idx, mirrors
from tests.test_download import CONTENTS, PACKED, sha
idx.FILES = mirrors.FILES = download.FILES = tuple(
    idx.DataFile(n, len(c), sha(c), sha(p), len(p))
    for (n, c), p in zip(CONTENTS.items(), PACKED.values(), strict=True)
)
mirrors.MIRRORS = (sys.argv[1],)
download.download_mnist(sys.argv[2], allow_sample=False)
"""


@pytest.mark.slow
def test_two_processes_download_into_one_folder_at_once(mirrors, tmp_path):
    mirrors[0].delay = 0.1
    command = [sys.executable, "-c", DOWNLOAD, mirrors[0].url, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED}


# --- training


def test_a_loss_that_is_no_number_is_named_with_its_step_and_rate(loaders, config, monkeypatch):
    real, steps = torch.nn.functional.cross_entropy, []

    def breaks(logits, labels, **options):
        steps.append(1)
        loss = real(logits, labels, **options)
        return loss * math.nan if len(steps) == 3 else loss

    model, images = make_linear(), loaders[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", breaks)
    with pytest.raises(TrainingError, match=r"nan at step 3: .*rate, 0\.25, is too high"):
        step.train_one_epoch(model, images, torch.nn.functional.cross_entropy, optimizer)


def test_it_stops_in_the_midst_of_an_epoch_when_the_bar_refreshes(loaders, config):
    model, steps = make_linear(), []

    class Bar:
        def update(self, count):
            steps.append(count)
            return len(steps) == 2

        def set_postfix_str(self, text, refresh):
            raise AssertionError("a loss that is no number was shown")

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(TrainingError, match="at step 1"):
        step.train_one_epoch(
            model, loaders[0], lambda *a: torch.nn.functional.cross_entropy(*a) * math.inf,
            optimizer, bar=Bar(),
        )  # fmt: skip
    assert len(steps) == 2  # of 5


def test_an_epoch_that_failed_is_not_saved_and_the_one_before_it_is(sets, config):
    model = make_linear()

    def break_the_model(record):
        with torch.no_grad():
            model[1].weight.fill_(math.nan)

    with pytest.raises(TrainingError, match="at step 1"):
        fit(model, *sets, config, on_epoch_end=break_the_model)
    names = sorted(path.name for path in config.checkpoint_dir.iterdir())
    assert names == ["best_mnist_model.pth", "mnist_model_epoch_1.pth"]


@pytest.mark.parametrize(("labels", "warned"), [("shuffled", True), ("right", False)])
def test_a_network_that_only_guesses_is_noticed_once(config, capsys, monkeypatch, labels, warned):
    monkeypatch.setattr(step, "STUCK_STEPS", 8)
    digits = make_digits(64)
    if labels == "shuffled":
        digits.images[:] = digits.images[:1]  # all alike: nothing can be learned
    model = make_linear()
    with torch.no_grad():
        model[1].weight.zero_()
    fit(model, digits, make_digits(20, 1), config)
    out = capsys.readouterr().out
    assert out.count("no better than guessing (ln 10 = 2.30)") == int(warned)
    assert ("After 8 steps" in out and "Likely causes" in out) == warned


def no_step(*_, **__):
    pytest.fail("a step was taken")


def spoiled(image=None, label=None):
    """Return a data set whose fourth item is another one."""
    good = (torch.zeros(1, 28, 28), 3)
    item = (good[0] if image is None else image, good[1] if label is None else label)
    return [good] * 3 + [item]


def spoiled_images(image):
    return [(image, 3)] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (spoiled_images(torch.zeros(28, 28)), r"shape \(4, 28, 28\)"),
        (spoiled_images(torch.zeros(3, 28, 28)), r"shape \(4, 3, 28, 28\)"),
        (spoiled_images(torch.zeros(1, 28, 28, dtype=torch.float64)), "torch.float64"),
        (spoiled_images(torch.zeros(1, 28, 28, dtype=torch.uint8)), "torch.uint8"),
        (spoiled_images(torch.full((1, 28, 28), 255.0)), "range from 255 to 255"),
        (spoiled_images(torch.full((1, 28, 28), math.nan)), "range from nan"),
        (spoiled(image=torch.zeros(1, 20, 20)), r"can't be batched \(RuntimeError: stack expects"),
        (spoiled(label=10), "0 to 9, got 3 to 10"),
        (spoiled(label=-1), "0 to 9, got -1 to 3"),
        ([(torch.zeros(1, 28, 28), 3.0)] * 4, "labels of torch.float64"),
        ([(torch.zeros(1, 28, 28), torch.eye(10)[3])] * 4, r"labels of .* shape \(4, 10\)"),
        ([(torch.zeros(1, 28, 28), "3")] * 4, r"give pairs of \(image, label\)"),
        ([torch.zeros(1, 28, 28)] * 4, r"give pairs of \(image, label\)"),
        ([(torch.zeros(1, 28, 28), 3, 3)] * 4, r"give pairs of \(image, label\)"),
        ([{"image": torch.zeros(1, 28, 28), "label": 3}] * 4, r"give pairs of \(image, label\)"),
        (spoiled_images(Image.new("L", (28, 28))), r"can't be batched \(TypeError.*as a tensor"),
        ([], "set is empty"),
    ],
)
@pytest.mark.parametrize("which", ["training", "validation", "test"])
def test_wrong_images_and_labels_are_an_error_before_the_first_step(
    sets, config, monkeypatch, dataset, message, which
):
    stopped_after(sets, config, 1)
    before = everything_in(config.checkpoint_dir)
    monkeypatch.setattr(fit_module, "train_one_epoch", no_step)
    train_set, test_set = sets
    if which == "validation":
        monkeypatch.setattr("mnist_helpers.data.loaders.hold_back", lambda *_: (train_set, dataset))
        config = dataclasses.replace(config, validation=1)
    pair = (dataset, test_set) if which == "training" else (train_set, dataset)
    with pytest.raises(InputError, match=message) as caught:
        fit(make_linear(), *(sets if which == "validation" else pair), config)
    assert f"the {which}" in str(caught.value)
    assert everything_in(config.checkpoint_dir) == before  # an older run stays where it is


class WithLabels(list):
    """Another's data set, which keeps its labels as it likes."""


@pytest.mark.parametrize("keep", [None, torch.tensor, np.array, list])
def test_a_wrong_label_anywhere_in_the_dataset_is_found(sets, config, keep):
    train_set, test_set = sets
    train_set.labels[-1] = 10
    if keep is not None:
        train_set = WithLabels(train_set)
        train_set.labels = keep([label for _, label in train_set])
    with pytest.raises(InputError, match="training labels must be 0 to 9, got 0 to 10"):
        fit(make_linear(), train_set, test_set, config)


# --- surroundings


def run_cli(*arguments, cwd, **options):
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "mnist_helpers", *arguments],
        cwd=cwd, capture_output=True, text=True, env=environment, timeout=120, **options,
    )  # fmt: skip


def everything_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@posix_only
@pytest.mark.slow
def test_the_command_line_writes_only_where_it_was_sent(tmp_path, sample_root):
    """With no usable home and a strict locale, and a path with spaces and umlauts."""
    cwd, out = tmp_path / "cwd", tmp_path / "a b ü"
    for folder in (cwd, out):
        folder.mkdir()
    small = ["--epochs", "1", "--train-limit", "20", "--test-limit", "10", "--device", "cpu"]
    places = ["--data-root", str(sample_root.parent), "--checkpoint-dir", str(out / "c")]
    outputs = ["--history", str(out / "h.csv"), "--plot", str(out / "curves.png")]
    surroundings = {
        # Below a regular file not even root can make a folder.
        "HOME": f"{__file__}/home", "XDG_CACHE_HOME": f"{__file__}/cache", "LC_ALL": "C",
        "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    before = everything_below(sample_root)
    done = run_cli("train", *small, *places, *outputs, cwd=cwd, env=surroundings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert everything_below(cwd) == set() and everything_below(sample_root) == before
    assert everything_below(out) == {
        "h.csv", "curves.png", "c", "c/best_mnist_model.pth", "c/mnist_model_epoch_1.pth",
    }  # fmt: skip
    assert done.stdout.count("Epoch  1/1") == 1 and "\r" not in done.stdout  # no terminal: one line
    assert "sample of 5,000" in done.stdout


@posix_only
@pytest.mark.slow
def test_a_reader_who_has_seen_enough_ends_it_quietly(tmp_path):
    """`true` is gone long before there is something to read."""
    command = f"{sys.executable} -m mnist_helpers describe | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_closed_pipe_is_no_error_message(monkeypatch, tmp_path):
    def closed(*_):
        raise BrokenPipeError

    monkeypatch.setattr(cli, "describe", closed)
    duplicated = []
    monkeypatch.setattr(cli.os, "dup2", lambda *pair: duplicated.append(pair))
    monkeypatch.setattr(cli.sys.stdout, "fileno", lambda: 1, raising=False)
    assert cli.main(["describe"]) == 141
    assert len(duplicated) == 1


@pytest.mark.slow
def test_workers_started_by_spawn_give_the_same_batches():
    digits = make_digits(20)
    plain, spawned = (
        DataLoader(digits, batch_size=8, sampler=EpochSampler(20, 1), **options)
        for options in ({}, {"num_workers": 1, "multiprocessing_context": "spawn"})
    )
    for one, two in zip(plain, spawned, strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


# --- what a review found


def test_a_checkpoint_that_would_not_load_replaces_nothing(tmp_path):
    path = save_checkpoint(tmp_path / "c.pth", example(1))
    for spoiled in ({"epoch": 0}, {"test_accuracy": 2.0}, {"train_accuracy": 1}):
        with pytest.raises(
            CheckpointError, match="was not written, because the new file failed its check"
        ):
            save_checkpoint(path, example(2) | spoiled)
    assert load_checkpoint(path)["epoch"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth"]


def test_going_on_in_another_folder_moves_the_run_there_aside(sets, config, tmp_path):
    there = dataclasses.replace(config, checkpoint_dir=tmp_path / "there")
    stopped_after(sets, config, 1)
    stopped_after(sets, there, 2)
    before = {p.name: p.read_bytes() for p in there.checkpoint_dir.iterdir()}
    first = config.checkpoint_dir / "mnist_model_epoch_1.pth"
    fit(make_linear(), *sets, there, resume_from=first)
    moved = there.checkpoint_dir / "previous"
    assert {p.name: p.read_bytes() for p in moved.iterdir()} == before
    ids = {load_checkpoint(p)["run_id"] for p in there.checkpoint_dir.glob("*.pth")}
    assert ids == {load_checkpoint(first)["run_id"]}


def test_resume_from_a_file_of_any_name_and_not_from_a_misspelt_one(sets, config, tmp_path):
    stopped_after(sets, config, 1)
    renamed = tmp_path / "mine.pt"
    renamed.write_bytes((config.checkpoint_dir / "mnist_model_epoch_1.pth").read_bytes())
    assert len(fit(make_linear(), *sets, config, resume_from=renamed)) == 3
    with pytest.raises(CheckpointError, match=r"epoch_1 does not exist; name a checkpoint"):
        fit(make_linear(), *sets, config, resume_from=tmp_path / "mnist_model_epoch_1")


def test_a_folder_that_cannot_be_used_is_named_before_an_epoch(sets, config, monkeypatch):
    monkeypatch.setattr(fit_module, "train_one_epoch", no_step)
    config.checkpoint_dir.parent.joinpath("file").write_text("")
    broken = dataclasses.replace(config, checkpoint_dir=config.checkpoint_dir.parent / "file")
    with pytest.raises(CheckpointError, match="no checkpoints can be written to .*file"):  # noqa: RUF043
        fit(make_linear(), *sets, broken)


@pytest.mark.parametrize("spoil", ["gone", "damaged"])
def test_a_lost_best_checkpoint_is_written_again(sets, config, spoil):
    fit(make_linear(), *sets, config)
    best = config.checkpoint_dir / "best_mnist_model.pth"
    expected = digest(load_checkpoint(best)["model_state_dict"])
    best.unlink()
    if spoil == "damaged":
        best.write_bytes(b"damaged")
    fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    assert digest(load_checkpoint(best)["model_state_dict"]) == expected


def test_other_loaders_with_the_same_configuration_are_refused(sets, config):
    stopped_after(sets, config, 1)
    with pytest.raises(CheckpointError, match=r"train_size: 70 then, 50 now"):
        fit(make_linear(), make_digits(50), sets[1], config, resume_from=config.checkpoint_dir)


def test_stopped_after_damage_the_last_whole_checkpoint_is_named(sets, config, capsys):
    fit(make_linear(), *sets, config)
    for epoch in (2, 3):
        (config.checkpoint_dir / f"mnist_model_epoch_{epoch}.pth").write_bytes(b"damaged")

    def stop(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "train_one_epoch", stop)
        fit(make_linear(), *sets, config, resume_from=config.checkpoint_dir)
    assert "mnist_model_epoch_1.pth.\n" in capsys.readouterr().out


def test_real_files_beside_the_sample_are_tried(small_files, tmp_path, sample_root, monkeypatch):
    """Packed and whole, they need no mirror; loading must not pass them over."""
    monkeypatch.setattr(mirror_module, "MIRRORS", ())
    shutil.copytree(sample_root, tmp_path / "sample")
    folder = raw_folder(tmp_path)
    folder.mkdir(parents=True)
    for name, content in PACKED.items():
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="not a whole IDX file"):  # the stand-ins hold no digits
        load_mnist(tmp_path)
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED}


def test_a_full_disk_is_not_blamed_on_the_mirror(mirrors, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"cannot be written.*No space left"):
        download_mnist(tmp_path)
    assert not (tmp_path / "sample").exists()


@pytest.mark.parametrize("address", ["http://a..b/", "http://[bad/", "HTTP://127.0.0.1:9/"])
def test_an_odd_address_is_one_line(address, mirrors, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MNIST_MIRROR", address)
    assert download_mnist(tmp_path) == tmp_path
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("output", ["--history=FILE/h.csv", "--history=DIR.csv", "--plot=DIR.png"])
def test_outputs_that_cannot_be_written_are_refused_before_training(output, tmp_path, capsys):
    (tmp_path / "FILE").write_text("")
    for name in ("DIR.csv", "DIR.png"):
        (tmp_path / name).mkdir()
    assert cli.main(["train", output]) == 2
    assert "cannot be written" in capsys.readouterr().err
