"""The command line, `mnist-helpers`: download, train, evaluate, predict, describe."""

import argparse
import dataclasses
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

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
from mnist_helpers.machine.progress import announce
from mnist_helpers.model import MnistCNN
from mnist_helpers.pictures import predict, prepare
from mnist_helpers.summary import describe
from mnist_helpers.training.checkpoint import take_weights
from mnist_helpers.training.fit import fit
from mnist_helpers.training.folder import BEST_NAME, epoch_checkpoints
from mnist_helpers.training.step import evaluate

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


def _download(given: argparse.Namespace) -> int:
    root = download_mnist(options.config_of(given).data_root, allow_sample=not given.no_sample)
    print(f"The files are in {raw_folder(root)}.")
    return DONE


def _train(given: argparse.Namespace) -> int:
    config = options.config_of(given)
    options.check_outputs(given)
    if given.plot is not None:
        _load_plots()  # better it fails now than after an hour
    try:
        with distributed.joined(pick_device(config.device)) as device:
            config = dataclasses.replace(config, device=str(device))
            with distributed.rank_zero_first():  # it downloads, and the others find the files
                train_set, test_set = _load(given, config)
            seed_everything(config.seed)
            resume_from = config.checkpoint_dir if given.resume else None
            history = fit(MnistCNN(), train_set, test_set, config, resume_from=resume_from)
        if len(history) and distributed.is_rank_zero():
            _report(history, config, given)
    except KeyboardInterrupt:  # before the first epoch or after the last one
        if distributed.is_rank_zero():
            print("mnist-helpers: stopped", file=sys.stderr)
        if not (config.checkpoint_dir and epoch_checkpoints(config.checkpoint_dir)):
            return INTERRUPTED
    else:
        if not history.interrupted:
            return DONE
    if distributed.is_rank_zero():
        print(f"To go on: {options.command_to_go_on(given.words, distributed.launched())}")
    return INTERRUPTED


def _report(history: History, config: TrainConfig, given: argparse.Namespace) -> None:
    last, best = history[-1], history.best
    announce(str(history))
    announce(f"Test accuracy after epoch {last.epoch}, the last: {last.test_accuracy:.2%}")
    if best is not None and config.checkpoint_dir is not None:
        path, chosen_by = config.checkpoint_dir / BEST_NAME, history.chosen_by
        gone = "" if path.exists() else "; but the file has been deleted"
        announce(
            f"{path}: epoch {best.epoch}, the best by {chosen_by} accuracy, {best.score:.2%}{gone}"
        )
    if given.history is not None:
        announce(f"Epochs written to {history.save(given.history)}")
    if given.plot is not None:
        announce(f"Curves drawn to {_load_plots().save_history_plot(history, given.plot)}")


def _load_plots() -> ModuleType:
    """Import `plots`, which is slow, with no screen and with a cache outside the user's home."""
    kept = {name: os.environ.get(name) for name in ("MPLBACKEND", "MPLCONFIGDIR")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MPLBACKEND": "agg", "MPLCONFIGDIR": kept["MPLCONFIGDIR"] or folder}
        try:
            return importlib.import_module("mnist_helpers.plots")
        except (ImportError, OSError, ValueError) as error:
            raise errors.ConfigError(
                f"matplotlib cannot be loaded ({error}); train without --plot"
            ) from error
        finally:
            for name, value in kept.items():
                os.environ.pop(name)
                os.environ |= {} if value is None else {name: value}


def _evaluate(given: argparse.Namespace) -> int:
    config = options.config_of(given)
    settings = config.resolved()
    model = MnistCNN()
    origin = take_weights(model, given.checkpoint)
    _, test_set = _load(given, config)
    place(model, settings.device, settings.memory_format)
    metrics = evaluate(model, make_loader(test_set, settings, train=False))
    data = "" if test_set.source == DataSource.MNIST else f" ({test_set.source.words})"
    print(
        f"{given.checkpoint}, {origin}: test accuracy "
        f"{metrics.accuracy:.2%}, test loss {metrics.loss:.4f}, {len(test_set)} images{data}"
    )
    return DONE


def _predict(given: argparse.Namespace) -> int:
    options.check_save(given)
    model = MnistCNN()
    origin = take_weights(model, given.checkpoint)
    if not origin.startswith("epoch"):
        print(f"mnist-helpers: {given.checkpoint}: {origin}", file=sys.stderr)
    answers: list[dict[str, Any]] = []
    for path in given.images:
        try:
            picture = prepare(path)
            if given.save is not None:
                Image.fromarray(picture).save(given.save, format="PNG")
            (answer,) = predict(model, [picture])
            answers.append({"file": str(path), **dataclasses.asdict(answer)})
        except errors.InputError as error:
            answers.append({"file": str(path), "error": str(error)})
    if given.json:
        print(json.dumps(answers, indent=1))
    else:
        _print_answers(answers)
    return FAILED if any("error" in answer for answer in answers) else DONE


def _print_answers(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        if "error" in answer:
            print(f"mnist-helpers: {answer['error']}", file=sys.stderr)
            continue
        ranked = sorted(enumerate(answer["probabilities"]), key=lambda pair: -pair[1])[:3]
        beliefs = ", ".join(f"{digit}: {probability:.1%}" for digit, probability in ranked)
        print(f"{answer['file']}: {answer['digit']}  ({beliefs})")


def _describe(_: argparse.Namespace) -> int:
    print(describe(MnistCNN()))
    return DONE


COMMANDS = {f.__name__[1:]: f for f in (_download, _train, _evaluate, _predict, _describe)}
