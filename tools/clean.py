"""Remove what the make targets made: never data, never checkpoints."""

import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
KEPT_IN_BUILD = {"data", "seeds"}  # what `make run` downloaded; unfinished long runs


def main():
    build = PROJECT / "build"
    made = [PROJECT / ".venv", PROJECT / "mnist_helpers.egg-info", PROJECT / ".pytest_cache"]
    made += [PROJECT / ".ruff_cache", PROJECT / ".coverage"]
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
    print("Clean. Data and checkpoints are where they were.")


if __name__ == "__main__":
    main()
