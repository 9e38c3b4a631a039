"""What all checkers share: a reader's function is run safely, and each exercise is tried."""

import re
import threading
from pathlib import Path

import pytest

from mnist_helpers.tutorial import exercises
from mnist_helpers.tutorial.exercises import verdicts
from mnist_helpers.tutorial.exercises.verdicts import judge, judge_function
from tests.exercising import try_function

TESTS = Path(__file__).parent


def test_every_exercise_is_tried():
    names = []
    for path in Path(exercises.__file__).parent.glob("[!_]*.py"):
        found = re.findall(r"^def (check_\w+)", path.read_text("utf-8"), re.MULTILINE)
        tests = TESTS / f"test_exercises_{path.stem}.py"
        text = tests.read_text("utf-8") if tests.is_file() else ""
        assert [name for name in found if name not in text] == []
        names += found
    assert len(names) > 10


@pytest.fixture(autouse=True)
def _nobody_has_answered():
    verdicts._wrong_answers.clear()


def double(number):
    return 2 * number


def check_double(answer):
    judge_function(
        answer, double, [(1,), (2.5,)], "Twice as much, whatever the number is.",
        {"That is a square.": lambda n: n * n, "That is a half.": lambda n: n / 2},
        nearer="Multiply by two.",
    )  # fmt: skip


def test_a_function_is_judged(capsys, monkeypatch):
    rights = [lambda n: n + n, lambda n: [2 * n][0], lambda n: round(2 * n, 2)]
    wrongs = {
        "square": lambda n: n**2, "half": lambda n: n / 2,
        "number = 1 yours gives 3, and 2 is right": lambda n: n + 2,
        "number = 2.5 yours gives 4, and 5.0 is right": lambda n: int(n) * 2,
        "yours gives [2], and 2 is right": lambda n: [2 * n],
        "yours gives 0, and 2 is right": lambda n: 0,
    }  # fmt: skip
    try_function(capsys, monkeypatch, check_double, rights, wrongs)


def test_the_second_wrong_answer_gets_a_nearer_hint(capsys):
    for nearer in ("", " Multiply by two."):
        check_double(lambda n: n / 2)
        assert capsys.readouterr().out == f"Not yet. That is a half.{nearer}\n"
    for nearer in ("", " It is even."):
        judge(3, 4, "Four is right, as two and two are.", {}, "Look again.", "It is even.")
        assert capsys.readouterr().out == f"Not yet. Look again.{nearer}\n"


def test_a_function_gets_copies_and_leaves_no_thread(capsys):
    cases = [([1, 2],), ([3],)]

    def careless(numbers):
        numbers.append(0)
        return sum(numbers)

    before = threading.active_count()
    judge_function(careless, sum, cases, "A sum is a sum.", {})
    assert capsys.readouterr().out == "Right. A sum is a sum.\n"
    assert cases == [([1, 2],), ([3],)] and threading.active_count() == before


def test_ctrl_c_stops_the_waiting(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        check_double(lambda n: n)
