import contextlib
import errno
import io
import re
import threading
from types import SimpleNamespace

import pytest

from mnist_helpers.machine import progress
from mnist_helpers.machine.progress import close_bar, in_words, open_bar


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
    return Terminal()


def of_width(bar, columns):
    bar.dynamic_ncols = lambda _: (columns, 24)
    return bar


def test_a_finished_bar_is_one_full_line_under_80_columns(terminal):
    with contextlib.redirect_stdout(terminal):
        bar = of_width(open_bar("Epoch  1/20", 3), 80)
        for _ in range(3):
            bar.update(1)
            bar.set_postfix_str("loss 2.3026 train 10.00%", refresh=False)
        close_bar(bar, "loss 0.1234 train 95.00% test 98.00% best")
    text = terminal.getvalue()
    assert text.endswith("\n") and text.count("\n") == 1
    last = text.rstrip("\n").split("\r")[-1].rstrip()
    expected = (
        r"Epoch  1/20 \|█████\| 100% \d\d:\d\d<00:00, "
        r"loss 0\.1234 train 95\.00% test 98\.00% best"
    )
    assert re.fullmatch(expected, last)
    assert len(last) < 80
    drawn = [re.search(r"(\d+)%", part).group(1) for part in text.split("\r") if "%" in part]
    assert drawn[0] == "0" and "33" in drawn and "67" in drawn


def test_where_nobody_watches_a_bar_is_one_line(capsys):
    bar = open_bar("Epoch  1/2", 2)
    bar.update(1)
    assert capsys.readouterr().out == ""
    bar.update(1)
    close_bar(bar, "done")
    out = capsys.readouterr().out
    assert re.fullmatch(r"Epoch  1/2 \|.{5}\| 100% \d\d:\d\d<00:00, done\n", out)


def test_a_terminal_without_unicode_gets_plain_signs(terminal):
    terminal.encoding = "ascii"
    with contextlib.redirect_stdout(terminal):
        bar = open_bar("Epoch", 1)
        bar.update(1)
        close_bar(bar)
    assert terminal.getvalue().isascii() and "#####" in terminal.getvalue()


def drawn(text):
    return [part.rstrip() for part in text.replace("\n", "\r").split("\r") if part.strip()]


def test_the_first_of_several_bars_tells_how_long_all_take(terminal):
    with contextlib.redirect_stdout(terminal):
        bar = open_bar("Epoch  1/20", 4, repeats=20)
        bar.start_t -= 30  # half a minute ago
        bar.update(1)
        close_bar(bar, "done")
        alone = open_bar("Epoch  2/20", 4)
        alone.update(1)
        close_bar(alone, "done")
    first, second, last, *others = drawn(terminal.getvalue())
    assert "min" not in first  # no step was taken yet
    assert second.endswith(" 40 min")  # 30 s for a quarter of the first of 20
    assert last.endswith(", done")  # what stays on the screen was measured, not guessed
    assert others and not any("min" in line for line in others)


@pytest.mark.parametrize("columns", [80, 60, 40])
@pytest.mark.parametrize("minutes", [0.1, 4, 20])  # an epoch of the slowest: 6 h 40 min in all
def test_a_bar_that_tells_how_long_all_take_fits_its_line(terminal, minutes, columns):
    with contextlib.redirect_stdout(terminal):
        bar = of_width(open_bar("Epoch  1/20", 100, repeats=20), columns)
        for step in range(100):
            bar.start_t -= 60 * minutes / 100
            bar.update(1)
            bar.set_postfix_str("loss 2.3026 train 10.00%", refresh=step % 10 == 0)
        for which in ("validating", "testing"):
            list(progress.with_progress("abcd", 4, bar, f"loss 2.3026 train 10.00% {which}"))
        close_bar(bar, "loss 0.1234 train 95.00% test 98.00% best")
    lines = drawn(terminal.getvalue())
    assert any(re.search(r" \d+ (s|min)$", line) for line in lines)
    assert [line for line in lines[1:] if len(line) > columns] == []  # the first: before of_width


