"""What training measured: one record an epoch, on paper as CSV or JSON."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_helpers.config import MNIST
from mnist_helpers.errors import DataError, InputError


@dataclass(frozen=True)
class EpochRecord:
    """One epoch. Losses and accuracies are means over samples, accuracies fractions.

    Parameters
    ----------
    epoch
        Counted from 1.
    lr
        Learning rate at the end of the epoch.
    train_loss, train_accuracy
        Over the epoch, while the weights were changing.
    test_loss, test_accuracy
        Over the test set, after the epoch.
    train_seconds, test_seconds
        Wall-clock time.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    train_seconds: float
    test_seconds: float


FIELDS = tuple(f.name for f in dataclasses.fields(EpochRecord))


class History:
    """The epochs of one run, in order; a sequence of `EpochRecord`.

    Parameters
    ----------
    records
        Epochs already finished.
    source
        Which data the accuracies are of, `config.MNIST` or `config.SAMPLE`; a CSV or JSON
        file does not keep it.

    Attributes
    ----------
    interrupted
        True where somebody stopped the run before its last epoch.
    """

    def __init__(self, records: Iterable[EpochRecord] = (), source: str = MNIST) -> None:
        self.records = list(records)
        self.source = source
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.records)

    def __getitem__(self, index: int) -> EpochRecord:
        return self.records[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.records == other.records

    __hash__ = None  # a history grows

    def append(self, record: EpochRecord) -> None:
        """Add the next epoch."""
        self.records.append(record)

    def column(self, name: str) -> list[float]:
        """Return one field of every epoch, such as `"test_accuracy"`.

        Raises
        ------
        InputError
            There is no such field.
        """
        if name not in FIELDS:
            raise InputError(f"a history has no field {name!r}; it has {', '.join(FIELDS)}")
        return [getattr(record, name) for record in self.records]

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch with the highest test accuracy; None before the first."""
        return max(self.records, key=lambda r: r.test_accuracy, default=None)

    def to_records(self) -> list[dict[str, Any]]:
        """Return the epochs as a list of dictionaries."""
        return [dataclasses.asdict(record) for record in self.records]

    @classmethod
    def from_records(cls, rows: Iterable[dict[str, Any]], source: str = MNIST) -> "History":
        """Build a history from what `to_records` returned, or from a file's rows.

        Raises
        ------
        DataError
            A row lacks a field, has one too many, or holds something not a number.
        """
        records = []
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or set(row) != set(FIELDS):
                raise DataError(f"row {number} of a history must hold {', '.join(FIELDS)}")
            try:
                values = {name: float(row[name]) for name in FIELDS}
                if not values["epoch"].is_integer():
                    raise ValueError(f"epoch {row['epoch']}")
            except (TypeError, ValueError, OverflowError) as error:
                raise DataError(f"row {number} of a history holds no number: {error}") from error
            records.append(EpochRecord(**values | {"epoch": int(values["epoch"])}))
        return cls(records, source)

    def save(self, path: str | Path) -> Path:
        """Write to a `.csv` or a `.json` file (a list of records); return its path.

        Raises
        ------
        InputError
            The file's name ends otherwise.
        """
        path = _with_known_ending(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.to_records(), indent=1) + "\n", encoding="utf-8")
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.to_records())
        return path

    @classmethod
    def load(cls, path: str | Path, source: str = MNIST) -> "History":
        """Read what `save` wrote.

        Parameters
        ----------
        path
            A `.csv` or a `.json` file.
        source
            Which data the accuracies are of; the file does not say.

        Raises
        ------
        InputError
            The file's name ends neither in `.csv` nor in `.json`.
        DataError
            The file is missing or does not hold a history.
        """
        path = _with_known_ending(path)
        try:
            text = path.read_text(encoding="utf-8")
            rows = json.loads(text) if path.suffix == ".json" else csv.DictReader(text.splitlines())
            return cls.from_records(rows, source)
        except (OSError, ValueError, TypeError, RecursionError, csv.Error, DataError) as error:
            raise DataError(f"{path} cannot be read as a history: {error}") from error

    def table(self) -> list[list[str]]:
        """Return heading and rows as text, accuracies as percentages."""
        heading = ["epoch", "train loss", "train accuracy", "test loss", "test accuracy", "seconds"]
        return [heading] + [
            [
                str(r.epoch),
                f"{r.train_loss:.4f}",
                f"{r.train_accuracy:.2%}",
                f"{r.test_loss:.4f}",
                f"{r.test_accuracy:.2%}",
                f"{r.train_seconds + r.test_seconds:.1f}",
            ]
            for r in self.records
        ]

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([f"Accuracy on the {self.source}"] * (self.source != MNIST) + lines)


def _with_known_ending(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in (".csv", ".json"):
        raise InputError(f"a history is a .csv or a .json file, got {str(path)!r}")
    return path
