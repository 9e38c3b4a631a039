import dataclasses

import pytest

from mnist_helpers.config import DataSource, TrainConfig
from mnist_helpers.errors import ConfigError
from mnist_helpers.tutorial import profiles
from mnist_helpers.tutorial.profiles import profile_config, promised_accuracy, resume_wanted


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Pretend that the project is here."""
    monkeypatch.setattr(profiles, "project_folder", lambda: tmp_path)


def test_full_is_the_recipe_and_default_takes_minutes(project):
    full = profile_config("full")
    recipe = TrainConfig(data_root=full.data_root, checkpoint_dir=full.checkpoint_dir)
    assert full == recipe
    default = profile_config("default")
    assert dataclasses.replace(default, epochs=20, train_limit=None) == recipe
    assert default.epochs * default.train_limit <= 100_000  # ten minutes at 160 images/s
    assert profile_config() == profile_config("default")


def test_readers_runs_use_the_projects_folders(project, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    for name in ("default", "full"):
        config = profile_config(name)
        assert config.data_root.as_posix() == "../data"
        assert config.checkpoint_dir.as_posix() == "../model_checkpoints"


def test_quick_keeps_its_checkpoints_apart_and_shares_the_data(project, monkeypatch):
    monkeypatch.setenv("MNIST_PROFILE", "quick")
    config = profile_config()
    assert config.train_limit <= 4000 and config.test_limit <= 1000  # the sample has no more
    assert config.checkpoint_dir.as_posix() == "build/quick/checkpoints"
    assert config.data_root == profile_config("default").data_root  # downloaded once


def test_another_build_folder_keeps_checks_and_runs_apart(project, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_BUILD_DIR", str(tmp_path / "build" / "nbval"))
    assert profile_config("quick").checkpoint_dir.as_posix() == "build/nbval/checkpoints"
    assert profile_config("default").checkpoint_dir.as_posix() == "model_checkpoints"


@pytest.mark.parametrize("words", ["~/mine", "'{home}/mine'", "../mine"])
def test_one_variable_moves_every_folder(project, tmp_path, monkeypatch, words):
    home = tmp_path.parent if words.startswith("..") else tmp_path
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("MNIST_HOME", words.format(home=home))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")  # a relative one starts at the project
    for name in profiles.PROFILES:
        config = profile_config(name)
        for folder in (config.data_root, config.checkpoint_dir):
            assert folder.resolve().is_relative_to(home / "mine")
    assert profiles.results_folder() == tmp_path / "results"  # measured, never written


def test_what_is_promised_was_measured_on_mnist_and_for_that_profile(
    project, tmp_path, monkeypatch
):
    assert promised_accuracy(DataSource.MNIST, "quick") is None  # nothing measured yet
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ranges.json").write_text(
        '{"quick": {"last": [0.9, 0.97], "seeds": 5}}'
    )
    assert promised_accuracy(DataSource.MNIST, "quick") == (0.9, 0.97)
    assert promised_accuracy(DataSource.MNIST) is None
    monkeypatch.setenv("MNIST_PROFILE", "quick")
    assert promised_accuracy(DataSource.MNIST) == (0.9, 0.97)
    assert promised_accuracy(DataSource.SAMPLE) is None


def test_an_unknown_profile_is_named(monkeypatch):
    monkeypatch.setenv("MNIST_PROFILE", "fast")
    with pytest.raises(ConfigError, match="one of quick, default, full, got 'fast'"):
        profile_config()


def test_resuming_is_asked_for_by_name(monkeypatch):
    assert not resume_wanted()
    monkeypatch.setenv("MNIST_RESUME", "1")
    assert resume_wanted()
    monkeypatch.setenv("MNIST_RESUME", "0")
    assert not resume_wanted()


def test_outside_a_checkout_the_working_folder_is_the_project(tmp_path, monkeypatch):
    assert (profiles.project_folder() / "pyproject.toml").is_file()
    module = tmp_path / "site" / "mnist_helpers" / "tutorial" / "p.py"
    monkeypatch.setattr(profiles, "__file__", str(module))
    assert profiles.project_folder() == tmp_path


def test_a_path_on_another_drive_stays_whole(monkeypatch, tmp_path):
    def other_drive(path):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(profiles.os.path, "relpath", other_drive)
    assert profiles.seen_from_here(tmp_path) == tmp_path
