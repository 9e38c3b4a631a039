"""The command line's options: their names and help, and messages for wrong ones."""

import argparse
import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, get_args, get_type_hints

from mnist_helpers.config import RECIPES, TrainConfig, as_path
from mnist_helpers.errors import ConfigError
from mnist_helpers.machine import distributed
from mnist_helpers.training.folder import BEST_NAME

TRAIN_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))
EVALUATE_FIELDS = ("data_root", "device", "seed", "test_limit")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors one process reports, if torchrun has started several."""

    def error(self, message: str) -> NoReturn:
        distributed.let_rank_zero_speak()
        super().error(message)


def path(words: str) -> Path:
    """Read a path; argparse puts this function's name into its message about an invalid one."""
    return as_path(words)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the options of `train` are the fields of `TrainConfig`."""
    parser = _Parser("mnist-helpers", description="A first CNN on MNIST.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    download = _command(commands, "download", "get and check the four files of MNIST")
    _add_fields(download, ("data_root",))
    train = _command(commands, "train", "train the network: the whole recipe")
    _add_train_options(train)
    test = _command(commands, "evaluate", "measure a checkpoint on the test set")
    test.add_argument("checkpoint", type=path, metavar="CHECKPOINT", help="a .pth file")
    _add_fields(test, EVALUATE_FIELDS)
    guess = _command(commands, "predict", "say which digit is in a picture")
    guess.add_argument("images", type=path, nargs="+", metavar="IMAGE", help="a picture file")
    default, text = Path("model_checkpoints") / BEST_NAME, "the network (default %(default)s)"
    guess.add_argument("--checkpoint", type=path, default=default, help=text)
    guess.add_argument("--save", type=path, metavar="FILE.png", help="write what the network saw")
    guess.add_argument("--json", action="store_true", help="print JSON, for machines")
    _command(commands, "describe", "show the network layer by layer")
    for command in (download, train, test):
        command.add_argument(
            "--no-sample", action="store_true", help="fail if no mirror has the real MNIST"
        )
    return parser


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text.capitalize() + "."
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(command=name)
    return command


def _add_train_options(train: argparse.ArgumentParser) -> None:
    fast = ", ".join(f"{name} {value}" for name, value in RECIPES["fast"].items())
    train.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default="baseline",
        help="what the options below start from (baseline: the defaults that they show; "
        f"fast: {fast})",
    )
    _add_fields(train, TRAIN_FIELDS)
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    text = "write the epochs to FILE.csv or FILE.json"
    train.add_argument("--history", type=path, metavar="FILE", help=text)
    train.add_argument("--plot", type=path, metavar="FILE", help="draw the curves to FILE.png")


def _add_fields(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add fields of `TrainConfig` as options; one that isn't given is left to the recipe."""
    types = get_type_hints(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if field.name not in names:
            continue
        kind = types[field.name]
        if isinstance(kind, UnionType):  # "int | None" is read as int
            kind = get_args(kind)[0]
        words = {int: "N", float: "X", Path: "FOLDER", str: "NAME"}
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if kind is not bool:
            how = {"type": path if kind is Path else kind, "metavar": words[kind]}
        default = "" if field.default is None else f" (default {field.default})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=field.metadata["help"] + default,
            **how,
        )


def config_of(options: argparse.Namespace) -> TrainConfig:
    """Return the recipe, with the settings of the command line in place of its own."""
    given = {name: getattr(options, name) for name in TRAIN_FIELDS if hasattr(options, name)}
    return TrainConfig.recipe(getattr(options, "recipe", "baseline"), **given)


def check_outputs(options: argparse.Namespace) -> None:
    """Refuse, before an hour of training, an output file that couldn't be written after it."""
    wanted = ("--history", options.history, (".csv", ".json")), ("--plot", options.plot, (".png",))
    for option, file, endings in wanted:
        if file is None:
            continue
        if file.suffix.lower() not in endings:
            raise ConfigError(f"{option} writes {' or '.join(endings)}, got {str(file)!r}")
        _check_writable(file)


def _check_writable(file: Path) -> None:
    try:
        if os.path.lexists(file) and not (file.is_file() and os.access(file, os.W_OK)):
            raise OSError("it is not a file that can be written")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(file):
            file.open("xb").close()
            file.unlink()
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written ({error}); name a file in a folder you can write to"
        ) from error


def check_save(options: argparse.Namespace) -> None:
    """Raise ConfigError for a `--save` of `predict` that isn't one new picture."""
    if options.save is None:
        return
    if len(options.images) > 1 or options.save.suffix.lower() != ".png":
        raise ConfigError("--save writes one picture to a .png file; name one image")
    source = options.images[0]
    if options.save.exists() and source.exists() and options.save.samefile(source):
        raise ConfigError(f"--save would overwrite {source}; name another file")
    _check_writable(options.save)


def command_to_go_on(words: Sequence[str], processes: int) -> str:
    """Return the command that resumes a run, from what was typed after the program's name."""
    program = ["mnist-helpers"]
    if processes > 1:
        program = ["torchrun", "--nproc-per-node", str(processes), "-m", "mnist_helpers"]
    return shlex.join([*program, *words, *["--resume"] * ("--resume" not in words)])
