"""The command `mnist-helpers`, also as `python -m mnist_helpers`: it can be stopped at once."""

import math
import os
import signal
import sys
from typing import Any, NoReturn

NEEDED_BYTES = 4 * 2**30  # with 3 GB its C++ aborts instead of raising; with 4 GB it trains


def start() -> NoReturn:
    """Run the command line; Ctrl-C and SIGTERM are heard while PyTorch is still being loaded."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as for a job in the background
            signal.signal(number, _end)
    if (limit := _address_space()) < NEEDED_BYTES:
        sys.exit(
            f"mnist-helpers: this shell limits a process to {limit / 2**30:.1f} GB of addresses, "
            f"and PyTorch needs {NEEDED_BYTES / 2**30:.0f}; raise it with ulimit -v"
        )
    try:
        from mnist_helpers.cli import run
    except (ImportError, MemoryError) as error:
        sys.exit(
            f"mnist-helpers: cannot start ({error}); install what is missing, or free some memory"
        )
    run()


def _address_space() -> float:
    try:
        import resource
    except ImportError:  # on Windows nothing limits it
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _end(*_: Any) -> NoReturn:
    """Leave at once, whatever library is being loaded: nothing has begun that could be lost."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0":
        os.write(2, b"mnist-helpers: stopped\n")
    os._exit(130)


if __name__ == "__main__":
    start()
