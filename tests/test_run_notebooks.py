"""The runner behind `make run` and `make notebooks`, on notebooks of one cell."""

import copy
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mnist_helpers import DataSource, DigitDataset, History, TrainConfig, fit
from tests.conftest import make_digits, make_linear
from tests.test_tools import PROJECT, load_tool

TICKING = """
print("Not answered yet.")
for i in range(3):
    print(f"\\rbar {i}", end="")
print()
"""
SLOW = "import os, time\nprint(f'\\rkernel {os.getpid()} |', end='', flush=True)\ntime.sleep(60)"


@pytest.fixture
def runner(tmp_path, monkeypatch):
    module = load_tool("run_notebooks")
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(module.os, "environ", dict(module.os.environ))
    monkeypatch.setattr(module, "build_book", lambda paths, target: target / "index.html")
    monkeypatch.setattr(module, "checkpoints", lambda: tmp_path / "checkpoints")
    monkeypatch.setenv("MNIST_PROFILE", "quick")
    (tmp_path / "notebooks").mkdir()
    return module


def write(runner, name, *sources):
    path = runner.PROJECT / "notebooks" / name
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


def run(runner, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run_notebooks.py", *arguments])
    return runner.main()


def test_pictures_get_the_alternative_text_of_their_cell(runner):
    outputs = [new_output("stream", text="a"), new_output("display_data", {"image/png": "YQ=="})]
    described, plain = (new_code_cell("1", outputs=copy.deepcopy(outputs)) for _ in range(2))
    described.metadata["alt"] = "A digit, and nothing else."
    for cell in (described, plain):
        runner.describe_pictures(cell)
    assert described.outputs[1].metadata == {"image/png": {"alt": "A digit, and nothing else."}}
    assert plain.outputs == outputs


@pytest.mark.slow
def test_a_widget_leaves_nothing_in_a_saved_notebook(runner, monkeypatch):
    path = write(runner, "01_a.ipynb", "from ipywidgets import IntSlider\nIntSlider()", "'text'")
    assert run(runner, monkeypatch, "--in-place", str(path)) == 0
    notebook = nbformat.read(path, as_version=4)
    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1]


@pytest.mark.slow
def test_in_a_pipe_each_notebook_is_a_line_and_so_is_each_long_bar(runner, monkeypatch, capsys):
    path = write(runner, "01_a.ipynb", TICKING)
    before = path.read_bytes()
    books = []
    monkeypatch.setattr(
        runner, "build_book", lambda paths, target: books.append([*paths]) or target / "index.html"
    )
    assert run(runner, monkeypatch) == 0
    out = capsys.readouterr().out
    assert "bar" not in out and "Not answered" not in out and out.count("01_a") == 1
    assert re.search(r"^1/1 01_a +\d+(\.\d)? s$", out, re.MULTILINE)
    assert (runner.BUILD / "book" / "index.html").as_uri() in out
    assert books == [[runner.BUILD / "01_a.ipynb"]]
    assert path.read_bytes() == before
    executed = nbformat.read(runner.BUILD / "01_a.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == "Not answered yet.\nbar 2\n"
    assert executed.cells[0].execution_count == 1

    monkeypatch.setattr(runner, "LONG_SECONDS", 0)
    assert run(runner, monkeypatch) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "bar" in line] == ["  bar 2"]


@pytest.mark.slow
def test_without_a_name_the_core_runs_and_in_place_all(runner, monkeypatch, capsys):
    for name in ("01_a.ipynb", "04_b.ipynb", "07_c.ipynb"):
        write(runner, name, "print('ran')")
    assert run(runner, monkeypatch) == 0
    assert sorted(p.name for p in runner.BUILD.glob("*.ipynb")) == ["01_a.ipynb", "04_b.ipynb"]
    assert run(runner, monkeypatch, "--in-place") == 0
    assert "3/3 07_c " in capsys.readouterr().out