LIVE, TESTING = "loss 2.3026 train 10.00%", "loss 0.1234 train 95.00% testing 50%"
DONE, PERFECT = (f"loss 0.1234 train {a} test {a} best" for a in ("95.00%", "100.00%"))
LINES = [
    (80, 45, 20, LIVE, "Epoch  1/20 |██▎  |  45% 00:12<00:14, loss 2.3026 train 10.00%, all 9 min"),
    (60, 45, 20, LIVE, "Epoch  1/20  45% 00:12, loss 2.3026 train 10.00%, all 9 min"),
    (40, 45, 20, LIVE, "Epoch  1/20  45% 00:12<00:14, all 9 min"),
    (60, 45, 1, LIVE, "Epoch  1/20 |█▎ |  45% 00:12<00:14, loss 2.3026 train 10.00%"),
    (40, 45, 1, LIVE, "Epoch  1/20  45% 00:12, train 10.00%"),
    (60, 100, 1, TESTING, "Epoch  1/20 00:12, loss 0.1234 train 95.00% testing 50%"),
    (40, 100, 1, TESTING, "Epoch  1/20, train 95.00% testing 50%"),
    (100, 100, 1, PERFECT, "Epoch  1/20 |█████| 100% 00:12<00:00, " + PERFECT),
    (80, 100, 1, DONE, "Epoch  1/20 |█████| 100% 00:12<00:00, " + DONE),
    (80, 100, 1, PERFECT, "Epoch  1/20 |█████| 100% 00:12, " + PERFECT),
    (60, 100, 1, DONE, "Epoch  1/20 00:12, " + DONE),
    (60, 100, 1, DONE[:-5], "Epoch  1/20 00:12, " + DONE[:-5]),  # as above, not a word longer
    (60, 100, 1, PERFECT, "Epoch  1/20, " + PERFECT),
    (40, 100, 1, DONE, "Epoch  1/20 00:12, test 95.00% best"),
    (60, 45, 1, "stopped", "Epoch  1/20 |██▎  |  45% 00:12<00:14, stopped"),
]


@pytest.mark.parametrize(("columns", "done", "repeats", "text", "line"), LINES)
def test_the_bar_shrinks_then_goes_before_a_number_is_cut(
    terminal, columns, done, repeats, text, line
):
    with contextlib.redirect_stdout(terminal):
        bar = of_width(open_bar("Epoch  1/20", 100, repeats=repeats), columns)
    bar.n, bar.postfix, bar.start_t, bar._time = done, text, 0, lambda: 12
    assert str(bar) == line and len(line) <= columns


def test_where_no_width_is_known_a_line_has_60_columns(monkeypatch):
    cell = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setenv("COLUMNS", "200")  # of the terminal that JupyterLab was started from
    with contextlib.redirect_stdout(cell):
        bar = open_bar("Epoch  1/20", 1)
        bar.update(1)
        close_bar(bar, DONE)
    assert drawn(cell.getvalue())[-1] == "Epoch  1/20 00:00, " + DONE


def test_a_bar_moves_on_by_a_step_after_each_batch(terminal):
    with contextlib.redirect_stdout(terminal):
        bar = open_bar("Testing", 2)
        assert [(batch, bar.n) for batch in progress.advancing("ab", bar)] == [("a", 0), ("b", 1)]
        close_bar(bar)
    assert drawn(terminal.getvalue())[-1] == "Testing |█████| 100% 00:00<00:00"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.1 s"), (1.44, "1.4 s"), (9.96, "10 s"), (89.4, "89 s"), (90, "2 min"),
     (3600, "60 min"), (5400, "1 h 30 min")],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds, words):
    assert in_words(seconds) == words


def test_batches_are_given_on_and_what_is_done_stands_behind_the_bar(terminal):
    bar, seen = progress.open_bar("Epoch", 3), []
    for batch in progress.with_progress("abcd", 4, bar, "testing"):
        seen.append((batch, bar.postfix))
    assert seen == [("a", "testing 0%"), ("b", "testing 25%"),
                    ("c", "testing 50%"), ("d", "testing 75%")]  # fmt: skip
    progress.close_bar(bar)


class WriteOnly:
    def write(self, text):
        return len(text)


class Writer(WriteOnly):
    def flush(self):
        pass


class Broken(Writer):
    encoding = "utf-8"

    def isatty(self):
        raise ValueError("I/O operation on closed file")

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


class Gone(Terminal):
    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


NO_STDOUT = {
    "none": lambda: None, "write only": WriteOnly, "write and flush": Writer, "closed": closed,
    "full disk": Broken, "terminal gone": Gone,
}  # fmt: skip


@pytest.mark.parametrize("stdout", NO_STDOUT)
def test_a_stdout_that_takes_no_text_ends_no_training(monkeypatch, stdout):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
    monkeypatch.setattr("sys.stdout", NO_STDOUT[stdout]())
    progress.announce("Epoch")
    bar = open_bar("Epoch", 2)
    bar.update(1)
    assert list(progress.with_progress("ab", 2, bar, "testing")) == ["a", "b"]
    close_bar(bar, "done")


def test_text_beyond_a_streams_letters_is_escaped_and_a_pipe_without_a_reader_ends_it(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    progress.announce("in ä/c.pth")
    assert stream.buffer.getvalue().split() == [b"in", rb"\xe4/c.pth"]

    def unread(text):
        raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=unread, flush=lambda: None))
    with pytest.raises(BrokenPipeError):
        progress.announce("Epoch")


def test_a_bar_starts_no_thread(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    close_bar(open_bar("Epoch", 1))  # tqdm's would warn, and a warning is an error here
