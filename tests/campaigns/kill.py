"""Kill a training run with SIGKILL again and again; say whether it ends as if never killed.

Usage: python -m tests.campaigns.kill KILLS FOLDER

Half of the kills come at a random moment; the other half in the midst of a write:
with half of the bytes on the disk, before the flush, before the renaming, after it.
Prints a line of JSON. POSIX only: every run is a fork of this process, which has
torch loaded already.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mnist_helpers.config import TrainConfig
from mnist_helpers.training.checkpoint import digest, load_checkpoint
from mnist_helpers.training.fit import fit
from mnist_helpers.training.folder import BEST_NAME, epoch_checkpoints
from tests.conftest import make_digits, make_linear

MOMENTS = ("half written", "before the flush", "before the renaming", "after the renaming")


def train(folder, epochs, resume):
    config = TrainConfig(
        epochs=epochs, batch_size=50, lr=0.001, device="cpu", checkpoint_dir=folder
    )
    sets = make_digits(200), make_digits(50, seed=1)
    fit(make_linear(), *sets, config, resume_from=folder if resume else None)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_write(moment, countdown):
    """Change how this process writes, so that it dies in one of the next writes."""
    left = [countdown]
    write, fsync, replace = Path.write_bytes, os.fsync, Path.replace

    def is_due(here):
        left[0] -= here == moment
        return here == moment and left[0] < 0

    def half_write(path, content):
        if is_due("half written"):
            write(path, content[: len(content) // 2])
            die()
        return write(path, content)

    def deadly_fsync(descriptor):
        if is_due("before the flush"):
            die()
        fsync(descriptor)

    def deadly_replace(path, target):
        if is_due("before the renaming"):
            die()
        replace(path, target)
        if is_due("after the renaming"):
            die()

    Path.write_bytes = half_write
    os.fsync = deadly_fsync
    Path.replace = deadly_replace


def run_once(folder, epochs, moment, dice):
    """Let a child train; kill it. Returns whether it was killed, or had finished before."""
    wait, countdown = dice.uniform(0.0, 0.3), dice.randrange(8)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if moment is not None:
            die_in_a_write(moment, countdown)
        train(folder, epochs, resume=True)
        os._exit(0)
    if moment is None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def end_state(folder, epochs):
    last = load_checkpoint(folder / f"mnist_model_epoch_{epochs}.pth")
    best = load_checkpoint(folder / BEST_NAME)
    return digest(
        [last["model_state_dict"], last["optimizer_state_dict"], best["model_state_dict"]]
        + [row["test_loss"] for row in last["history"]]
    )


def main():
    kills, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    epochs, dice = 6 * kills + 10, random.Random(1)
    counts, leftovers = dict.fromkeys((*MOMENTS, "at random"), 0), 0
    while sum(counts.values()) < kills:
        moment = None if sum(counts.values()) % 2 else dice.choice(MOMENTS)
        if not run_once(folder / "killed", epochs, moment, dice):
            raise SystemExit("the run finished before it was killed often enough")
        counts[moment or "at random"] += 1
        found = list((folder / "killed").glob(".*.pth.*.tmp"))
        leftovers += len(found)
        for path in found:  # so that the next run may remove them: younger ones may be in use
            os.utime(path, (0, 0))
        for path in [*epoch_checkpoints(folder / "killed"), *(folder / "killed").glob(BEST_NAME)]:
            load_checkpoint(path)  # each one is whole
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    train(folder / "killed", epochs, resume=True)
    train(folder / "whole", epochs, resume=False)
    sys.stdout.flush()
    os.dup2(saved, 1)
    print(
        json.dumps(
            {
                "kills": counts,
                "epochs": epochs,
                "temporary files found after a kill": leftovers,
                "temporary files left in the end": len(
                    list((folder / "killed").glob(".*.pth.*.tmp"))
                ),
                "same end state": end_state(folder / "killed", epochs)
                == end_state(folder / "whole", epochs),
            }
        )
    )


if __name__ == "__main__":
    main()