@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_the_rest_not_run(runner, monkeypatch, capsys):
    path = write(runner, "01_a.ipynb", "print('fine')", "def f():\n    1 / 0", "f()", "'old'")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].outputs = [new_output("stream", text="of an older run")]
    nbformat.write(notebook, path)
    write(runner, "02_b.ipynb", "print('never')")
    assert run(runner, monkeypatch) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[0] == (
        "01_a.ipynb failed in cell [3]: ZeroDivisionError: division by zero"
    )
    written = runner.BUILD / "01_a_failed.ipynb"
    assert os.path.relpath(written) in captured.err and captured.err.count("\n") == 2
    assert "02_b" not in captured.out
    cells = nbformat.read(written, as_version=4).cells
    assert (
        cells[0].outputs[0].text == "fine\n" and cells[2].outputs[0].ename and not cells[3].outputs
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
def test_a_kernel_that_dies_is_no_traceback(runner, monkeypatch, capsys):
    write(runner, "01_a.ipynb", "1", "import os\nos.kill(os.getpid(), 9)")
    assert run(runner, monkeypatch) == 1
    assert "01_a.ipynb failed in cell [2]: its Python died" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "no JSON"])
def test_what_is_no_notebook_is_one_line(runner, monkeypatch, capsys, content):
    path = runner.PROJECT / "x.ipynb"
    if content:
        path.write_text(content)
    assert run(runner, monkeypatch, str(path)) == 1
    err = capsys.readouterr().err
    assert f"{path} is not a notebook that can be read" in err and err.count("\n") == 1


@pytest.mark.slow
def test_an_interrupted_run_in_place_goes_on_and_a_finished_one_starts_anew(
    runner, monkeypatch, capsys
):
    first = write(runner, "01_a.ipynb", "import os\nprint('resume', os.environ['MNIST_RESUME'])")
    second = write(runner, "02_b.ipynb", "1 / 0")
    assert run(runner, monkeypatch, "--in-place") == 1
    assert nbformat.read(first, as_version=4).cells[0].outputs[0].text == "resume 0\n"
    assert nbformat.read(second, as_version=4).cells[0].outputs == []  # as it was

    other = write(runner, "05_c.ipynb", "1 / 0")
    for code in (1, 0):  # what comes between neither ends the interrupted run nor outlives it
        assert run(runner, monkeypatch, "--in-place", str(first), str(other)) == code
        assert "01_a.ipynb: finished before the interruption" in capsys.readouterr().out
        write(runner, "05_c.ipynb", "2 / 1")

    write(runner, "02_b.ipynb", "import os\nprint('resume', os.environ['MNIST_RESUME'])")
    assert run(runner, monkeypatch, "--in-place") == 0
    assert "01_a.ipynb: finished before the interruption" in capsys.readouterr().out
    assert nbformat.read(second, as_version=4).cells[0].outputs[0].text == "resume 1\n"
    assert not list(runner.BUILD.glob("unfinished*"))

    assert run(runner, monkeypatch, "--in-place") == 0
    assert "finished before" not in capsys.readouterr().out
    for path in (first, second):
        assert nbformat.read(path, as_version=4).cells[0].outputs[0].text == "resume 0\n"

    for source, code in (("1 / 0", 1), ("2 / 1", 0)):  # one alone, failed and mended
        write(runner, "05_c.ipynb", source)
        assert run(runner, monkeypatch, "--in-place", str(other)) == code
    assert not list(runner.BUILD.glob("unfinished*"))
    assert nbformat.read(first, as_version=4).metadata["mnist_profile"] == "quick"


@pytest.fixture
def trained(runner, tmp_path, capsys):
    """Checkpoints of two epochs on the sample, as notebook 3 leaves them."""
    config = TrainConfig(epochs=2, lr=0.001, device="cpu", checkpoint_dir=tmp_path / "checkpoints")
    digits = make_digits(60)
    sample = DigitDataset(digits.images, digits.labels, DataSource.SAMPLE)
    history = fit(make_linear(), sample, digits, config)
    capsys.readouterr()
    return history


