"""The command line's options: their names, help and examples, and messages for wrong ones."""

import argparse
import dataclasses
import importlib.metadata
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, NoReturn, get_args, get_type_hints

from mnist_helpers.config import RECIPES, TrainConfig, as_path
from mnist_helpers.errors import ConfigError
from mnist_helpers.machine import distributed
from mnist_helpers.training.folder import BEST_NAME

TRAIN_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))
EVALUATE_FIELDS = ("data_root", "device", "seed", "test_limit")
BEST_CHECKPOINT = Path("model_checkpoints") / BEST_NAME
EXAMPLES = {
    "mnist-helpers": ("train --epochs 3", "evaluate", "predict photo.jpg", "train --help"),
    "download": ("download", "download --data-root ~/mnist --no-sample"),
    "train": ("train", "train --epochs 5 --history h.csv --plot curves.png", "train --resume",
              "train --recipe fast", "train --validation 5000 --train-limit 20000 --epochs 3"),
    "evaluate": ("evaluate", "evaluate model_checkpoints/mnist_model_epoch_3.pth --device cpu"),
    "predict": ("predict photo.jpg", "predict page.jpg 7.png --json", "predict 3.png --save s.png"),
    "describe": ("describe",),
}  # fmt: skip


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
    found = importlib.metadata.distributions(name="mnist-helpers")
    version = next((one.version for one in found), "(not installed: run from its folder)")
    parser = _Parser("mnist-helpers", description="A first CNN on MNIST.", **_examples())
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    parser.set_defaults(command="help", debug=False)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    download = _command(commands, "download", "get and check the four files of MNIST")
    _add_fields(download, ("data_root",))
    train = _command(commands, "train", "train the network: the whole recipe")
    _add_train_options(train)
    test = _command(commands, "evaluate", "measure a checkpoint on the test set")
    text = "the network (default: your own best one, or else the published weights)"
    how: dict[str, Any] = {"type": path, "help": text}
    test.add_argument("named", nargs="?", metavar="CHECKPOINT", **how)
    test.add_argument("--checkpoint", type=path, help="the same, as predict takes it")
    _add_fields(test, EVALUATE_FIELDS)
    guess = _command(commands, "predict", "say which digits are in a picture")
    guess.add_argument("images", type=path, nargs="+", metavar="IMAGE", help="a picture file")
    guess.add_argument("--checkpoint", **how)
    guess.add_argument("--save", type=path, metavar="FILE.png", help="write what the network saw")
    guess.add_argument("--json", action="store_true", help="print JSON, for machines")
    _command(commands, "describe", "show the network layer by layer")
    for command in (download, train, test):
        command.add_argument("--no-sample", action="store_true", help="fail if no mirror has MNIST")
    return parser


def _examples(name: str = "mnist-helpers") -> dict[str, Any]:
    text = "\n  mnist-helpers ".join(["examples:", *EXAMPLES[name]])
    return {"epilog": text, "formatter_class": argparse.RawDescriptionHelpFormatter}


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text.capitalize() + ".", **_examples(name)
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
    text = "keep no earlier runs: when this one is done, delete their checkpoints in previous/"
    train.add_argument("--fresh", action="store_true", help=text)
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


def load_plots() -> ModuleType:
    """Import `plots`, which is slow, with no screen and with a cache outside the user's home."""
    kept = {name: os.environ.get(name) for name in ("MPLBACKEND", "MPLCONFIGDIR")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MPLBACKEND": "agg", "MPLCONFIGDIR": kept["MPLCONFIGDIR"] or folder}
        try:
            return importlib.import_module("mnist_helpers.plots")
        except (ImportError, OSError, ValueError) as error:
            raise ConfigError(
                f"matplotlib cannot be loaded ({error}); train without --plot"
            ) from error
        finally:
            for name, value in kept.items():
                os.environ.pop(name)
                os.environ |= {} if value is None else {name: value}


def check_save(options: argparse.Namespace) -> None:
    """Raise ConfigError for a `--save` of `predict` that isn't one new picture."""
    if options.save is None:
        return
    if len(options.images) > 1 or options.save.suffix.lower() != ".png":
        raise ConfigError("--save writes one picture: name one image, and a file that ends in .png")
    source = options.images[0]
    if options.save.exists() and source.exists() and options.save.samefile(source):
        raise ConfigError(f"--save would overwrite {source}; name another file")
    _check_writable(options.save)


def program() -> str:
    """Return how this command is typed here: by its name, or by its path if that is needed."""
    typed = sys.argv[0]
    is_path = os.sep in typed and Path(typed).stem == "mnist-helpers"
    return typed if is_path and shutil.which("mnist-helpers") != typed else "mnist-helpers"


def command_to_go_on(words: Sequence[str], processes: int) -> str:
    """Return the command that resumes a run, from what was typed after the program's name."""
    start = [program()]
    if processes > 1:
        start = ["torchrun", "--nproc-per-node", str(processes), "-m", "mnist_helpers"]
    return shlex.join([*start, *words, *["--resume"] * ("--resume" not in words)])
