"""The runner behind `make run` and `make notebooks`, on notebooks of one cell."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output

from mnist_helpers import DataSource, DigitDataset, TrainConfig, fit
from tests.conftest import make_digits, make_linear
from tests.test_tools import PROJECT, load_tool

TICKING = """
import os
import subprocess
import sys
for i in range(3):
    print(f"\\rbar {i}", end="")
print()
"""


@pytest.fixture
def runner(tmp_path, monkeypatch):
    module = load_tool("run_notebooks")
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    monkeypatch.setattr(module.os, "environ", dict(module.os.environ))
    monkeypatch.setenv("MNIST_PROFILE", "quick")
    (tmp_path / "notebooks").mkdir()
    return module


def write(runner, name, source):
    path = runner.PROJECT / "notebooks" / name
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
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
def test_what_cells_print_is_shown_as_it_comes_and_saved_as_its_last_line(
    runner, monkeypatch, capsys
):
    path = write(runner, "01_a.ipynb", TICKING)
    before = path.read_bytes()
    assert run(runner, monkeypatch) == 0
    assert "\rbar 0\rbar 1\rbar 2\n" in capsys.readouterr().out.replace("\r\r", "\r")
    assert path.read_bytes() == before
    executed = nbformat.read(runner.BUILD / "01_a.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == "bar 2\n"
    assert executed.cells[0].execution_count == 1
    assert "bar 2" in (runner.BUILD / "01_a.html").read_text("utf-8")


@pytest.mark.slow
def test_without_a_name_the_core_runs_and_in_place_all(runner, monkeypatch, capsys):
    for name in ("01_a.ipynb", "04_b.ipynb", "07_c.ipynb"):
        write(runner, name, "print('ran')")
    assert run(runner, monkeypatch) == 0
    assert sorted(p.name for p in runner.BUILD.glob("*.ipynb")) == ["01_a.ipynb", "04_b.ipynb"]
    assert run(runner, monkeypatch, "--in-place") == 0
    assert "=== 07_c.ipynb" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cell_that_fails_is_shown_and_the_rest_not_run(runner, monkeypatch, capsys):
    write(runner, "01_a.ipynb", "1 / 0")
    write(runner, "02_b.ipynb", "print('never')")
    assert run(runner, monkeypatch) == 1
    captured = capsys.readouterr()
    assert "01_a.ipynb failed" in captured.err and "ZeroDivisionError" in captured.err
    assert "never" not in captured.out


@pytest.mark.slow
def test_an_interrupted_run_in_place_goes_on_and_a_finished_one_starts_anew(
    runner, monkeypatch, capsys
):
    first = write(runner, "01_a.ipynb", "import os\nprint('resume', os.environ['MNIST_RESUME'])")
    second = write(runner, "02_b.ipynb", "1 / 0")
    assert run(runner, monkeypatch, "--in-place") == 1
    assert "resume 0" in capsys.readouterr().out
    assert nbformat.read(first, as_version=4).cells[0].outputs[0].text == "resume 0\n"
    assert nbformat.read(second, as_version=4).cells[0].outputs == []  # as it was

    other = write(runner, "05_c.ipynb", "1 / 0")
    for code in (1, 0):  # what comes between neither ends the interrupted run nor outlives it
        assert run(runner, monkeypatch, "--in-place", str(first), str(other)) == code
        assert "01_a.ipynb: finished before the interruption" in capsys.readouterr().out
        write(runner, "05_c.ipynb", "2 / 1")

    write(runner, "02_b.ipynb", "import os\nprint('resume', os.environ['MNIST_RESUME'])")
    assert run(runner, monkeypatch, "--in-place") == 0
    out = capsys.readouterr().out
    assert "01_a.ipynb: finished before the interruption" in out and "resume 1" in out
    assert not list(runner.BUILD.glob("unfinished*"))

    assert run(runner, monkeypatch, "--in-place") == 0
    out = capsys.readouterr().out
    assert "finished before" not in out and out.count("resume 0") == 2

    for source, code in (("1 / 0", 1), ("2 / 1", 0)):  # one alone, failed and mended
        write(runner, "05_c.ipynb", source)
        assert run(runner, monkeypatch, "--in-place", str(other)) == code
    assert not list(runner.BUILD.glob("unfinished*"))
    assert nbformat.read(first, as_version=4).metadata["mnist_profile"] == "quick"


@pytest.mark.parametrize("validation", [0, 20])
def test_the_last_epoch_is_headlined_and_the_best_file_named(
    runner, monkeypatch, capsys, tmp_path, validation
):
    config = TrainConfig(
        epochs=2, lr=0.001, device="cpu", checkpoint_dir=tmp_path / "c", validation=validation
    )
    digits = make_digits(60)
    sample = DigitDataset(digits.images, digits.labels, DataSource.SAMPLE)
    history = fit(make_linear(), sample, digits, config)
    monkeypatch.setattr(runner, "profile_config", lambda: config)
    capsys.readouterr()
    runner.say_result(["01_a", "02_b"])
    assert capsys.readouterr().out == ""
    runner.say_result(["03_a", "04_b"])
    chosen_by = "validation" if validation else "test"
    assert capsys.readouterr().out.splitlines() == [
        "",
        f"Open {Path('build', '04_b.html')} in a browser to see the curves.",
        f"Test accuracy after epoch 2, the last: {history[-1].test_accuracy:.2%}, on the sample of "
        "5,000 MNIST digits",
        f"{config.checkpoint_dir / 'best_mnist_model.pth'} holds the best: epoch "
        f"{history.best.epoch}, chosen by {chosen_by} accuracy.",
    ]


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
    path = tmp_path / "01_a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print('ran')")]), path)
    assert run(module, monkeypatch, str(path)) == 0
    assert (tmp_path / "deeper" / "mine" / "build" / "01_a.html").is_file()


@pytest.mark.slow
def test_a_variable_that_cannot_be_used_is_one_line_before_a_notebook_starts():
    environment = os.environ | {"MNIST_PROFILE": "fast"}
    code = [sys.executable, str(PROJECT / "tools" / "run_notebooks.py")]
    done = subprocess.run(code, env=environment, capture_output=True, text=True)
    line = "run_notebooks: MNIST_PROFILE must be one of quick, default, full, got 'fast'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", [False, True])
def test_a_signal_ends_it_in_one_line(tmp_path, number, begun):
    path = tmp_path / "01_a.ipynb"
    cell = new_code_cell("import time\nprint('begun', flush=True)\ntime.sleep(60)")
    nbformat.write(new_notebook(cells=[cell]), path)
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "tools" / "run_notebooks.py"), str(path)],
        env=os.environ | {"MNIST_HOME": str(tmp_path), "MNIST_PROFILE": "quick"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    if begun:
        assert any("begun" in line for line in iter(process.stdout.readline, ""))
    else:
        time.sleep(1)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert rest.strip() == "Stopped. What was finished is saved."