def test_the_end_says_what_was_reached_and_what_to_type_next(runner, monkeypatch, capsys, trained):
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(runner, "WIDTH", 1000)
    book = Path("build", "book", "index.html")
    runner.say_result("quick", book)
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 8
    assert "Trained on 60 digits of the sample of 5,000 MNIST digits, tested on 60: " in out
    assert f"{trained[-1].test_accuracy:.2%} right. No mirror had MNIST" in out
    assert book.absolute().as_uri() in out and out.count("make lab\n") == 1
    measured = History.load(PROJECT / "results" / "history_default.csv")[-1].test_accuracy
    longer = f"Train on 15,000, reach {measured:.1%} +make run PROFILE=default\n"
    assert re.search(longer, out)
    assert "mnist-helpers predict photo.png\n" in out
    best = Path("checkpoints", "best_mnist_model.pth")
    assert out.endswith(f"  with the network just trained, add --checkpoint {best}\n")

    runner.say_result("default", book)
    assert "Train on 60,000" in capsys.readouterr().out
    monkeypatch.delenv("MAKELEVEL")  # as on Windows
    runner.say_result("full", book)
    out = capsys.readouterr().out
    assert "Train on" not in out and "make" not in out and "jupyter lab notebooks" in out
    own = Path("model_checkpoints", "best_mnist_model.pth")  # which predict takes by itself
    monkeypatch.setattr(runner, "new_checkpoint", lambda: own.with_name("mnist_model_epoch_2.pth"))
    monkeypatch.setattr(runner, "say_accuracy", lambda checkpoint: None)
    monkeypatch.setattr(runner, "load_checkpoint", lambda path: None)
    runner.say_result("full", book)
    assert capsys.readouterr().out.endswith("mnist-helpers predict photo.png\n")


def test_bars_are_drawn_in_a_terminal_that_claims_no_rows(runner):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    runner.prepare_environment(in_place=False)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (0, 80))
    code = "import sys, tqdm; [*tqdm.tqdm(range(3), file=sys.stdout)]"
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env=runner.os.environ, check=True)
    assert "3/3" in os.read(ours, 9999).decode()
    os.close(ours)
    os.close(theirs)


def test_below_a_notebooks_bar_stands_the_heading_of_its_cell(runner):
    screen = runner.Screen("Curves", 2)
    for source in ("# 4. Curves", "## Is that noise?\n\nText\n\n### Seeds", "More text"):
        screen.note_heading(cell=new_markdown_cell(source), cell_index=0)
    screen.note_heading(cell=new_code_cell("## no heading"), cell_index=1)
    assert screen.heading == "Seeds"


def test_a_run_that_trained_nothing_claims_no_accuracy(runner, monkeypatch, capsys, trained):
    monkeypatch.setattr(runner, "BEGAN", time.time() + 10)
    runner.say_result("quick", Path("index.html"))
    out = capsys.readouterr().out
    assert "Trained" not in out and "checkpoint" not in out
    assert runner.what_is_saved() == "No notebook was finished yet."


def test_a_stopped_run_in_place_says_that_the_next_one_goes_on(runner, monkeypatch):
    monkeypatch.setenv(runner.RESUME_VARIABLE, "0")
    monkeypatch.setattr(runner, "WRITTEN", [runner.PROJECT / "01_a.ipynb"])
    assert re.fullmatch(r"Saved: 01_a in \S+\. The next run goes on\.", runner.what_is_saved())


def test_a_title_is_the_heading_without_its_number(runner):
    notebook = new_notebook(cells=[new_markdown_cell("# 3. Train: with bars")])
    assert runner.title_of(notebook, Path("03_x.ipynb")) == "Train"


def test_predict_is_shown_as_it_can_be_typed(runner, monkeypatch, tmp_path):
    program = tmp_path / ".venv" / "bin" / "mnist-helpers"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    for path, typed in (("", os.path.relpath(program)), (str(program.parent), program.name)):
        monkeypatch.setenv("PATH", path)
        assert runner.command_to_predict() == f"{typed} predict photo.png"


def test_a_bar_keeps_its_numbers_on_a_narrow_screen(runner, monkeypatch):
    line = "Epoch  1/3 |█████|  40% 00:06<00:09, loss 2.7862 train 9.90%"
    for columns, wanted in (
        (70, line),
        (56, "Epoch  1/3 40% 00:06<00:09, loss 2.7862 train 9.90%"),
        (45, "Epoch  1/3 40% loss 2.7862 train 9.90%"),
        (22, "Epoch  1/3 40% loss"),
    ):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert runner.fitting(line) == wanted


