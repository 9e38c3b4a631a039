"""Spoil data files and checkpoints in every way; say how the package takes each one.

Usage: python -m tests.campaigns.mutate COUNT FOLDER

COUNT mutations of the data files and as many of a checkpoint, seeded. Each has to be
refused with the package's own error that names the file, or be shown harmless: what
is loaded is, to the last bit, what was there before. Prints a line of JSON; any other
outcome is an exception. Run in a process of its own, it also measures the memory.
"""

import copy
import dataclasses
import gzip
import json
import os
import random
import resource
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

from mnist_helpers.config import TrainConfig
from mnist_helpers.data import download, idx, mirrors
from mnist_helpers.data.digits import load_mnist
from mnist_helpers.data.idx import DataFile, file_hash, raw_folder, write_idx
from mnist_helpers.errors import CheckpointError, DataError
from mnist_helpers.training.checkpoint import digest, load_checkpoint
from mnist_helpers.training.fit import fit
from tests.conftest import make_digits, make_linear

MAX_SECONDS = 10.0  # for one mutation: more would be a hang


def flip(content, dice):
    spoiled = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 20))):
        spoiled[dice.randrange(len(spoiled))] ^= 1 << dice.randrange(8)
    return bytes(spoiled)


RAW_MUTATIONS = {
    "bits flipped": flip,
    "cut": lambda content, dice: content[: dice.randrange(len(content))],
    "grown": lambda content, dice: content + dice.randbytes(dice.randrange(1, 100)),
    "zeroed part": lambda content, dice: content[:50] + bytes(60) + content[110:],
    "empty": lambda content, dice: b"",
    "HTML": lambda content, dice: b"<!DOCTYPE html><html>Please log in</html>",
    "noise": lambda content, dice: dice.randbytes(len(content)),
}


# --- data


def make_data(root):
    """Write a small set in MNIST's four files, packed and unpacked; return its `FILES`."""
    folder = raw_folder(root)
    folder.mkdir(parents=True)
    entries = []
    for prefix, size in (("train", 200), ("t10k", 100)):
        digits = make_digits(size)
        for kind, array in (("images-idx3", digits.images), ("labels-idx1", digits.labels)):
            path = folder / f"{prefix}-{kind}-ubyte"
            write_idx(path, array.numpy().astype(np.uint8))
            packed = path.with_name(f"{path.name}.gz")
            packed.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            hashes = file_hash(path), file_hash(packed)
            entries.append(DataFile(path.name, path.stat().st_size, *hashes, packed.stat().st_size))
    return tuple(entries)


def contents(root):
    train_set, test_set = load_mnist(root, allow_sample=False)
    return digest([train_set.images, train_set.labels, test_set.images, test_set.labels])


def spoil_data(root, dice):
    """Spoil one file, packed or unpacked, or swap two; return what was done and to which."""
    paths = sorted(raw_folder(root).iterdir())
    path = dice.choice(paths)
    kind = dice.choice([*RAW_MUTATIONS, "swapped", "missing", "gzip bomb", "half a download"])
    if kind == "swapped":
        other = dice.choice([p for p in paths if p.suffix == path.suffix and p != path])
        one, two = path.read_bytes(), other.read_bytes()
        path.write_bytes(two)
        other.write_bytes(one)
    elif kind == "missing":
        path.unlink()
    elif kind == "gzip bomb":
        path = path if path.suffix else path.with_name(f"{path.name}.gz")
        path.write_bytes(gzip.compress(bytes(300_000_000), compresslevel=1))
        path.with_suffix("").unlink()
    elif kind == "half a download":
        whole = path.read_bytes()
        path.unlink()
        path.with_name(f".{path.name}.1.tmp").write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(RAW_MUTATIONS[kind](path.read_bytes(), dice))
    return kind, path


def try_data(count, folder):
    outcomes = {}
    root = folder / "data"
    idx.FILES = mirrors.FILES = download.FILES = make_data(root)
    mirrors.MIRRORS = ()
    whole = {p: p.read_bytes() for p in raw_folder(root).iterdir()}
    expected = contents(root)
    for number in range(count):
        for path in raw_folder(root).iterdir():
            path.unlink()
        for path, content in whole.items():
            path.write_bytes(content)
        dice = random.Random(number)
        kind, spoiled = spoil_data(root, dice)
        if dice.random() < 0.5 and spoiled.suffix == "":  # then its .gz cannot help
            spoiled.with_name(f"{spoiled.name}.gz").unlink()
        try:
            outcome = "whole data, to the bit" if contents(root) == expected else "wrong data"
        except DataError as error:
            lacking = spoiled.with_suffix("") if spoiled.suffix == ".gz" else spoiled
            outcome = "refused" if str(lacking) in str(error) else f"unnamed: {error}"
        note(outcomes, kind, outcome, ("refused", "whole data, to the bit"))
    return outcomes


# --- checkpoints


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def list_in_itself():
    value = []
    value.append(value)
    return value


