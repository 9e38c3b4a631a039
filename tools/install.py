"""Make `.venv` with everything a target needs, or see at once that nothing is missing.

Usage: python3 tools/install.py [notebooks|dev|browser]

It installs the versions in constraints.txt. With CONSTRAINTS=none in the environment it
takes the newest ones that pyproject.toml allows; TORCH_INDEX=URL gets torch from there.
It says what it is doing. You can stop it at any time, and the next call goes on.

Runs on any Python 3 with the standard library alone, since it is what finds out that the
rest is missing.
"""

import contextlib
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from typing import IO, Iterator

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
BEGAN = time.time()
EXTRAS = ("notebooks", "dev", "browser")  # each includes those before it
NEEDED_PYTHON = (3, 11)
# On Linux PyPI's torch comes with CUDA: 5.8 GB installed and 3 GB of downloads.
NEEDED_GB = 10 if sys.platform == "linux" and not os.environ.get("TORCH_INDEX") else 3

# Of pip's settings in the environment, those that say how to fetch packages. Others can send
# them elsewhere than into .venv (PIP_USER, PIP_TARGET) or end pip (PIP_REQUIRE_HASHES).
PIP_KEEPS = re.compile(
    "PIP_(CACHE_DIR|(CLIENT_)?CERT|CONFIG_FILE|(DEFAULT_)?TIMEOUT|(EXTRA_)?INDEX_URL|FIND_LINKS"
    "|KEYRING_PROVIDER|NO_CACHE_DIR|NO_INDEX|PROXY|(RESUME_)?RETRIES|TRUSTED_HOST|USE_.*)"
)
# What pip prints at its long steps.
DOWNLOAD = re.compile(r"Downloading (?:\S*/)?([\w.]+)-\S+ \(([\d.]+ [kMG]B)\)")
UNPACKING = re.compile("Installing collected packages: (.*)")


def main() -> int:
    """Install the extra that the command line names, unless it is there already."""
    arguments = sys.argv[1:] or ["notebooks"]
    pins = os.environ.get("CONSTRAINTS", "")
    if len(arguments) != 1 or arguments[0] not in EXTRAS:
        print("Usage: python3 tools/install.py [notebooks|dev|browser]", file=sys.stderr)
        return 2
    if pins not in ("", "none"):
        print("CONSTRAINTS can only be none, not {!r}".format(pins), file=sys.stderr)
        return 2
    extra = arguments[0]
    with lock():
        if is_installed(extra):
            return 0
        refusal = missing_prerequisite()
        if refusal:
            print("Cannot install: " + refusal, file=sys.stderr)
            return 1
        return install(extra)


