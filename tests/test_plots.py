import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

import mnist_helpers
from mnist_helpers.config import DataSource
from mnist_helpers.errors import ConfigError, InputError
from mnist_helpers.history import History
from mnist_helpers.plots import (
    confusion_matrix,
    plot_answers,
    plot_confusion,
    plot_digits,
    plot_history,
    save_history_plot,
)
from tests.test_history import record

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def history():
    return History([record(1, 0.9), record(2, 0.96), record(3, 0.95)])


def test_history_draws_both_quantities_told_apart_by_line_style_and_lightness(history):
    axes = plot_history(history)
    for ax, quantity in zip(axes, ("loss", "accuracy"), strict=True):
        train, test, best = ax.get_lines()
        assert list(train.get_ydata()) == history.column(f"train_{quantity}")
        assert list(test.get_ydata()) == history.column(f"test_{quantity}")
        assert train.get_linestyle() != test.get_linestyle()
        lightness = [np.dot(plt.matplotlib.colors.to_rgb(line.get_color()), [0.3, 0.6, 0.1])
                     for line in (train, test)]  # fmt: skip
        assert abs(lightness[0] - lightness[1]) > 0.25
        assert list(best.get_xdata()) == [2]
        texts = [t.get_text() for t in ax.get_legend().get_texts()]
        assert texts == ["training", "test", "best epoch (2)"]
        assert ax.get_xlabel() == "epoch" and ax.get_ylabel() == quantity
    assert axes[1].yaxis.get_major_formatter()(0.5).startswith("50")


def test_history_draws_on_given_axes_and_names_the_sample(history):
    _, given = plt.subplots(2, 1)
    history.source = DataSource.SAMPLE
    axes = plot_history(history, given)
    assert axes[0] is given[0] and axes[1] is given[1]
    assert "sample of 5,000" in axes[0].get_title()


def test_a_single_epoch_is_drawn_with_points_that_can_be_seen():
    for ax in plot_history(History([record(1, 0.9)])):
        train, test = ax.get_lines()
        assert min(train.get_markersize(), test.get_markersize()) >= 8
        assert {train.get_marker(), test.get_marker()} == {"o", "s"}
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["training", "test"]


def test_history_refuses_nothing_and_one_axis(history):
    with pytest.raises(InputError, match="the history is empty"):
        plot_history(History())
    _, ax = plt.subplots()
    with pytest.raises(InputError, match="two axes, got 1"):
        plot_history(history, [ax])


def test_curves_are_saved_as_a_picture(history, tmp_path):
    path = save_history_plot(history, tmp_path / "deeper" / "curves.png")
    with Image.open(path) as picture:
        assert picture.size == (1500, 600)
        assert len(picture.convert("RGB").getcolors(100_000)) > 10
    assert plt.get_fignums() == []


def test_a_file_of_curves_that_cannot_be_written_is_named(history, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "c.png"):
        with pytest.raises(ConfigError, match=r"cannot be written \(.*name another file"):
            save_history_plot(history, path)


