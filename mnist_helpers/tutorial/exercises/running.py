"""Run a reader's function: what it raises becomes words, and a loop without end is stopped."""

import copy
import ctypes
import threading
from typing import Any, NamedTuple

SECONDS = 10.0  # what a first call of PyTorch may take on a busy machine, several times over


class Attempt(NamedTuple):
    """What a call gave; or, in a sentence, why it gave nothing."""

    value: Any
    trouble: str = ""


class _TakesTooLong(BaseException):
    """Raised inside a reader's function; `except Exception` there lets it pass."""


def attempt(function: Any, *arguments: Any) -> Attempt:
    """Call a reader's function with copies of these arguments, and wait for it `SECONDS`.

    It runs in a thread of its own, which works on every system. A loop without end in Python is
    stopped; one inside another's library is left behind. Ctrl-C stops the waiting as usual.
    """
    outcome: list[Attempt] = []

    def work() -> None:
        try:
            outcome.append(Attempt(function(*copy.deepcopy(arguments))))
        except _TakesTooLong:
            pass
        except BaseException as error:  # a reader's code may raise anything, SystemExit too
            outcome.append(Attempt(None, _in_words(error)))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(SECONDS)
    finally:
        _stop(thread)
    too_long = f"Your function was stopped after {SECONDS:g} s. Does a loop in it never end?"
    return outcome[0] if outcome else Attempt(None, too_long)


def _stop(thread: threading.Thread) -> None:
    """Raise an exception in a thread that is still at work; a few times, as it may be caught."""
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    for _ in range(5):
        if not thread.is_alive():
            return
        raise_in(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TakesTooLong))
        thread.join(0.2)


def _in_words(error: BaseException) -> str:
    """Name an exception, and in which line of the cell it came."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    try:
        text = f"{kind_of(error)}: {error}".split("\n")[0].rstrip(": ")
    except Exception:  # its own words may raise
        text = kind_of(error)
    where = f" (line {lines[0]} of your cell)" if lines else ""
    return f"Your function stopped with {text}{where}."


def kind_of(value: Any) -> str:
    """Return the name of a type, which no class can override."""
    return str(type.__dict__["__name__"].__get__(type(value)))
