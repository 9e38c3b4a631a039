"""Remove what the make targets made; keep `.venv`, data and checkpoints."""

import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
KEPT_IN_BUILD = {"seeds"}  # unfinished long runs
CACHES = (".pytest_cache", ".ruff_cache", ".mypy_cache", ".import_linter_cache", ".coverage")


def main() -> None:
    """Remove caches and `build/`, without the parts of it that took long to get."""
    build = PROJECT / "build"
    made = [PROJECT / name for name in CACHES]
    made += [p for p in build.glob("*") if p.name not in KEPT_IN_BUILD] if build.is_dir() else []
    for part in ("experiments", "mnist_helpers", "tests", "tools"):
        made += (PROJECT / part).rglob("__pycache__")
    for path in made:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if build.is_dir() and not any(build.iterdir()):
        build.rmdir()
    print("Clean. Your .venv, data and checkpoints are still there.")


if __name__ == "__main__":
    main()
