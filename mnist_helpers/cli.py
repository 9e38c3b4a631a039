"""The command line, `mnist-helpers`: download, train, evaluate, predict, describe."""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from mnist_helpers import errors, options
from mnist_helpers.config import DataSource, TrainConfig
from mnist_helpers.data.digits import DigitDataset, load_mnist
from mnist_helpers.data.download import download_mnist
from mnist_helpers.data.idx import raw_folder
from mnist_helpers.data.loaders import make_loader
from mnist_helpers.history import History
from mnist_helpers.machine import distributed
from mnist_helpers.machine.hardware import pick_device, place, seed_everything, stoppable
from mnist_helpers.machine.progress import advancing, announce, close_bar, open_bar
from mnist_helpers.model import MnistCNN
from mnist_helpers.pictures import predict, read_digits
from mnist_helpers.summary import describe
from mnist_helpers.training import folder as files
from mnist_helpers.training.fit import fit
from mnist_helpers.training.step import evaluate
from mnist_helpers.training.weights import PRETRAINED, take_weights

PREVIOUS_PATTERN = re.compile(rf"previous(-\d+)?/({files.EPOCH_PATTERN.pattern}|{files.BEST_NAME})")
DONE, FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, distributed.STOPPED, 141


def run() -> NoReturn:
    """Run the command that this process was started with, and end the process."""
    code: Any = FAILED
    try:
        code = main()
    except SystemExit as ended:  # argparse's, or ours: its code is a number
        code = ended.code
    except BaseException:
        if distributed.launched() == 1:
            raise
        traceback.print_exc()
    for number in (signal.SIGINT, signal.SIGTERM):  # all is done and said
        signal.signal(number, signal.SIG_IGN)
    distributed.leave(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of this process, and return its exit code.

    1 means that something is wrong with data, files, the loss or another process, and a message
    on stderr says what; 130, that Ctrl-C or SIGTERM ended it; 141, that nobody reads its output.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, or never there
            setattr(sys, name, io.StringIO())
    for stream in (sys.stdout, sys.stderr):  # a file's name may not fit the terminal's letters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = options.build_parser().parse_args(words)
    given.words = words
    try:
        with stoppable():
            code = COMMANDS[given.command](given)
            sys.stdout.flush()  # here, where a closed pipe can still be noticed
            return code
    except BrokenPipeError:  # the reader of our output (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (errors.MnistHelpersError, OSError, KeyboardInterrupt) as error:
        if given.debug:
            raise
        return _report_error(error)


def _report_error(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):  # which torchrun sends to all
        if distributed.is_rank_zero():
            print("mnist-helpers: stopped", file=sys.stderr)
        return INTERRUPTED
    met_by_all = errors.ConfigError | errors.CheckpointError | errors.TrainingError
    if isinstance(error, met_by_all) and not isinstance(error, errors.WorkerError):
        distributed.let_rank_zero_speak()
    print(f"mnist-helpers: {error}", file=sys.stderr)
    return WRONG_USAGE if isinstance(error, errors.ConfigError) else FAILED


def _load(given: argparse.Namespace, config: TrainConfig) -> tuple[DigitDataset, DigitDataset]:
    limits = {"train_limit": config.train_limit, "test_limit": config.test_limit}
    allow_sample = not given.no_sample
    return load_mnist(config.data_root, allow_sample=allow_sample, seed=config.seed, **limits)


def _help(_: argparse.Namespace) -> int:
    """Show the help, without an error, as cargo does: a name alone asks what there is."""
    options.build_parser().print_help()
    return DONE


def _download(given: argparse.Namespace) -> int:
    root = download_mnist(options.config_of(given).data_root, allow_sample=not given.no_sample)
    print(f"The files are in {raw_folder(root)}.")
    print(f"Next: {shlex.join([options.program(), 'train', *given.words[1:]])}")
    return DONE


def _train(given: argparse.Namespace) -> int:
    config = options.config_of(given)
    options.check_outputs(given)
    if given.plot is not None:
        options.load_plots()  # better it fails now than after an hour
    try:
        with distributed.joined(pick_device(config.device)) as device:
            config = dataclasses.replace(config, device=str(device))
            with distributed.rank_zero_first():  # it downloads, and the others find the files
                train_set, test_set = _load(given, config)
            seed_everything(config.seed)
            resume_from = config.checkpoint_dir if given.resume else None
            history = fit(MnistCNN(), train_set, test_set, config, resume_from=resume_from)
        if len(history) and config.checkpoint_dir and distributed.is_rank_zero():
            _report(history, _size(test_set), config.checkpoint_dir, given)
    except KeyboardInterrupt:  # before the first epoch or after the last one
        if distributed.is_rank_zero():
            print("mnist-helpers: stopped", file=sys.stderr)
        if not (config.checkpoint_dir and files.epoch_checkpoints(config.checkpoint_dir)):
            return INTERRUPTED
    else:
        if not history.interrupted:
            return DONE
    if distributed.is_rank_zero():
        print(f"To go on: {options.command_to_go_on(given.words, distributed.launched())}")
    return INTERRUPTED


def _report(history: History, tested: str, folder: Path, given: argparse.Namespace) -> None:
    path, last, best = folder / files.BEST_NAME, history[-1], history.best
    announce(f"Test accuracy {last.test_accuracy:.2%} after epoch {last.epoch} ({tested})")
    if best is not None:
        announce(f"Best by {history.chosen_by} accuracy: epoch {best.epoch}, {best.score:.2%}")
        announce(f"Saved: {path}" if path.exists() else f"{path} has been deleted.")
    if given.history is not None:
        announce(f"Epochs written to {history.save(given.history)}")
    if given.plot is not None:
        announce(f"Curves drawn to {options.load_plots().save_history_plot(history, given.plot)}")
    if not history.interrupted:
        if given.fresh:
            _delete_previous(folder)
        _suggest_predict(path)


def _size(test_set: DigitDataset) -> str:
    """Say how many digits an accuracy is for, and of how many if they were limited."""
    count, total = len(test_set), files.SIZES.get(test_set.source, (0, 0))[1]
    return f"{count:,}{f' of {total:,}' * (count < total)} digits"


def _delete_previous(folder: Path) -> None:
    """Delete the checkpoints that earlier runs left in `previous/` folders, and no other file."""
    with files.owned(folder):
        for path in sorted(folder.glob("previous*/*.pth")):
            if PREVIOUS_PATTERN.fullmatch(f"{path.parent.name}/{path.name}"):
                path.unlink()
                with contextlib.suppress(OSError):  # something else is still there
                    path.parent.rmdir()
                    announce(f"Deleted: {path.parent}")


def _network(given: argparse.Namespace) -> MnistCNN:
    """Load the named network, else the reader's own best, else the published; say which."""
    named, best = given.checkpoint or getattr(given, "named", None), options.BEST_CHECKPOINT
    path = given.checkpoint = named or (best if best.exists() else PRETRAINED)
    model = MnistCNN()
    origin = f"{path}, {take_weights(model, path)}"
    said = "the published weights" if path == PRETRAINED else origin
    print(f"Network: {said}", file=sys.stderr)  # not among answers that a program may read
    return model


def _evaluate(given: argparse.Namespace) -> int:
    config = options.config_of(given)
    settings = config.resolved()
    model = _network(given)
    _, test_set = _load(given, config)
    place(model, settings.device, settings.memory_format)
    if test_set.source != DataSource.MNIST:
        print(f"Tested on {test_set.source.words}.")
    loader = make_loader(test_set, settings, train=False)
    with open_bar("Testing", len(loader)) as bar:
        metrics = evaluate(model, advancing(loader, bar))
        close_bar(bar)
    print(f"Test accuracy {metrics.accuracy:.2%}, loss {metrics.loss:.4f} ({_size(test_set)})")
    _suggest_predict(given.checkpoint)
    return DONE


def _suggest_predict(checkpoint: Path) -> None:
    is_default = checkpoint in (options.BEST_CHECKPOINT, PRETRAINED)
    named = [] if is_default else ["--checkpoint", str(checkpoint)]
    announce(f"Next: {shlex.join([options.program(), 'predict', 'photo.jpg', *named])}")


def _predict(given: argparse.Namespace) -> int:
    options.check_save(given)
    model = _network(given)
    answers: list[dict[str, Any]] = []
    for path in given.images:
        try:
            digits = read_digits(path)
            if given.save is not None:
                Image.fromarray(np.hstack([one.image for one in digits])).save(given.save, "PNG")
                print(f"What the network saw: {given.save}", file=sys.stderr)
            for digit, answer in zip(digits, predict(model, digits), strict=True):
                place = {"box": digit.box} if len(digits) > 1 else {}
                answers.append({"file": str(path), **dataclasses.asdict(answer), **place})
        except errors.InputError as error:
            answers.append({"file": str(path), "error": str(error)})
    print(json.dumps(answers, indent=1)) if given.json else _print_answers(answers)
    return FAILED if any("error" in answer for answer in answers) else DONE


def _print_answers(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        if "error" in answer:
            print(f"mnist-helpers: {answer['error']}", file=sys.stderr)
            continue
        ranked = sorted(enumerate(answer["probabilities"]), key=lambda pair: -pair[1])
        beliefs = ", ".join(f"{digit}: {probability:.1%}" for digit, probability in ranked[:3])
        place = ", at {} {} {} {}".format(*answer["box"]) if "box" in answer else ""
        doubt = f"  Doubtful: {answer['why']}." * answer["doubtful"]
        print(f"{answer['file']}{place}: {answer['digit']}  ({beliefs}){doubt}")


def _describe(_: argparse.Namespace) -> int:
    print(describe(MnistCNN()))
    return DONE


COMMANDS = {f.__name__[1:]: f for f in (_help, _download, _train, _evaluate, _predict, _describe)}
