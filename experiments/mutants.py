"""Change the package in one place at a time, and see whether the tests notice.

Usage: python experiments/mutants.py [--count 60] [--seed 1] [--jobs 2]

Samples places in the modules of `TESTS`, changes each (a comparison, an operator, a
number, a condition, a call left out), and runs the tests of that module on a copy.
A mutant that no test notices is a hole in the tests, or a change that makes no difference.
Nothing in the checkout is touched.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TIMEOUT = 240  # seconds for the tests of a mutant, which may run forever
PROJECT = Path(__file__).resolve().parent.parent
RUNS = ["test_checkpoint.py", "test_training.py", "test_optimizer.py", "test_faults.py"]
TESTS = {
    "model": ["test_model.py", "test_summary.py"],
    "summary": ["test_summary.py"],
    "history": ["test_history.py", "test_training.py"],
    "data/digits": ["test_digits.py", "test_loaders.py", "test_training.py"],
    "data/loaders": [
        "test_loaders.py",
        "test_training.py",
        "test_faults.py",
        "test_distributed.py",
    ],
    "machine/hardware": ["test_hardware.py", *RUNS],
    "training/checkpoint": RUNS,
    "training/folder": RUNS,
    "training/optimizer": RUNS,
    "training/step": [*RUNS, "test_distributed.py"],
    "training/fit": [*RUNS, "test_distributed.py"],
}
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div,
    ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip


def mutated(node: ast.AST) -> Any:
    """Return a changed copy of a node, or None for a kind that is left alone."""
    new: Any = copy.deepcopy(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        new.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        new = new.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        new.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        new.value = node.value + 1
    elif isinstance(node, ast.If):
        new.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        new = ast.Pass()
    else:
        return None
    return new


class Places(ast.NodeVisitor):
    """Collect the nodes that can be changed, in order, outside annotations."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def generic_visit(self, node: ast.AST) -> None:
        if mutated(node) is not None:
            self.found.append(node)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)


class Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST) -> None:
        self.target = target

    def visit(self, node: ast.AST) -> Any:
        return mutated(node) if node is self.target else super().generic_visit(node)


def source_of(module: str) -> str:
    return (PROJECT / "mnist_helpers" / f"{module}.py").read_text("utf-8")


def mutants_of(module: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, what was changed, new source) for every place of a module."""
    source = source_of(module)
    count = len(places(ast.parse(source)))
    for number in range(count):
        tree = ast.parse(source)
        target = places(tree)[number]
        before = ast.unparse(target).splitlines()[0]
        after = ast.unparse(ast.fix_missing_locations(mutated(target))).splitlines()[0]
        line = target.lineno
        new = ast.unparse(ast.fix_missing_locations(Replace(target).visit(tree)))
        yield line, f"{before}  ->  {after}", new


def places(tree: ast.AST) -> list[Any]:
    visitor = Places()
    visitor.visit(tree)
    return visitor.found


def survives(module: str, source: str) -> bool:
    """Run the module's quick tests on a copy of the project with that source; tell if they pass."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        for part in ("mnist_helpers", "tests", "docs", "tools"):
            shutil.copytree(PROJECT / part, target / part, dirs_exist_ok=True)
        shutil.copy(PROJECT / "pyproject.toml", target)
        (target / "mnist_helpers" / f"{module}.py").write_text(source, "utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        command += ["-m", "not slow", *(f"tests/{name}" for name in TESTS[module])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": folder}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, timeout=TIMEOUT
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", metavar="MODULE.py:LINE", help="of those sampled")
    options = parser.parse_args()
    everything = [(module, *mutant) for module in TESTS for mutant in mutants_of(module)]
    chosen = random.Random(options.seed).sample(everything, options.count)
    if options.only:
        chosen = [m for m in chosen if f"{m[0]}.py:{m[1]}" in options.only]
    caught, modules = 0, sorted({module for module, *_ in chosen})
    with ThreadPoolExecutor(options.jobs) as pool:
        passes = pool.map(lambda module: survives(module, source_of(module)), modules)
        if failing := [m for m, passed in zip(modules, passes, strict=True) if not passed]:
            raise SystemExit(
                f"tests of {', '.join(failing)} fail, or take over {TIMEOUT} s, without any change"
            )
        alive = pool.map(lambda mutant: survives(mutant[0], mutant[3]), chosen)
        for (module, line, change, _), lives in zip(chosen, alive, strict=True):
            caught += not lives
            print(f"{'SURVIVED' if lives else 'caught':8} {module}.py:{line}  {change}", flush=True)
    print(f"{caught} of {len(chosen)} mutants caught (of {len(everything)} places)")


if __name__ == "__main__":
    main()