def fingerprint(extra: str) -> str:
    """Return what an installation was made from; it is stale when this changes."""
    parts = [sys.version, str(PROJECT), extra, os.environ.get("CONSTRAINTS", "")]
    parts += [(PROJECT / name).read_text("utf-8") for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_installed(extra: str) -> bool:
    """Tell whether `.venv` has this extra, or one that includes it."""
    stamps = [VENV / ("installed-" + name) for name in EXTRAS[EXTRAS.index(extra) :]]
    return PYTHON.exists() and any(
        stamp.exists() and stamp.read_text() == fingerprint(stamp.name.split("-")[1])
        for stamp in stamps
    )


def missing_prerequisite() -> "str | None":
    """Say in a line what is missing and how to get it; None if nothing is."""
    if sys.version_info < NEEDED_PYTHON:
        names = ["python3.{}".format(minor) for minor in range(14, 10, -1)]
        found = [name for name in names if answers(name)]
        cure = "type" if found else "install one from python.org, and then type"
        return "Python 3.11 or newer is needed; this is {}.{}: {} make run PYTHON={}".format(
            *sys.version_info[:2], cure, (found or ["python3.12"])[0]
        )
    try:
        import ensurepip
        import venv

        assert ensurepip and venv
    except ImportError:
        return (
            "Python's venv module is missing. On Debian and Ubuntu: sudo apt install python3-venv"
        )
    free = shutil.disk_usage(str(PROJECT)).free / 1e9
    if not VENV.exists() and free < NEEDED_GB:
        return "{:.1f} GB are free here and {} GB are needed; see docs/installing.md".format(
            free, NEEDED_GB
        )
    return None


def answers(python: str) -> bool:
    """Tell whether this Python is here and runs; pyenv has names for more than that."""
    where = shutil.which(python)
    return where is not None and not subprocess.call([where, "-c", ""], stderr=subprocess.DEVNULL)


def install(extra: str) -> int:
    """Make `.venv` where there is none, and let pip fill it."""
    print("Installing into .venv, once; this takes some minutes.", flush=True)
    if not has_pip():
        # --clear, since what is there may be half of one, or of another Python.
        command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
        code, said = watched(command, "making .venv")
        if code != 0:
            print(said + "Cannot install: making .venv failed; the message above says why.")
            return 1
    for step in pip_steps(extra):
        code, said = watched(step, "looking up packages")
        if code != 0:
            complaint = said[max(said.find("ERROR"), 0) :]
            print(complaint + "pip failed, as it says above. Fix that, then run this again.")
            return 1
    question = "import importlib.metadata as found; found.version('mnist-helpers')"
    if subprocess.run([str(PYTHON), "-I", "-c", question], stderr=subprocess.DEVNULL).returncode:
        print("pip did not install into .venv: its configuration sends packages elsewhere.")
        print("Run {} -m pip config list -v: it lists the files to check.".format(PYTHON))
        return 1
    (VENV / ("installed-" + extra)).write_text(fingerprint(extra))
    print("Installed in {}.".format(clock()), flush=True)
    return 0


def watched(command: "list[str]", doing: str) -> "tuple[int, str]":
    """Run a command and say what it is doing; return its exit code and what it said."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=pip_environment(),
        universal_newlines=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is for us alone, and ends all of it
    )
    lines = queue.Queue()  # type: queue.Queue[str]
    threading.Thread(target=forward, args=(process.stdout, lines), daemon=True).start()
    is_live = sys.stdout.isatty()
    said, line, shown, before = "", " ", "", packages()
    try:
        while line:
            if is_live:
                text = "  {}  {}".format(clock(), doing)
                if doing.startswith("unpacking") and packages() > before:
                    text += ", {} done".format(packages() - before)
                width = shutil.get_terminal_size().columns - 1
                print("\r" + text[:width], end="\033[K", flush=True)
            elif doing != shown and "kB" not in doing:  # those pass quickly
                print("  " + doing, flush=True)
                shown = doing
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=1)
                said += line
                doing = in_our_words(line) or doing
        return process.wait(), said
    finally:
        print(end="\r\033[K" if is_live else "", flush=True)
        if process.poll() is None:
            if os.name == "nt":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def forward(stream: "IO[str]", lines: "queue.Queue[str]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put("")


def in_our_words(line: str) -> "str | None":
    """Say what a line of pip's means for somebody who waits; None if it is of no interest."""
    download, unpacking = DOWNLOAD.search(line), UNPACKING.match(line)
    if download:
        return "downloading {}, {}".format(*download.groups())
    if unpacking:
        return "unpacking {} packages".format(unpacking.group(1).count(",") + 1)
    return None


def packages() -> int:
    """Count what is in .venv: pip unpacks a package's `.dist-info` last, and tells no progress."""
    base = str(VENV)
    folder = sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base})
    return len(list(Path(folder).glob("*.dist-info")))


def clock() -> str:
    """Return the minutes and seconds since this was started."""
    return "{}:{:02}".format(*divmod(int(time.time() - BEGAN), 60))


def pip_steps(extra: str) -> "list[list[str]]":
    """Return the commands that install the package with one of its extras."""
    # -I: packages that PYTHONPATH names are not in .venv, though pip would count them as there.
    pip = [str(PYTHON), "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    if os.environ.get("CONSTRAINTS") == "none":
        pip += ["--upgrade", "--upgrade-strategy", "eager"]
    else:
        pip += ["--constraint", str(PROJECT / "constraints.txt")]
    steps = [[*pip, "--editable", "{}[{}]".format(PROJECT, extra)]]
    index = os.environ.get("TORCH_INDEX")
    if index:  # torch's own index holds CPU wheels without the gigabytes of CUDA
        steps.insert(0, [*pip, "--index-url", index, "torch", "torchvision"])
    return steps


def pip_environment() -> "dict[str, str]":
    """Return the environment for pip, without settings that .venv can't do with."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("PIP_") or PIP_KEEPS.fullmatch(name.upper())
    }
    kept["PIP_USER"] = "0"  # a configuration file may say otherwise
    kept["PIP_NO_INPUT"] = "1"  # nobody would see its question
    return kept


def has_pip() -> bool:
    """Tell whether .venv is complete and was made by the Python that runs this."""
    if not PYTHON.exists():
        return False
    # Of a .venv that was stopped halfway: pip writes RECORD last.
    question = "import importlib.metadata as i, sys; i.files('pip')[0]; print(sys.version)"
    command = [str(PYTHON), "-I", "-c", question]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return answer.returncode == 0 and answer.stdout.decode().strip() == sys.version


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Let `make run` and `make test` start side by side: the second one waits."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (PROJECT / "pyproject.toml").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped. What was downloaded is kept; type the same again to go on.")
        sys.exit(130)
