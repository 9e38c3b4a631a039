"""The command line: download, train, evaluate, describe."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import get_args, get_type_hints

from mnist_helpers.checkpoints import BEST_NAME, load_checkpoint
from mnist_helpers.config import MNIST, TrainConfig, pick_device, seed_everything
from mnist_helpers.data import load_mnist, make_loaders
from mnist_helpers.download import download_mnist
from mnist_helpers.errors import CheckpointError, ConfigError, MnistHelpersError
from mnist_helpers.history import History
from mnist_helpers.model import MnistCNN
from mnist_helpers.summary import describe
from mnist_helpers.training import evaluate, fit

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
TRAIN_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))
EVALUATE_FIELDS = ("data_root", "device", "seed", "test_limit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        Those of the process where it is None.

    Returns
    -------
    int
        The exit code: 0 done; 1 something is wrong with data or files, told in one
        message on stderr; 2 wrong usage; 130 stopped with Ctrl-C.
    """
    options = build_parser().parse_args(arguments)
    try:
        return options.command(options)
    except (MnistHelpersError, OSError, KeyboardInterrupt) as error:
        if options.debug:
            raise
        print(f"mnist-helpers: {str(error) or 'stopped'}", file=sys.stderr)
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        return WRONG_USAGE if isinstance(error, ConfigError) else FAILED


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the options of `train` are the fields of `TrainConfig`."""
    parser = argparse.ArgumentParser("mnist-helpers", description="A first CNN on MNIST.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    download = _command(commands, "download", _download, "get and check the four files of MNIST")
    _add_fields(download, ("data_root",))

    train = _command(commands, "train", _train, "train the network: the whole recipe")
    _add_fields(train, TRAIN_FIELDS)
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument(
        "--history", type=Path, metavar="FILE", help="write the epochs to FILE.csv or FILE.json"
    )
    train.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves to FILE.png")

    test = _command(commands, "evaluate", _evaluate, "measure a checkpoint on the test set")
    test.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .pth file")
    _add_fields(test, EVALUATE_FIELDS)

    _command(commands, "describe", _describe, "show the network layer by layer")
    for command in (download, train, test):
        command.add_argument(
            "--no-sample", action="store_true", help="fail where no mirror has the real MNIST"
        )
    return parser


def _command(commands, name, function, text):  # noqa: ANN001, ANN202  argparse hides its types
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(command=function)
    return command


def _add_fields(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add fields of `TrainConfig` as options, with their types, defaults and texts."""
    types = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if field.name not in names:
            continue
        kind = types[field.name]
        if isinstance(kind, UnionType):  # "int | None" is read as int
            kind = get_args(kind)[0]
        default = "" if field.default is None else f" (default {field.default})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            default=field.default,
            metavar={int: "N", float: "X", Path: "FOLDER", str: "NAME"}[kind],
            help=field.metadata["help"] + default,
        )


def _config(options: argparse.Namespace, names: Sequence[str]) -> TrainConfig:
    return TrainConfig(**{name: getattr(options, name) for name in names})


def _load(options: argparse.Namespace, config: TrainConfig):  # noqa: ANN202
    return load_mnist(
        config.data_root,
        allow_sample=not options.no_sample,
        train_limit=config.train_limit,
        test_limit=config.test_limit,
        seed=config.seed,
    )


def _download(options: argparse.Namespace) -> int:
    root = download_mnist(options.data_root, allow_sample=not options.no_sample)
    print(f"The files are in {root / 'MNIST' / 'raw'}.")
    return DONE


def _train(options: argparse.Namespace) -> int:
    config = _config(options, TRAIN_FIELDS)
    _check_outputs(options)
    pick_device(config.device)
    train_set, test_set = _load(options, config)
    seed_everything(config.seed)
    history = fit(
        MnistCNN(),
        *make_loaders(train_set, test_set, config),
        config,
        resume_from=config.checkpoint_dir if options.resume else None,
    )
    if len(history):
        _report(history, config, options)
    return INTERRUPTED if history.interrupted else DONE


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse, before an hour of training, an output file that could not be written after it."""
    if options.history is not None and options.history.suffix not in (".csv", ".json"):
        raise ConfigError(f"--history writes .csv or .json, got {str(options.history)!r}")
    if options.plot is not None and options.plot.suffix != ".png":
        raise ConfigError(f"--plot writes .png, got {str(options.plot)!r}")


def _report(history: History, config: TrainConfig, options: argparse.Namespace) -> None:
    print(history)
    best = history.best
    print(f"Best test accuracy: {best.test_accuracy:.2%} after epoch {best.epoch}", end="")
    print(f", in {config.checkpoint_dir / BEST_NAME}" if config.checkpoint_dir else "")
    if options.history is not None:
        print(f"Epochs written to {history.save(options.history)}")
    if options.plot is not None:
        from mnist_helpers.plots import save_history_plot  # matplotlib is slow to load

        print(f"Curves drawn to {save_history_plot(history, options.plot)}")


def _evaluate(options: argparse.Namespace) -> int:
    config = _config(options, EVALUATE_FIELDS)
    device = pick_device(config.device)
    checkpoint = load_checkpoint(options.checkpoint)
    model = MnistCNN()
    try:
        model.load_state_dict(checkpoint["model_state_dict"])
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{options.checkpoint} holds another network: {error}") from error
    _, test_set = _load(options, config)
    _, test_loader = make_loaders(test_set, test_set, config)
    metrics = evaluate(model.to(device), test_loader, device=device)
    data = "" if test_set.source == MNIST else f" (the {test_set.source})"
    print(
        f"{options.checkpoint}, epoch {checkpoint['epoch']}: test accuracy "
        f"{metrics.accuracy:.2%}, test loss {metrics.loss:.4f}, {len(test_set)} images{data}"
    )
    return DONE


def _describe(options: argparse.Namespace) -> int:
    print(describe(MnistCNN()))
    return DONE
