"""Run the command line with `python -m mnist_helpers`."""

import traceback
from typing import NoReturn

from mnist_helpers import workers
from mnist_helpers.cli import FAILED, main


def run() -> NoReturn:
    """Run the command that the process was started with, and end the process."""
    try:
        code = main()
    except SystemExit as ended:  # argparse's, or ours: its code is a number
        code = ended.code
    except BaseException:
        if workers.launched() == 1:
            raise
        traceback.print_exc()
        code = FAILED
    workers.leave(code)


if __name__ == "__main__":
    run()
