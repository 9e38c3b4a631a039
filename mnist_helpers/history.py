"""What training measured: one record per epoch, kept as CSV or JSON."""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, overload

from mnist_helpers.config import DataSource, as_path
from mnist_helpers.errors import DataError, InputError


def training_text(loss: float, accuracy: float) -> str:
    """Say how training is going, as a bar shows it."""
    return f"loss {loss:.4f} train {accuracy:.2%}"


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Losses and accuracies are means over samples, accuracies fractions."""

    epoch: int  # counted from 1
    lr: float  # learning rate at the end of the epoch
    train_loss: float  # over the epoch, while the weights were changing
    train_accuracy: float
    test_loss: float  # over the test set, after the epoch
    test_accuracy: float
    train_seconds: float  # by the clock on the wall
    test_seconds: float  # measuring on validation images counts as testing
    validation_loss: float | None = None  # over the training images held back, if there are any
    validation_accuracy: float | None = None

    @property
    def score(self) -> float:
        """The accuracy that chooses the best epoch, on validation digits if there are any."""
        return self.test_accuracy if self.validation_accuracy is None else self.validation_accuracy

    def outcome(self) -> str:
        """Say what the epoch reached, as its bar says it at the end."""
        test = f"test {self.test_accuracy:.2%}"
        if self.validation_accuracy is None:
            return f"{training_text(self.train_loss, self.train_accuracy)} {test}"
        return f"train {self.train_accuracy:.2%} val {self.validation_accuracy:.2%} {test}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that were measured."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


FIELDS = tuple(f.name for f in dataclasses.fields(EpochRecord))
REQUIRED = FIELDS[:-2]


class History(list[EpochRecord]):
    """The epochs of one run, in order: a list of `EpochRecord`, and so is any slice of it.

    `source` says which digits were tested (a file doesn't keep it), `interrupted`
    whether somebody stopped the run before its last epoch.
    """

    def __init__(
        self, records: Iterable[EpochRecord] = (), source: DataSource = DataSource.MNIST
    ) -> None:
        super().__init__(records)
        self.source = source
        self.interrupted = False

    @overload
    def __getitem__(self, place: SupportsIndex) -> EpochRecord: ...
    @overload
    def __getitem__(self, place: slice) -> "History": ...
    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice):
            return super().__getitem__(place)
        part = History(super().__getitem__(place), self.source)
        part.interrupted = self.interrupted
        return part

    def column(self, name: str) -> list[float]:
        """Return one field of every epoch, such as `"test_accuracy"`."""
        if name not in FIELDS:
            raise InputError(f"a history has no field {name!r}; it has {', '.join(FIELDS)}")
        return [getattr(record, name) for record in self]

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch with the highest score; None if no epoch has a number for one."""
        scored = (record for record in self if math.isfinite(record.score))
        return max(scored, key=lambda r: r.score, default=None)

    @property
    def chosen_by(self) -> str:
        """Which digits choose the best epoch, "validation" or "test"."""
        return "test" if all(r.validation_accuracy is None for r in self) else "validation"

    def to_records(self) -> list[dict[str, Any]]:
        """Return the epochs as a list of dictionaries."""
        return [record.to_dict() for record in self]

    @classmethod
    def from_records(
        cls, rows: Iterable[Mapping[str, Any]], source: DataSource = DataSource.MNIST
    ) -> "History":
        """Build a history from what `to_records` returned or a file holds, or raise DataError."""
        records, kinds = [], [set(FIELDS), set(REQUIRED)]
        if isinstance(rows, Mapping | str) or not isinstance(rows, Iterable):
            raise DataError(f"a history is a list of records, one per epoch, got {rows!r:.40}")
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, Mapping) or set(row) not in kinds:
                raise DataError(f"row {number} of a history must hold {', '.join(REQUIRED)}")
            try:
                values = {name: float(value) for name, value in row.items()}
                if not values["epoch"].is_integer():
                    raise ValueError(f"epoch {row['epoch']}")
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(f"row {number} of a history has a bad number: {error}") from error
            kinds = [set(row)]  # validation in every row, or in none
            epoch = int(values.pop("epoch"))
            records.append(EpochRecord(epoch=epoch, **values))
        return cls(records, source)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a `.csv` or a `.json` file (a list of records); return its path.

        Raises DataError if it can't be written.
        """
        path, rows = _with_known_ending(path), self.to_records()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() == ".json":
                path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
                return path
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0] if rows else REQUIRED, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from error
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str], source: DataSource = DataSource.MNIST) -> "History":
        """Read what `save` wrote, also if a spreadsheet has saved it again as CSV.

        Raises DataError if the file can't be read or holds no history.
        """
        path = _with_known_ending(path)
        try:
            text = path.read_text(encoding="utf-8-sig")  # Excel puts a mark in front
            is_json = path.suffix.lower() == ".json"
            return cls.from_records(json.loads(text) if is_json else _csv_rows(text), source)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError, csv.Error, DataError) as error:
            raise DataError(f"{path} cannot be read as a history: {error}") from error

    def __str__(self) -> str:
        held = ["val"] if self.chosen_by == "validation" else []
        parts = ["train", *held, "test"]  # in two rows of heading: so it has under 60 columns
        rows = [["", *(part for part in parts for _ in range(2)), "time"]]
        rows.append(["epoch", *["loss", "accuracy"] * len(parts), "in s"])
        for record in self:
            row = [str(record.epoch)]
            for part in ("train", *["validation"] * len(held), "test"):
                loss, accuracy = (getattr(record, f"{part}_{what}") for what in rows[1][1:3])
                row += ["", ""] if loss is None else [f"{loss:.4f}", f"{accuracy:.2%}"]
            rows.append([*row, f"{record.train_seconds + record.test_seconds:.1f}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [" ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        heading = [f"Accuracy on {self.source.words}"] * (self.source != DataSource.MNIST)
        return "\n".join(heading + lines)


def _csv_rows(text: str) -> list[dict[str, Any]]:
    lines = text.splitlines()
    heading = lines[0] if lines else ""
    if ";" in heading:  # where Excel writes 0,01 for 0.01
        lines = [line.replace(",", ".").replace(";", ",") for line in lines]
    reader = csv.DictReader(lines)
    if not set(REQUIRED) <= set(reader.fieldnames or ()):
        got = f"it starts with {heading!r:.40}" if text.strip() else "it is empty"
        raise DataError(f"{got}; its first line must name {','.join(REQUIRED)}")
    return list(reader)


def _with_known_ending(path: str | os.PathLike[str]) -> Path:
    path = as_path(path)
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"a history must be a .csv or a .json file, got {str(path)!r}")
    return path
