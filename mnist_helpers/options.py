"""The words that the command line understands, and whether they make sense."""

import argparse
import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import NoReturn, get_args, get_type_hints

from mnist_helpers import workers
from mnist_helpers.config import RECIPES, TrainConfig
from mnist_helpers.errors import ConfigError
from mnist_helpers.runfolder import BEST_NAME

TRAIN_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))
EVALUATE_FIELDS = ("data_root", "device", "seed", "test_limit")


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes one process tells, where torchrun has started several."""

    def error(self, message: str) -> NoReturn:
        workers.let_the_first_speak()
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the options of `train` are the fields of `TrainConfig`."""
    parser = _Parser("mnist-helpers", description="A first CNN on MNIST.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    download = _command(commands, "download", "get and check the four files of MNIST")
    _add_fields(download, ("data_root",))

    train = _command(commands, "train", "train the network: the whole recipe")
    train.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default="baseline",
        help="where the options below start from (default baseline, which theirs are; fast: "
        + ", ".join(f"{name} {value}" for name, value in RECIPES["fast"].items())
        + ")",
    )
    _add_fields(train, TRAIN_FIELDS)
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument(
        "--history", type=Path, metavar="FILE", help="write the epochs to FILE.csv or FILE.json"
    )
    train.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves to FILE.png")

    test = _command(commands, "evaluate", "measure a checkpoint on the test set")
    test.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .pth file")
    _add_fields(test, EVALUATE_FIELDS)

    guess = _command(commands, "predict", "tell which digit is on a picture")
    guess.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="a picture's file")
    guess.add_argument(
        "--checkpoint",
        type=Path,
        default=TrainConfig().checkpoint_dir / BEST_NAME,
        help="the trained network (default %(default)s)",
    )
    guess.add_argument("--save", type=Path, metavar="FILE.png", help="write what the network saw")
    guess.add_argument("--json", action="store_true", help="print JSON, for machines")

    _command(commands, "describe", "show the network layer by layer")
    for command in (download, train, test):
        command.add_argument(
            "--no-sample", action="store_true", help="fail where no mirror has the real MNIST"
        )
    return parser


def _command(commands, name, text):  # noqa: ANN001, ANN202  argparse hides its types
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(command=name)
    return command


def _add_fields(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add fields of `TrainConfig` as options, with their types and texts.

    An option that is not given leaves no trace, so that a recipe can decide it.
    """
    types = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if field.name not in names:
            continue
        kind = types[field.name]
        if isinstance(kind, UnionType):  # "int | None" is read as int
            kind = get_args(kind)[0]
        words = {int: "N", float: "X", Path: "FOLDER", str: "NAME"}
        how = {"action": argparse.BooleanOptionalAction}
        if kind is not bool:
            how = {"type": kind, "metavar": words[kind]}
        default = "" if field.default is None else f" (default {field.default})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=field.metadata["help"] + default,
            **how,
        )


def config_of(options: argparse.Namespace) -> TrainConfig:
    """Return the recipe with what the command line says in its place."""
    given = {name: getattr(options, name) for name in TRAIN_FIELDS if hasattr(options, name)}
    return TrainConfig.recipe(getattr(options, "recipe", "baseline"), **given)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse, before an hour of training, an output file that could not be written after it.

    Raises
    ------
    ConfigError
        `--history` or `--plot` of `train` names no file that can be written.
    """
    wanted = ("--history", options.history, (".csv", ".json")), ("--plot", options.plot, (".png",))
    for option, path, endings in wanted:
        if path is None:
            continue
        if path.suffix not in endings:
            raise ConfigError(f"{option} writes {' or '.join(endings)}, got {str(path)!r}")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ConfigError(f"{path} cannot be written; name a file in a folder that can")


def check_save(options: argparse.Namespace) -> None:
    """Refuse a `--save` of `predict` that is no single picture, or the one to be read.

    Raises
    ------
    ConfigError
        Says which of both.
    """
    if options.save is None:
        return
    if len(options.images) > 1 or options.save.suffix != ".png":
        raise ConfigError("--save writes one picture to a .png file; name one image")
    source = options.images[0]
    if options.save.exists() and source.exists() and options.save.samefile(source):
        raise ConfigError(f"--save would overwrite {source}; name another file")


def command_to_go_on(options: argparse.Namespace, processes: int) -> str:
    """Return the command that resumes this run: every option that was given.

    Parameters
    ----------
    options
        Those of `train`.
    processes
        How many processes torchrun was told to start; 1 without it.
    """
    words = ["mnist-helpers", "train"]
    if processes > 1:
        words = ["torchrun", "--nproc-per-node", str(processes), "-m", "mnist_helpers", "train"]
    for name in ("recipe", *TRAIN_FIELDS, "history", "plot"):
        value = getattr(options, name, None)
        if value is None or (name, value) == ("recipe", "baseline"):
            continue
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        else:
            words += [option, str(value)]
    return shlex.join([*words, *["--no-sample"] * options.no_sample, "--resume"])
