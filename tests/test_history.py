import copy
import dataclasses
import json
import math

import pytest

from mnist_helpers.config import DataSource
from mnist_helpers.errors import DataError, InputError
from mnist_helpers.history import FIELDS, EpochRecord, History

MEASURED = (  # without a validation set
    "epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    "train_seconds", "test_seconds",
)  # fmt: skip


def record(epoch, test_accuracy=0.9):
    return EpochRecord(epoch, 0.01, 0.5 / epoch, 0.8, 0.1 / 3, test_accuracy, 12.5, 1.25)


@pytest.fixture
def history():
    return History([record(1, 0.9), record(2, 0.95), record(3, 0.95)])


def test_a_record_has_the_fields_that_are_promised():
    assert (*MEASURED, "validation_loss", "validation_accuracy") == FIELDS


@pytest.mark.parametrize("name", ["h.csv", "deeper/h.json"])
def test_what_is_written_is_read_to_the_last_bit(history, tmp_path, name):
    path = history.save(tmp_path / name)
    again = History.load(path)
    assert again == history
    assert isinstance(again[0].epoch, int)


def test_json_is_a_list_of_records_and_csv_has_a_heading(history, tmp_path):
    rows = json.loads(history.save(tmp_path / "h.json").read_text())
    assert rows[1] == {**rows[1], "epoch": 2, "test_accuracy": 0.95}
    lines = history.save(tmp_path / "h.csv").read_text().splitlines()
    assert lines[0] == ",".join(MEASURED) and len(lines) == 4


def test_half_a_validation_is_refused():
    row = record(1).to_dict()
    for odd in ({"validation_loss": 0.1}, {"validation_accuracy": 0.9}):
        with pytest.raises(DataError, match="row 1 of a history must hold"):
            History.from_records([row | odd])
    whole = row | {"validation_loss": 0.1, "validation_accuracy": 0.9}
    for mixed in ([row, whole], [whole, row]):
        with pytest.raises(DataError, match="row 2 of a history must hold"):
            History.from_records(mixed)
    assert History.from_records([row | {"validation_loss": 0.1, "validation_accuracy": 0.9}])


def test_the_best_is_the_first_of_the_highest(history):
    assert history.best.epoch == 2
    assert History().best is None


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_never_the_best(odd):
    assert History([record(1, odd), record(2, 0.5), record(3, odd)]).best.epoch == 2
    assert History([record(1, odd)]).best is None


def test_a_part_of_a_history_is_one_that_knows_its_source(history):
    history.source, history.interrupted = DataSource.SAMPLE, True
    for part in (history[:2], history[1:], copy.copy(history)):
        assert type(part) is History and part.best.epoch == 2
        assert part.source == DataSource.SAMPLE and part.interrupted
    assert history[:2].column("epoch") == [1, 2] and history[-1] == history[2] == record(3, 0.95)


def test_it_is_a_sequence(history):
    assert len(history) == 3 and history[-1].epoch == 3
    assert [r.epoch for r in history] == history.column("epoch") == [1, 2, 3]
    history.append(record(4))
    assert len(history) == 4
    assert history != History() and history != "history"


def test_an_unknown_column_is_named(history):
    with pytest.raises(InputError, match="no field 'accuracy'; it has epoch, lr"):
        history.column("accuracy")


def test_another_ending_is_refused(history, tmp_path):
    with pytest.raises(InputError, match=r"\.csv or a \.json file, got .*h\.txt"):
        history.save(tmp_path / "h.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.csv", "epoch,lr\n1,0.01\n"),
        ("h.csv", ",".join(MEASURED) + "\n1,x,1,1,1,1,1,1\n"),
        ("h.csv", ",".join(MEASURED) + "\n1,1,1\n"),
        ("h.csv", "1,0.01,1,1,1,1,1,1\n"),
        ("h.csv", ""),
        ("h.csv", " \n\n"),
        ("h.json", ""),
        ("h.json", "{}"),
        ("h.json", '"history"'),
        ("h.json", '{"epoch": 1}'),
        ("h.json", "[1, 2]"),
        ("h.json", "[{"),
        ("h.json", "3"),
    ],
)
def test_what_is_no_history_is_named(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{name} cannot be read as a history"):
        History.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.csv", "", r"it is empty; its first line must name epoch,lr,"),
        (
            "h.csv",
            "1,0.01,1,1,1,1,1,1\n",
            r"it starts with '1,0\.01,.*; its first line must name epoch",
        ),
        ("h.json", "{}", r"a history is a list of records, one per epoch, got {}"),
    ],
)
def test_the_message_says_what_was_found_instead(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        History.load(tmp_path / name)


def excel(text, local):
    """Return a CSV as Excel saves it, in a language that writes 0,01 for 0.01 or in English."""
    if local:
        text = text.replace(",", ";").replace(".", ",")
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("local", [False, True])
def test_what_excel_saves_is_read(history, tmp_path, local):
    path = history.save(tmp_path / "h.CSV")
    path.write_bytes(excel(path.read_text(), local))
    assert History.load(path) == history


def test_a_history_of_no_epochs_comes_back(tmp_path):
    for name in ("h.csv", "h.json"):
        assert History.load(History().save(tmp_path / name)) == History()


def test_a_file_that_cannot_be_read_or_written_is_named(history, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv cannot be read: Is a directory"):
        History.load(tmp_path / "folder.csv")
    with pytest.raises(DataError, match=r"folder\.csv cannot be written: Is a directory"):
        history.save(tmp_path / "folder.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"h\.json cannot be written"):
        history.save(tmp_path / "file" / "h.json")


def test_a_path_may_be_given_as_people_write_it(history, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert history.save("~/h.csv") == tmp_path / "h.csv"
    assert History.load('"~/h.csv"') == history


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv cannot be read"):
        History.load(tmp_path / "gone.csv")


def test_the_table_shows_percentages_and_lines_up(history):
    lines = str(history).splitlines()
    assert lines[0].split() == ["train", "train", "test", "test", "time"]
    assert lines[1].split() == ["epoch", "loss", "accuracy", "loss", "accuracy", "in", "s"]
    assert lines[3].split() == ["2", "0.2500", "80.00%", "0.0333", "95.00%", "13.8"]
    assert len({len(line) for line in lines}) == 1


def test_the_table_has_under_60_columns_with_validation_too(history):
    held_back = [dataclasses.replace(r, validation_loss=0.1, validation_accuracy=1.0)
                 for r in history]  # fmt: skip
    lines = str(History(held_back)).splitlines()
    assert lines[0].split() == ["train", "train", "val", "val", "test", "test", "time"]
    assert lines[2].split()[3:5] == ["0.1000", "100.00%"]
    assert max(map(len, lines)) < 60


def test_the_table_says_when_it_is_the_sample(history):
    history.source = DataSource.SAMPLE
    assert str(history).startswith("Accuracy on the sample of 5,000 MNIST digits")
