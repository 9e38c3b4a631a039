"""The mirrors of MNIST: their addresses, which of them answer, and reading one file from one."""

import hashlib
import itertools
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
import urllib3
from requests import exceptions as failures
from tqdm.std import tqdm

from mnist_helpers.data.idx import FILES, DataFile, open_regular, raw_folder
from mnist_helpers.errors import DataError

# In the order of torchvision's list (torchvision/datasets/mnist.py), with Google's
# copy between: the last is the authors' own server, which is often down.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)

Mirror = str | Path  # an address, or a folder
T = TypeVar("T")
TIMEOUT = (4.0, 10.0)  # seconds to connect, and between two pieces of an answer
PATIENCE_SECONDS = 10.0  # after that, a mirror has to be faster than SLOWEST_RATE
SLOWEST_RATE = 20_000.0  # bytes a second: the whole set would take ten minutes
CHUNK_BYTES = 1 << 16
PROBE_SECONDS = 8.0  # after that a mirror counts as not answering
FOLDER_SECONDS = 120.0  # an old USB stick takes one for each of the 47 MB
CERTIFICATE = (
    "its certificate is not trusted; if your network uses its own, set REQUESTS_CA_BUNDLE or "
    "SSL_CERT_FILE to the path of that file; otherwise check the computer's clock"
)
PROXY_LOGIN = (
    "the proxy asks for a user and password (status 407); set HTTP_PROXY and HTTPS_PROXY "
    "to http://USER:PASSWORD@PROXY:PORT"
)
NO_ANSWER = "its answer was cut short, or did not come from a web server"
# The first kind that fits an error, or what it wraps, counts.
REASONS: tuple[tuple[Any, str], ...] = (
    ((failures.ProxyError, failures.InvalidProxyURL),
     "the proxy that HTTP_PROXY or HTTPS_PROXY names does not work"),
    ((failures.SSLError, urllib3.exceptions.SSLError), "it offers no secure connection (TLS)"),
    ((requests.Timeout, TimeoutError, urllib3.exceptions.TimeoutError),
     "it does not answer in time"),
    (requests.TooManyRedirects, "it keeps redirecting"),
    ((urllib3.exceptions.ProtocolError, urllib3.exceptions.InvalidHeader), NO_ANSWER),
    (requests.ConnectionError, "it cannot be reached"),
    ((ValueError, urllib3.exceptions.LocationValueError),
     "its address, or a proxy's, is not a valid URL; it must start with http:// or https://"),
    ((requests.RequestException, urllib3.exceptions.HTTPError), NO_ANSWER),
)  # fmt: skip


def shown(mirror: Mirror) -> str:
    """Return a mirror as it may be printed: user, password and token stay out of it."""
    if isinstance(mirror, Path):
        return str(mirror)
    return re.sub(r"(?s)[?#;].*", "", re.sub(r"^(\w[\w+.-]*://)?.*@", r"\1", mirror, flags=re.S))


