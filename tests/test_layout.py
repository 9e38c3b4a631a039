"""The house keeps its shape: how many rooms and floors, how long anything is, and who prints."""

import ast
import functools
import re
from pathlib import Path

import mnist_helpers

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "mnist_helpers"
EXERCISES = PACKAGE / "tutorial" / "exercises"
MOST_MODULES = 28  # 24 before own handwriting was read: files, ink, other weights, the canvas
MOST_FLOORS = 9
# Of all files together; 3,500 before every fault that was found was mended, 4,475 before the
# command line fitted its lines to the screen, gave examples, and cleared away earlier runs, 4,530
# before it read handwriting: ink in photographs (250) and the canvas (170).
MOST_LINES = 5020
MOST_LINES_OF_A_FILE = 250
MOST_LINES_OF_A_FUNCTION = 40
MOST_LINES_OF_AN_INIT = 80


def files():
    """Return all files of the package but the checkers of the exercises."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if EXERCISES not in path.parents]


def module(path):
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def lines_of(path):
    return path.read_text("utf-8").count("\n")


@functools.cache
def tree(path):
    return ast.parse(path.read_text("utf-8"))


ROOMS = {module(path): path for path in files() if path.stem != "__init__"}


def imports(path):
    """Return the rooms that one imports, at its head or inside a function."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports from where it stands; name the package"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names | {node.module or ""}
    return found & set(ROOMS)


@functools.cache
def floor(name):
    """Return on which floor a room is: one above the highest that it imports."""
    return 1 + max(map(floor, imports(ROOMS[name])), default=0)


def test_there_are_no_more_rooms_than_planned():
    assert len(ROOMS) <= MOST_MODULES, sorted(ROOMS)
    for path in files():
        assert path.stem != "__init__" or lines_of(path) <= MOST_LINES_OF_AN_INIT, path


def test_there_are_no_more_floors_than_planned():
    assert floor("mnist_helpers.errors") == 1
    assert floor("mnist_helpers.data.download") > floor("mnist_helpers.data.mirrors")  # lazily
    floors = {name: floor(name) for name in ROOMS}
    assert max(floors.values()) <= MOST_FLOORS, floors


def test_together_it_is_short():
    assert sum(map(lines_of, files())) <= MOST_LINES, {module(p): lines_of(p) for p in files()}


def test_no_file_is_long():
    long = {module(p): lines_of(p) for p in files() if lines_of(p) > MOST_LINES_OF_A_FILE}
    assert long == {}


def test_no_function_is_long():
    long = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > MOST_LINES_OF_A_FUNCTION:
                    long[f"{module(path)}.{node.name}"] = length
    assert long == {}


def test_each_module_says_in_its_first_line_what_it_is_for():
    for path in PACKAGE.rglob("*.py"):
        text = ast.get_docstring(tree(path))
        assert text, f"{path} says nothing"
        first = text.splitlines()[0]
        assert path.read_text("utf-8").startswith(f'"""{first}'), path
        assert len(first) < 100 and first.endswith("."), f"{path}: the first line is no sentence"


def test_only_the_bars_and_the_command_line_print():
    allowed = {"mnist_helpers.machine.progress", "mnist_helpers.cli"}
    for path in PACKAGE.rglob("*.py"):
        prints = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Name) and n.id == "print"]
        assert not prints or module(path) in allowed, path


def test_exercises_only_judge():
    assert len(list(EXERCISES.glob("*.py"))) > 5
    for path in EXERCISES.glob("*.py"):
        text = path.read_text("utf-8")
        imported = set(re.findall(r"(?:from|import) (mnist_helpers[\w.]*)", text))
        own = {name for name in imported if name.startswith("mnist_helpers.tutorial.exercises")}
        assert imported - own <= {"mnist_helpers.machine.progress"}, path
        assert "print(" not in text


def test_nothing_loads_a_file_that_could_execute_code():
    for path in [*PACKAGE.rglob("*.py"), *(PROJECT / "tools").glob("*.py")]:
        text = path.read_text("utf-8")
        assert not re.search(r"weights_only\s*=\s*False|pickle\.loads?\(", text), path
        assert text.count("torch.load(") == text.count("weights_only=True)"), path


def test_every_public_name_is_listed_and_can_be_had():
    assert dir(mnist_helpers) == sorted(mnist_helpers.__all__)
    assert {"plot_history", "predict", "fit", "make_loader"} <= set(dir(mnist_helpers))
    for name in dir(mnist_helpers):
        assert getattr(mnist_helpers, name) is not None, name
    everything = {}
    exec("from mnist_helpers import *", everything)
    assert set(mnist_helpers.__all__) <= set(everything)