PYPLOT = "from matplotlib import pyplot as plt\n"
PLOTS, PROFILES = "import mnist_helpers.plots\n", "import mnist_helpers.tutorial.profiles\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "start"),
    [("", PLOTS + PYPLOT), ("Agg", PYPLOT + PLOTS), ("Agg", PROFILES + PYPLOT),
     ("Qt4Agg", PLOTS + PYPLOT)],
)  # fmt: skip
def test_a_notebook_shows_each_figure_once_whatever_backend_the_shell_names(
    monkeypatch, backend, start
):
    monkeypatch.setenv("MPLBACKEND", backend)
    notebook = new_notebook(
        cells=[new_code_cell(start), new_code_cell("plt.plot([1, 2])\nplt.show()")]
    )
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    shown = [list(output.get("data", {})) for output in notebook.cells[1].outputs]
    assert sum("image/png" in kinds for kinds in shown) == 1


@pytest.mark.slow
def test_pages_go_where_one_variable_says(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MNIST_HOME", str(tmp_path / "deeper" / "mine"))
    module = load_tool("run_notebooks")
    monkeypatch.setattr(module, "prepare_environment", lambda in_place: "quick")
    monkeypatch.setattr(module, "build_book", lambda paths, target: target)
    path = tmp_path / "01_a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('ran')")]), path)
    assert run(module, monkeypatch, str(path)) == 0
    assert (tmp_path / "deeper" / "mine" / "build" / "01_a.ipynb").is_file()


@pytest.mark.slow
def test_a_variable_that_cannot_be_used_is_one_line_before_a_notebook_starts():
    environment = os.environ | {"MNIST_PROFILE": "fast"}
    code = [sys.executable, str(PROJECT / "tools" / "run_notebooks.py")]
    done = subprocess.run(code, env=environment, capture_output=True, text=True)
    line = "run_notebooks: MNIST_PROFILE must be one of quick, default, full, got 'fast'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def start(tmp_path, *sources, **options):
    """Start the runner on notebooks of one cell each, beside this process."""
    paths = [tmp_path / f"0{number}_a.ipynb" for number, _ in enumerate(sources, start=1)]
    for path, source in zip(paths, sources, strict=True):
        nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "tools" / "run_notebooks.py"), *map(str, paths)],
        env=os.environ | {"MNIST_HOME": str(tmp_path), "MNIST_PROFILE": "quick", "COLUMNS": "60"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )  # fmt: skip


def is_gone(pid, seconds=10):
    end = time.monotonic() + seconds
    while Path("/proc", str(pid)).exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not Path("/proc", str(pid)).exists()


def read_until(terminal, pattern):
    """Read a terminal's screen until it shows something; return the match and all that was read."""
    text, end = "", time.monotonic() + 60
    while not (found := re.search(pattern, text)):
        assert select.select([terminal], [], [], end - time.monotonic())[0], text
        text += os.read(terminal, 4096).decode(errors="replace")
    return found, text


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the kernel in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_screen_shows_the_last_bar_and_no_end_leaves_a_kernel(tmp_path, number):
    ours, theirs = os.openpty()
    process = start(tmp_path, TICKING, SLOW, stdout=theirs, stderr=theirs)
    os.close(theirs)
    kernel, screen = read_until(ours, r"kernel (\d+) \|")
    assert re.search(r"1/2 01_a +\|█+\| 100% [\d.]+ s *\r?\n", screen)
    assert "Not answered" not in screen and screen.startswith("Loading PyTorch ...\r")
    process.send_signal(number)
    process.wait(timeout=30)
    assert is_gone(int(kernel[1]))
    if number != signal.SIGKILL:
        _, screen = read_until(ours, r"Stopped[^\n]*\n")
        last = screen.rpartition("\r\x1b[J")[2].strip()
        assert last == "Stopped. Saved to look at: 01_a in build. The next run starts over."
        assert process.returncode == 130
    os.close(ours)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
def test_a_signal_during_the_imports_is_one_line_too(tmp_path):
    process = start(tmp_path, SLOW, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "Stopped. Nothing had begun.\n"
    assert process.returncode == 130


def test_a_book_that_is_stopped_ends_in_one_line(runner, monkeypatch):
    def build_book(paths, target):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(runner, "build_book", build_book)
    monkeypatch.setattr(runner, "stop", lambda: sys.exit(130))
    kept = {number: signal.getsignal(number) for number in runner.SIGNALS}
    try:
        with pytest.raises(SystemExit, match="130"):
            runner.make_book()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