def _start(work: Callable[[], T]) -> "Future[T]":
    """Start work in a thread of its own, which is left behind when it is not done in time.

    There is no other way to set a timeout for a name server or a network drive that hangs, or
    for the headers of an answer, which are read in one go.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # nobody would see what an odd address may raise
            future.set_exception(error)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # the system has no thread left
        future.set_exception(error)
    return future


def _request(method: str, mirror: str, file: DataFile, read_timeout: float) -> requests.Response:
    parts = urllib.parse.urlsplit(mirror)  # a token behind a "?" stays behind the file's name
    path = f"{parts.path.rstrip('/')}/{file.name}.gz"
    bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")  # requests skips the last
    return requests.request(
        method, parts._replace(path=path, fragment="").geturl(), stream=True,
        timeout=(TIMEOUT[0], read_timeout),
        verify=next(filter(None, map(os.environ.get, bundles)), True),
        # Servers may mark a .gz as "gzip-encoded": it is the packed bytes we want.
        headers={"Accept-Encoding": "identity"},
    )  # fmt: skip


def _greet(mirror: Mirror) -> None:
    """Raise whatever is wrong if a mirror does not answer."""
    if isinstance(mirror, Path):
        _existing(mirror)
        return
    try:
        _request("HEAD", mirror, FILES[-1], min(TIMEOUT[1], PROBE_SECONDS / 3)).close()
    except requests.RequestException:  # some servers and firewalls drop a HEAD
        _request("GET", mirror, FILES[-1], TIMEOUT[1]).close()


def probe(candidates: list[Mirror]) -> dict[Mirror, str]:
    """Ask all mirrors at once; return those that do not answer, with the reason."""
    deadline, reasons = time.monotonic() + PROBE_SECONDS, {}
    questions = {mirror: _start(partial(_greet, mirror)) for mirror in candidates}
    for mirror, question in questions.items():
        try:
            question.result(max(0.0, deadline - time.monotonic()))
        except Exception as error:
            reasons[mirror] = in_short(error)
    return reasons


def fetch(mirror: Mirror, file: DataFile, bar: "tqdm[Any]") -> tuple[str, bytes]:
    """Read one file from a mirror; return its name, with `.gz` if it is packed, and contents.

    They are checked. Raises DataError with the reason in a few words if the mirror can't.
    """
    try:
        if isinstance(mirror, Path):
            found = _start(partial(_read_folder, mirror, file)).result(FOLDER_SECONDS)
            bar.reset(len(found[1]))
            bar.update(len(found[1]))
            return found
        try:
            return f"{file.name}.gz", _read_url(mirror, file, bar)
        except (requests.ConnectionError, urllib3.exceptions.ProtocolError):
            return f"{file.name}.gz", _read_url(mirror, file, bar)  # what was cut may pass now
    except Exception as error:  # servers and drives go wrong in every way there is
        raise DataError(in_short(error)) from error


def _existing(folder: Path) -> Path:
    """Return a mirror's folder; a relative one may also lie beside the working folder.

    The command line works in the project and a notebook in its folder `notebooks`: the same
    `MNIST_MIRROR=usb` means the same in both.
    """
    places = dict.fromkeys(base / folder for base in (Path.cwd(), Path.cwd().parent))
    for place in places:
        if place.is_dir():
            return place
    where = "" if folder.is_absolute() else f" (looked for {' and '.join(map(str, places))})"
    raise DataError(f"there is no such folder{where}")


def _places(mirror: Path, file: DataFile) -> Iterator[Path]:
    """Yield where a folder may keep a file: as the authors, torchvision or Kaggle lay it out."""
    names = (file.name, file.name.replace("-idx", ".idx"))
    folders = (mirror, mirror / "raw", raw_folder(mirror))
    for folder, ending in itertools.product(folders, (".gz", "")):
        yield from (folder / f"{name}{ending}" for name in names)
        yield from (folder / name / f"{inner}{ending}" for name in names for inner in names)


def _read_folder(mirror: Path, file: DataFile) -> tuple[str, bytes]:
    reasons = []
    for path in _places(_existing(mirror), file):
        packed = path.suffix == ".gz"
        size, expected = (
            (file.packed_size, file.packed_sha256) if packed else (file.size, file.sha256)
        )
        try:
            with open_regular(path) as source:
                content = source.read(size + 1)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reasons.append(f"{path.name} cannot be read: {error.strerror or error}")
            continue
        if len(content) == size and hashlib.sha256(content).hexdigest() == expected:
            return (f"{file.name}.gz" if packed else file.name), content
        reasons.append(f"{path.name} has the wrong checksum")
    raise DataError("; ".join([*dict.fromkeys(reasons)][:3]) or f"it has no {file.name}.gz")


def _read_url(mirror: str, file: DataFile, bar: "tqdm[Any]") -> bytes:
    """Read a packed file, and no more than its size; give up if it only drips.

    A timeout applies between two pieces only, so a server that sends a byte a second never
    meets one: what has arrived is compared with the time it took.
    """
    question = _start(partial(_request, "GET", mirror, file, TIMEOUT[1]))
    try:
        response = question.result(sum(TIMEOUT))
    except TimeoutError:
        question.add_done_callback(_close)  # when it comes, nobody is waiting any more
        raise
    started, content, rest = time.monotonic(), bytearray(), file.packed_size
    with response:
        response.raise_for_status()
        bar.reset(rest)
        while rest and (piece := response.raw.read1(min(rest, CHUNK_BYTES))):
            content += piece
            rest -= len(piece)
            bar.update(len(piece))
            seconds = time.monotonic() - started
            if seconds > PATIENCE_SECONDS and len(content) < seconds * SLOWEST_RATE:
                raise requests.Timeout
    if hashlib.sha256(content).hexdigest() != file.packed_sha256:
        raise DataError(f"{file.name}.gz has the wrong checksum")
    return bytes(content)


def _close(question: "Future[requests.Response]") -> None:
    if question.exception() is None:
        question.result().close()


def in_short(error: Exception) -> str:
    """Say in a few words why a mirror failed, without its address: it may hold a password."""
    text = str(error)
    answer = error.response if isinstance(error, requests.HTTPError) else None
    status = None if answer is None else answer.status_code
    if status == 407 or " 407 " in text:
        return PROXY_LOGIN
    if status is not None:
        return f"it answers with status {status}"
    if isinstance(error, failures.SSLError) and "certificate" in text.lower():
        return CERTIFICATE
    for kinds, words in REASONS:
        if any(isinstance(part, kinds) for part in (error, *error.args)):
            return words
    return getattr(error, "strerror", None) or text
