"""Run the command line with `python -m mnist_helpers`."""

from typing import NoReturn

from mnist_helpers import workers
from mnist_helpers.cli import main


def run() -> NoReturn:
    """Run the command that the process was started with, and end the process."""
    workers.leave(main())


if __name__ == "__main__":
    run()