DRAW = """
import os
from mnist_helpers import options
plots = options.load_plots()
assert os.environ.get("MPLBACKEND") == {backend!r}
from mnist_helpers.history import EpochRecord, History
plots.save_history_plot(History([EpochRecord(1, 0.1, 1.0, 0.5, 1.0, 0.5, 1.0, 1.0)]), "curves.png")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["agg", "Qt4Agg", "module://not_installed", " "])
def test_curves_are_the_same_whatever_matplotlib_is_set_to(tmp_path, backend):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.titlesize: 30000\n")
    environment = os.environ | {"MPLBACKEND": backend, "PYTHONPATH": str(PROJECT)}
    code = [sys.executable, "-c", DRAW.format(backend=backend)]
    done = subprocess.run(code, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open("curves.png") as picture:
        assert picture.size == (1500, 600)


@pytest.mark.slow
def test_a_matplotlib_that_cannot_be_loaded_is_one_named_error(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff")
    code = "from mnist_helpers import errors, options\ntry: options.load_plots()\n" \
           "except errors.ConfigError as error: print(error)"  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.startswith(b"matplotlib cannot be loaded (")


@pytest.mark.parametrize("shape", [(12, 28, 28), (12, 1, 28, 28)])
def test_digits_are_drawn_with_their_titles(shape):
    images = torch.rand(shape)
    axes = plot_digits(images, [str(i) for i in range(12)])
    assert axes.shape == (3, 5)
    drawn = [ax for ax in axes.flat if ax.images]
    assert [ax.get_title() for ax in drawn] == [str(i) for i in range(12)]
    assert np.array_equal(drawn[7].images[0].get_array(), images[7].reshape(28, 28).numpy())


def test_digits_on_given_axes():
    _, given = plt.subplots(1, 3)
    axes = plot_digits(np.zeros((2, 28, 28)), axes=given)
    assert axes[0] is given[0] and not axes[2].images


def test_digits_refuse_what_does_not_fit():
    with pytest.raises(InputError, match=r"28x28, got shape \(0, 28, 28\)"):
        plot_digits(np.zeros((0, 28, 28)))
    with pytest.raises(InputError, match=r"28x28, got shape \(2, 20, 20\)"):
        plot_digits(np.zeros((2, 20, 20)))
    with pytest.raises(InputError, match="2 images need as many titles, got 1"):
        plot_digits(np.zeros((2, 28, 28)), ["one"])
    with pytest.raises(InputError, match="2 images need as many axes, got 1"):
        plot_digits(np.zeros((2, 28, 28)), axes=np.array([plt.subplots()[1]]))


def test_confusion_counts_rows_of_digits_and_columns_of_answers():
    counts = confusion_matrix([3, 3, 3, 9], torch.tensor([3, 5, 5, 9]))
    assert counts[3, 5] == 2 and counts[3, 3] == 1 and counts[9, 9] == 1 and counts.sum() == 4


@pytest.mark.parametrize(
    ("labels", "predictions"), [([], []), ([1, 2], [1]), ([1], [10]), ([-1], [1]), ([[1]], [[1]])]
)
def test_confusion_refuses_what_does_not_pair_up(labels, predictions):
    with pytest.raises(InputError, match="labels and predictions must"):
        confusion_matrix(np.array(labels, dtype=int), np.array(predictions, dtype=int))


def test_confusion_shows_counts_and_accuracy():
    ax = plot_confusion([3, 3, 3, 9], [3, 5, 5, 9])
    assert ax.get_title() == "2 mistakes in 4 (50.00% right)"
    shown = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in ax.texts}
    assert shown[3, 5] == "2" and shown[3, 3] == "1" and shown[0, 0] == "·"
    _, given = plt.subplots()
    assert plot_confusion([1], [1], given) is given


@pytest.mark.slow
def test_matplotlib_is_loaded_only_for_a_plot():
    code = "import sys, mnist_helpers; assert 'matplotlib' not in sys.modules; " \
           "mnist_helpers.plot_history; assert 'matplotlib' in sys.modules"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_others_are_not():
    for name in mnist_helpers.__all__:
        assert getattr(mnist_helpers, name)
    with pytest.raises(AttributeError, match=r"attribute '?plot_everything"):
        _ = mnist_helpers.plot_everything


def drawn(*accuracies):
    """Return the axes of a history with these accuracies, of training and test."""
    epochs = [
        dataclasses.replace(record(number, test), train_accuracy=train)
        for number, (train, test) in enumerate(accuracies, start=1)
    ]
    return plot_history(History(epochs))


def test_late_epochs_can_be_told_apart_after_a_bad_start():
    axes = drawn((0.1, 0.9), (0.95, 0.96), (0.94, 0.97))
    assert axes[0].get_yscale() == "log"
    bottom, top = axes[1].get_ylim()
    assert 0.85 < bottom < 0.9 and top > 0.97
    assert {"0.05", "0.1", "0.2"} <= {text.get_text() for text in axes[0].get_yticklabels()}


@pytest.mark.parametrize(
    "accuracies",
    [[(0.9, 0.99)], [(0.91, 0.988), (0.97, 0.991)], [(0.1, 0.1), (0.11, 0.1)],
     [(0.9, 0.9), (0.9, 0.9)]],
)  # fmt: skip
def test_at_most_the_first_training_accuracy_lies_outside_the_picture(accuracies):
    bottom, top = drawn(*accuracies)[1].get_ylim()
    (first, *trained), tested = zip(*accuracies, strict=True)
    assert all(bottom <= accuracy <= top for accuracy in (*trained, *tested))
    assert len(accuracies) > 1 or bottom <= first


@pytest.mark.parametrize("loss", [0.0, float("nan"), 1e-9])
def test_losses_that_have_no_logarithm_and_tiny_ones_are_drawn(loss):
    epochs = [dataclasses.replace(record(n), train_loss=loss, test_loss=loss) for n in (1, 2)]
    axes = plot_history(History([*epochs, record(3)] if loss == 1e-9 else epochs))
    axes[0].figure.canvas.draw()  # a warning would be an error here
    assert any(text.get_text() for text in axes[0].get_yticklabels())


def test_answers_are_bars_and_the_right_one_is_marked():
    ax = plot_answers(torch.tensor([0.001, 0.949, 0.05, 0, 0, 0, 0, 0, 0, 0]), 1)
    assert [bar.get_height() for bar in ax.patches][:3] == pytest.approx([0.001, 0.949, 0.05])
    assert [text.get_text() for text in ax.texts][:4] == ["", "95%", "5%", ""]
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[1] not in colours[2:] and len(set(colours)) == 2
    with pytest.raises(InputError, match=r"ten probabilities, got shape \(1, 10\)"):
        plot_answers(torch.zeros(1, 10))
