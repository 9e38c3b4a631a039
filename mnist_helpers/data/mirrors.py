"""The mirrors of MNIST: their addresses, which of them answer, and fetching one packed file."""

import hashlib
import importlib
import os
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import requests
import urllib3
from tqdm.std import tqdm

from mnist_helpers.data.idx import FILES, DataFile, replacing

# In the order of torchvision's list (torchvision/datasets/mnist.py), with Google's
# copy between: the last is the authors' own server, which is often down.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)

MIRROR_VARIABLE = "MNIST_MIRROR"
TIMEOUT = (4.0, 10.0)  # seconds to connect, and between two pieces of an answer
PATIENCE_SECONDS = 10.0  # after that, a mirror has to be faster than SLOWEST_RATE
SLOWEST_RATE = 20_000.0  # bytes a second: the whole set would take ten minutes
CHUNK_BYTES = 1 << 16
PROBE_SECONDS = 8.0  # after that a mirror counts as not answering


def mirrors() -> list[str]:
    """Return the mirrors in the order in which they are tried."""
    own = os.environ.get(MIRROR_VARIABLE, "").strip()
    return ([own] if own else []) + list(MIRRORS)


def _is_url(mirror: str) -> bool:
    return mirror.lower().startswith(("http://", "https://"))


class _Question(threading.Thread):
    """A request in a thread of its own, which is left behind when nobody answers in time.

    There is no other way to set a timeout for a name server that hangs, or for the headers of
    an answer, which are read in one go.
    """

    def __init__(self, method: str, url: str, seconds: float) -> None:
        super().__init__(daemon=True)
        self.method, self.url = method, url
        self.deadline = time.monotonic() + seconds
        self.outcome: requests.Response | Exception = requests.Timeout("no answer in time")
        self.start()

    def run(self) -> None:
        # Servers may mark a .gz as "gzip-encoded": it is the packed bytes we want.
        headers = {"Accept-Encoding": "identity"}
        try:
            self.outcome = requests.request(
                self.method, self.url, stream=True, timeout=TIMEOUT, headers=headers
            )
        except Exception as error:  # nobody would see what else an odd address may raise
            self.outcome = error
        if time.monotonic() > self.deadline and isinstance(self.outcome, requests.Response):
            self.outcome.close()  # nobody is waiting any more

    def answer(self) -> requests.Response:
        self.join(max(0.0, self.deadline - time.monotonic()))
        outcome = self.outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def probe(candidates: list[str]) -> dict[str, str]:
    """Ask all mirrors at once; return those that do not answer, with the reason."""
    file, reasons = f"{FILES[-1].name}.gz", {}
    questions = {
        mirror: _Question("HEAD", f"{mirror.rstrip('/')}/{file}", PROBE_SECONDS)
        for mirror in filter(_is_url, candidates)
    }
    for mirror in candidates:
        try:
            if mirror in questions:
                questions[mirror].answer().close()
            elif not Path(mirror).is_dir():
                reasons[mirror] = "there is no such folder"
        except Exception as error:
            reasons[mirror] = in_short(error)
    return reasons


def fetch(mirror: str, folder: Path, file: DataFile, bar: "tqdm[Any]") -> str | None:
    """Bring one packed file, checked, into the folder; return why the mirror can't, if so."""
    try:
        if _is_url(mirror):
            _fetch_url(mirror, folder, file, bar)
        else:
            _fetch_copy(Path(mirror), folder, file, bar)
    except (requests.RequestException, ValueError) as error:
        return in_short(error)
    return None


def _fetch_copy(source: Path, folder: Path, file: DataFile, bar: "tqdm[Any]") -> None:
    name = f"{file.name}.gz"
    try:
        content = (source / name).read_bytes()
    except OSError as error:
        raise requests.RequestException(str(error)) from error
    if hashlib.sha256(content).hexdigest() != file.packed_sha256:
        raise ValueError(f"{name} has the wrong checksum")
    with replacing(folder / name) as temporary:
        temporary.write_bytes(content)
    bar.reset(len(content))
    bar.update(len(content))


def _fetch_url(mirror: str, folder: Path, file: DataFile, bar: "tqdm[Any]") -> None:
    with warnings.catch_warnings():  # pooch imports tqdm's automatic bar, which misses widgets
        warnings.simplefilter("ignore")
        pooch = importlib.import_module("pooch")
    pooch.get_logger().setLevel("ERROR")  # our bar says it; the log would repeat it
    name = f"{file.name}.gz"
    registry = {name: f"sha256:{file.packed_sha256}"}
    base_url = mirror.rstrip("/") + "/"
    fetcher = pooch.create(folder, base_url=base_url, registry=registry, retry_if_failed=1)
    fetcher.fetch(name, downloader=lambda url, path, _: _read_url(url, path, bar))


def _read_url(url: str, path: str, bar: "tqdm[Any]") -> None:
    """Write what a URL gives into a file; give up if it only drips.

    A timeout applies between two pieces only, so a server that sends a byte a second never
    meets one: what has arrived is compared with the time it took.
    """
    started, received = time.monotonic(), 0
    try:
        with (
            _Question("GET", url, sum(TIMEOUT)).answer() as response,
            Path(path).open("wb") as file,
        ):
            response.raise_for_status()
            bar.reset(int(response.headers.get("Content-Length", 0)) or None)
            while piece := response.raw.read1(CHUNK_BYTES):
                file.write(piece)
                bar.update(len(piece))
                received += len(piece)
                seconds = time.monotonic() - started
                if seconds > PATIENCE_SECONDS and received < seconds * SLOWEST_RATE:
                    raise requests.Timeout(f"{received} bytes in {seconds:.0f} s")
    except urllib3.exceptions.HTTPError as error:  # cut off in the middle, or silent
        raise requests.ConnectionError(str(error)) from error


def in_short(error: Exception) -> str:
    """Say in a few words why a mirror failed; requests' own texts fill three lines."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers with status {error.response.status_code}"
    for kinds, words in (
        (requests.Timeout, "it does not answer in time"),
        (requests.ConnectionError, "it cannot be reached"),
        ((requests.exceptions.InvalidURL, urllib3.exceptions.HTTPError), "that is not a valid URL"),
        (OSError, str(error)),
        (ValueError, "its files have the wrong checksum"),  # which is what pooch raises then
    ):
        if isinstance(error, kinds):
            return words
    return str(error)