def spoil_values(checkpoint, dice):
    """Change what a checkpoint holds; return what was done. Its digest is made to fit."""
    weights = checkpoint["model_state_dict"]
    name = dice.choice(list(weights))
    key = dice.choice(list(checkpoint))
    nonsense = dice.choice([None, b"x", -1, 1.5, [1], {"a": 1}, torch.zeros(2), float("nan")])
    buffers = checkpoint["optimizer_state_dict"]["state"]
    actions = {
        "key removed": lambda: checkpoint.pop(key),
        "key renamed": lambda: checkpoint.update({f"{key}_": checkpoint.pop(key)}),
        "value replaced": lambda: checkpoint.update({key: nonsense}),
        "NaN weights": lambda: weights[name].view(-1)[:1].fill_(float("nan")),
        "infinite weights": lambda: weights[name].view(-1)[:1].fill_(float("inf")),
        "other shape": lambda: weights.update({name: torch.zeros(3, 3)}),
        "other type": lambda: weights.update({name: weights[name].double()}),
        "weight missing": lambda: weights.pop(name),
        "another network": lambda: checkpoint.update(
            model_state_dict=torch.nn.Linear(3, 3).state_dict()
        ),
        "momentum of other shape": lambda: buffers[0].update(momentum_buffer=torch.zeros(1)),
        "momentum NaN": lambda: buffers[1]["momentum_buffer"].fill_(float("nan")),
        "momentum missing": lambda: buffers.clear(),
        "other learning rate": lambda: checkpoint["optimizer_state_dict"]["param_groups"][0].update(
            lr=9.0
        ),
        "history cut": lambda: checkpoint["history"].pop(),
        "history of nonsense": lambda: checkpoint.update(history=[{"epoch": 1}, nonsense]),
        "list in itself": lambda: checkpoint.update(history=list_in_itself()),
        "sparse tensor": lambda: weights.update({name: torch.zeros(3).to_sparse()}),
        "meta tensor": lambda: weights.update({name: torch.zeros(3, device="meta")}),
        "random state out of range": lambda: checkpoint["random_states"].update(
            numpy=("MT19937", [0] * 624, 10**8, 0, 0.0)
        ),
        "epoch NaN": lambda: checkpoint["history"][0].update(epoch=float("nan")),
        "other data": lambda: checkpoint["data"].update(train_size=7),
        "random states of nonsense": lambda: checkpoint["random_states"].update(torch=nonsense),
    }
    kind = dice.choice(list(actions))
    actions[kind]()
    return kind


def write_spoiled(path, whole, dice):
    """Write a spoiled checkpoint; return what was done to it."""
    if dice.random() < 0.6:
        checkpoint = copy.deepcopy(load_checkpoint(whole))
        kind = spoil_values(checkpoint, dice)
        try:
            fitting = digest(checkpoint)
        except (TypeError, RuntimeError, NotImplementedError, RecursionError):
            fitting = ""
        torch.save({**checkpoint, "digest": fitting}, path)
        return kind
    kind = dice.choice([*RAW_MUTATIONS, "malicious pickle", "digest missing", "zip bomb"])
    if kind == "malicious pickle":
        spot = dice.choice(["digest", "history", "epoch"])
        torch.save({**load_checkpoint(whole), "digest": "", spot: Malicious()}, path)
    elif kind == "digest missing":
        torch.save(load_checkpoint(whole), path)
    elif kind == "zip bomb":
        with (
            zipfile.ZipFile(whole) as source,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
        ):
            for part in source.infolist():
                bomb = part.filename.endswith("data/0")
                target.writestr(part.filename, bytes(400_000_000) if bomb else source.read(part))
    else:
        path.write_bytes(RAW_MUTATIONS[kind](whole.read_bytes(), dice))
    return kind


def try_checkpoints(count, folder):
    outcomes = {}
    config = TrainConfig(
        epochs=2, batch_size=50, lr=0.001, device="cpu", checkpoint_dir=folder / "run"
    )
    sets = make_digits(100), make_digits(50, seed=1)
    fit(make_linear(), *sets, config)
    whole = folder / "run" / "mnist_model_epoch_2.pth"
    expected = digest(load_checkpoint(whole))
    config = dataclasses.replace(config, checkpoint_dir=None)  # the folder is not in question
    for number in range(count):
        path = folder / "spoiled.pth"
        kind = write_spoiled(path, whole, random.Random(number))
        started = time.monotonic()
        try:
            fit(make_linear(), *sets, config, resume_from=path)
            same = digest(load_checkpoint(path)) == expected
            outcome = "the same, to the bit" if same else "taken, though it differs"
        except CheckpointError as error:
            outcome = "refused" if str(path) in str(error) else f"unnamed: {error}"
        if time.monotonic() - started > MAX_SECONDS:
            outcome = "slow"
        note(outcomes, kind, outcome, ("refused", "the same, to the bit"))
    if Path("executed").exists():
        raise SystemExit("code in a checkpoint was executed")
    return outcomes


def note(outcomes, kind, outcome, fine):
    if outcome not in fine:
        raise SystemExit(f"{kind}: {outcome}")
    counts = outcomes.setdefault(kind, {})
    counts[outcome] = counts.get(outcome, 0) + 1


def main():
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    os.chdir(folder)
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    outcomes = {"data": try_data(count, folder), "checkpoint": try_checkpoints(count, folder)}
    sys.stdout.flush()
    os.dup2(stdout, 1)
    outcomes["MiB above the import"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    ) // 1024
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
