"""Where MNIST can be had, and how one packed file is fetched from there."""

import hashlib
import importlib
import os
import threading
import time
import warnings
from pathlib import Path
from types import ModuleType

import requests
import urllib3
from tqdm.std import tqdm

from mnist_helpers.files import FILES, DataFile
from mnist_helpers.progress import BYTES_FORMAT, close_bar, open_bar

# In the order of torchvision's list (torchvision/datasets/mnist.py), with Google's
# copy between: the last is the authors' own server, which is often away.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MIRROR_VARIABLE = "MNIST_MIRROR"
TIMEOUT = (4.0, 10.0)  # seconds to connect, and between two pieces of an answer
PATIENCE_SECONDS = 10.0  # after which a mirror has to be faster than
SLOWEST_RATE = 20_000.0  # bytes a second: the whole set would take ten minutes
CHUNK_BYTES = 1 << 16
PROBE_SECONDS = 8.0  # after that a mirror counts as not answering


def mirrors() -> list[str]:
    """Return the mirrors in the order in which they are tried."""
    own = os.environ.get(MIRROR_VARIABLE, "").strip()
    return ([own] if own else []) + list(MIRRORS)


def _is_url(mirror: str) -> bool:
    return mirror.lower().startswith(("http://", "https://"))


def probe(candidates: list[str]) -> dict[str, str]:
    """Ask all mirrors at once; return those that do not answer, with the reason.

    A name server that hangs cannot be given a time-out, so each question has a thread
    of its own that is left behind when the time is over.
    """
    reasons = dict.fromkeys(candidates, f"no answer within {PROBE_SECONDS:.0f} s")

    def ask(mirror: str) -> None:
        try:
            if _is_url(mirror):
                url = f"{mirror.rstrip('/')}/{FILES[-1].name}.gz"
                requests.head(url, timeout=TIMEOUT, allow_redirects=True)
            elif not Path(mirror).is_dir():
                raise FileNotFoundError("there is no such folder")
            reasons.pop(mirror, None)
        # In a thread of its own nobody would see what else an odd address may raise.
        except Exception as error:
            reasons[mirror] = in_short(error)

    threads = [threading.Thread(target=ask, args=(m,), daemon=True) for m in candidates]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROBE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(reasons)


def fetch(mirror: str, folder: Path, file: DataFile) -> str | None:
    """Bring one packed file, checked, under its own name into the folder.

    Returns
    -------
    str or None
        Why the mirror cannot give it; None if it did.

    Raises
    ------
    OSError
        The folder cannot be written, which is no fault of the mirror's.
    """
    try:
        if _is_url(mirror):
            _fetch_url(mirror, folder, file)
        else:
            _fetch_copy(Path(mirror), folder, file)
    except (requests.RequestException, ValueError) as error:
        return in_short(error)
    return None


def _fetch_copy(source: Path, folder: Path, file: DataFile) -> None:
    name = f"{file.name}.gz"
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        content = (source / name).read_bytes()
    except OSError as error:
        raise requests.RequestException(str(error)) from error
    if hashlib.sha256(content).hexdigest() != file.packed_sha256:
        raise ValueError(f"{name} has another checksum")
    try:
        temporary.write_bytes(content)
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)


def _fetch_url(mirror: str, folder: Path, file: DataFile) -> None:
    name = f"{file.name}.gz"
    pooch = _import_pooch()
    pooch.get_logger().setLevel("ERROR")  # our bar says it; the log would double it
    fetcher = pooch.create(
        folder,
        base_url=mirror.rstrip("/") + "/",
        registry={name: f"sha256:{file.packed_sha256}"},
        retry_if_failed=1,
    )
    bar = open_bar(f"{name:27}", total=1, bar_format=BYTES_FORMAT)
    try:
        fetcher.fetch(name, downloader=lambda url, path, _: _read_url(url, path, bar))
    finally:
        close_bar(bar)


def _read_url(url: str, path: str, bar: tqdm) -> None:
    """Write what a URL gives into a file; give up where it only drips.

    Time-outs hold between two pieces only, so a server that sends a byte a second
    would never meet one: what has come is compared with the time it took.
    """
    started = time.monotonic()
    received = 0
    try:
        with _answer(url) as response, Path(path).open("wb") as file:
            response.raise_for_status()
            bar.reset(int(response.headers.get("Content-Length", 0)) or None)
            while piece := response.raw.read1(CHUNK_BYTES):
                file.write(piece)
                bar.update(len(piece))
                received += len(piece)
                seconds = time.monotonic() - started
                if seconds > PATIENCE_SECONDS and received < seconds * SLOWEST_RATE:
                    raise requests.Timeout(f"{received} bytes in {seconds:.0f} s")
    except urllib3.exceptions.HTTPError as error:  # cut in the middle, or silent
        raise requests.ConnectionError(str(error)) from error


def _answer(url: str) -> requests.Response:
    """Ask for a URL; give up where not even the head of the answer comes in time.

    It is read in one go, out of our sight, so a head that drips needs a thread that is
    left behind.
    """
    answers: list[requests.Response | Exception] = []
    # Servers may mark a .gz as "gzip-encoded": it is the packed bytes we want.
    headers = {"Accept-Encoding": "identity"}

    def ask() -> None:
        try:
            answers.append(requests.get(url, stream=True, timeout=TIMEOUT, headers=headers))
        except Exception as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(sum(TIMEOUT))
    if not answers:
        raise requests.Timeout(f"no answer within {sum(TIMEOUT):.0f} s")
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _import_pooch() -> ModuleType:
    """Import pooch when it is needed, without the note on missing widgets that it causes.

    It imports tqdm's automatic choice of a bar, which we do not use.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("pooch")


def in_short(error: Exception) -> str:
    """Say in a few words why a mirror failed; requests' own texts fill three lines."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached"
    if isinstance(error, requests.exceptions.InvalidURL | urllib3.exceptions.HTTPError):
        return "that is no address"
    # What pooch raises when a checksum does not fit.
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return "its files have another checksum"
    return str(error)
