"""The command line: download, train, evaluate, predict, describe."""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from mnist_helpers import workers
from mnist_helpers.batches import make_loaders
from mnist_helpers.checkpoints import load_checkpoint
from mnist_helpers.config import MNIST, TrainConfig, seed_everything
from mnist_helpers.data import load_mnist
from mnist_helpers.download import download_mnist
from mnist_helpers.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MnistHelpersError,
    TrainingError,
    WorkerError,
)  # fmt: skip
from mnist_helpers.hardware import pick_device
from mnist_helpers.history import History
from mnist_helpers.images import predict, prepare
from mnist_helpers.model import MnistCNN
from mnist_helpers.options import (
    build_parser,
    check_outputs,
    check_save,
    command_to_go_on,
    config_of,
)
from mnist_helpers.runfolder import BEST_NAME
from mnist_helpers.state import load_weights
from mnist_helpers.summary import describe
from mnist_helpers.training import evaluate, fit

DONE, FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        Those of the process where it is None.

    Returns
    -------
    int
        The exit code: 0 done; 1 something is wrong with data, files, the loss or another
        process, told in one message on stderr; 2 wrong usage; 130 stopped with Ctrl-C or
        SIGTERM; 141 the reader of the output is gone.
    """
    for stream in (sys.stdout, sys.stderr):  # a file's name may not fit the terminal's letters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    try:
        code = COMMANDS[options.command](options)
        sys.stdout.flush()  # here, where a closed pipe can still be met
        return code
    except BrokenPipeError:  # whoever read our output (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (MnistHelpersError, OSError, KeyboardInterrupt) as error:
        if options.debug:
            raise
        if isinstance(error, KeyboardInterrupt):  # which torchrun sends to all
            if workers.is_first():
                print("mnist-helpers: stopped", file=sys.stderr)
            return INTERRUPTED
        if _is_met_by_all(error):
            workers.let_the_first_speak()
        print(f"mnist-helpers: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, ConfigError) else FAILED


def _is_met_by_all(error: Exception) -> bool:
    """Tell whether each of several processes meets this error, so that one may say it."""
    common = ConfigError | CheckpointError | TrainingError
    return isinstance(error, common) and not isinstance(error, WorkerError)


def _load(options: argparse.Namespace, config: TrainConfig):  # noqa: ANN202
    return load_mnist(
        config.data_root,
        allow_sample=not options.no_sample,
        train_limit=config.train_limit,
        test_limit=config.test_limit,
        seed=config.seed,
    )


def _download(options: argparse.Namespace) -> int:
    root = download_mnist(config_of(options).data_root, allow_sample=not options.no_sample)
    print(f"The files are in {root / 'MNIST' / 'raw'}.")
    return DONE


def _train(options: argparse.Namespace) -> int:
    config = config_of(options)
    check_outputs(options)
    with workers.joined(pick_device(config.device)) as device, _sigterm_as_ctrl_c():
        config = dataclasses.replace(config, device=str(device))
        with workers.first_alone():  # it downloads, and the others find the files
            train_set, test_set = _load(options, config)
        seed_everything(config.seed)
        history = fit(
            MnistCNN(),
            *make_loaders(train_set, test_set, config),
            config,
            resume_from=config.checkpoint_dir if options.resume else None,
        )
    if len(history) and workers.is_first():
        _report(history, config, options)
    if not history.interrupted:
        return DONE
    if workers.is_first():
        print(f"To go on: {command_to_go_on(options, workers.launched())}")
    return INTERRUPTED


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """End training as cleanly when a system shuts down as when a person stops it."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(history: History, config: TrainConfig, options: argparse.Namespace) -> None:
    print(history)
    best = history.best
    print(f"Best test accuracy: {best.test_accuracy:.2%} after epoch {best.epoch}", end="")
    print(f", in {config.checkpoint_dir / BEST_NAME}")
    if options.history is not None:
        print(f"Epochs written to {history.save(options.history)}")
    if options.plot is not None:
        with _matplotlib_cache():
            from mnist_helpers.plots import save_history_plot  # slow to load

            print(f"Curves drawn to {save_history_plot(history, options.plot)}")


@contextlib.contextmanager
def _matplotlib_cache() -> Iterator[None]:
    """Give matplotlib a folder for its cache; its own is in the home, where nobody sent us."""
    if "MPLCONFIGDIR" in os.environ or "matplotlib" in sys.modules:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]


def _evaluate(options: argparse.Namespace) -> int:
    config = config_of(options)
    device = pick_device(config.device)
    checkpoint = load_checkpoint(options.checkpoint)
    model = MnistCNN()
    load_weights(model, checkpoint, options.checkpoint)
    _, test_set = _load(options, config)
    _, test_loader = make_loaders(test_set, test_set, config)
    metrics = evaluate(model.to(device), test_loader, device=device)
    data = "" if test_set.source == MNIST else f" (the {test_set.source})"
    print(
        f"{options.checkpoint}, epoch {checkpoint['epoch']}: test accuracy "
        f"{metrics.accuracy:.2%}, test loss {metrics.loss:.4f}, {len(test_set)} images{data}"
    )
    return DONE


def _predict(options: argparse.Namespace) -> int:
    check_save(options)
    checkpoint = load_checkpoint(options.checkpoint)
    model = MnistCNN()
    load_weights(model, checkpoint, options.checkpoint)
    answers, failed = [], False
    for path in options.images:
        try:
            picture = prepare(path)
            if options.save is not None:
                Image.fromarray(picture).save(options.save)
            (answer,) = predict(model, [picture])
            answers.append({"file": str(path), **dataclasses.asdict(answer)})
        except InputError as error:
            failed = True
            answers.append({"file": str(path), "error": str(error)})
    _show_answers(answers, as_json=options.json)
    return FAILED if failed else DONE


def _show_answers(answers: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answers, indent=1))
        return
    for answer in answers:
        if "error" in answer:
            print(f"mnist-helpers: {answer['error']}", file=sys.stderr)
            continue
        ranked = sorted(enumerate(answer["probabilities"]), key=lambda pair: -pair[1])[:3]
        beliefs = ", ".join(f"{digit}: {probability:.1%}" for digit, probability in ranked)
        print(f"{answer['file']}: {answer['digit']}  ({beliefs})")


def _describe(options: argparse.Namespace) -> int:
    print(describe(MnistCNN()))
    return DONE


COMMANDS = {
    "download": _download,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "describe": _describe,
}
