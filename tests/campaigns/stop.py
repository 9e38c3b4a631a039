"""Stop the command line with signals at random moments; say how each run ended.

Usage: python -m tests.campaigns.stop COUNT FOLDER

COUNT times a short training is started as a user starts it, and gets Ctrl-C, SIGTERM or a storm
of both at a moment between its first import and its end. Each has to end with 130 (or with 0, if
it was done), without a traceback, with every checkpoint whole; and going on from what is left
has to end as a run that nobody stopped. Prints a line of JSON; anything else is an exception.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from mnist_helpers.data.download import write_sample
from mnist_helpers.training.checkpoint import load_checkpoint
from mnist_helpers.training.folder import epoch_checkpoints
from tests.campaigns.kill import end_state

KINDS = {
    "Ctrl-C": [signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "storm": [signal.SIGINT, signal.SIGTERM] * 20,
}
EPOCHS = 3


def start(data, folder, *options):
    small = ["--train-limit", "200", "--test-limit", "100", "--epochs", str(EPOCHS)]
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_helpers", "train", *small, "--device", "cpu",
         "--precision", "float32", "--data-root", data, "--checkpoint-dir", folder, *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def stop(process, wait, numbers):
    time.sleep(wait)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.01)
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


def main():
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    data = write_sample(folder / "data" / "sample").parent
    started = time.monotonic()
    text = start(data, folder / "whole").communicate()[0]
    seconds = time.monotonic() - started
    if not (folder / "whole" / f"mnist_model_epoch_{EPOCHS}.pth").exists():
        raise SystemExit(f"the run that nobody stops ended with:\n{text}")
    dice, ends = random.Random(os.environ.get("SEED", 1)), {}
    stopped, resumes = folder / "stopped", 0
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        wait = dice.uniform(0, seconds)
        code, text = stop(start(data, stopped, "--resume"), wait, KINDS[kind])
        if code in (-2, -15) and not text and wait < 1:  # Python itself had not begun
            code = 130
        elif code not in (0, 130) or "Traceback" in text or "Exception ignored" in text:
            raise SystemExit(f"{kind} after {wait:.2f} s ended with {code}:\n{text}")
        elif code == 130 and "topped" not in text:
            raise SystemExit(f"{kind} after {wait:.2f} s ended without a word")
        outcome = ends.setdefault(kind, {})
        outcome[str(code)] = outcome.get(str(code), 0) + 1
        found = epoch_checkpoints(stopped)
        for path in found:
            load_checkpoint(path)
        if len(found) == EPOCHS:
            resumes += 1
            if end_state(stopped, EPOCHS) != end_state(folder / "whole", EPOCHS):
                raise SystemExit("a run that was stopped and resumed ended as another")
            for path in [*found, stopped / "best_mnist_model.pth"]:
                path.unlink()
    print(json.dumps({"ends": ends, "runs brought to their end": resumes, "seconds": seconds}))


if __name__ == "__main__":
    main()
