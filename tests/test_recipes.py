"""The pages in results/ are of today's recipes."""

import dataclasses

import pytest

from experiments.pages import RESULTS, RIVALS, config_of, noted_recipes, page_of, recipe_hash
from mnist_helpers import TrainConfig

PAGES = sorted({path.stem.removeprefix("seeds_") for path in RESULTS.glob("seeds_*.csv")})


@pytest.mark.parametrize("name", [name for name in PAGES if name not in RIVALS])
def test_the_recipe_of_a_page_has_not_changed_since(name):
    assert noted_recipes().get(name) == recipe_hash(config_of(name)), (
        f"results/{page_of(name).name} was measured with another recipe than today's: remove it "
        "and measure it anew with experiments.seeds, or, if the change makes no difference to "
        f"the results, run `python -m experiments.pages --note {name}`"
    )


def test_only_pages_that_exist_are_noted():
    assert set(noted_recipes()) <= set(PAGES)


@pytest.mark.parametrize("changes", [{"lr": 0.02}, {"momentum": 0.0}, {"average": 0.9}])
def test_a_setting_that_affects_the_result_changes_the_hash(changes):
    assert recipe_hash(TrainConfig(**changes)) != recipe_hash(TrainConfig())


def test_where_files_are_and_the_seed_do_not_change_it(tmp_path):
    elsewhere = TrainConfig(seed=2, data_root=tmp_path, checkpoint_dir=None, in_memory=False)
    assert recipe_hash(elsewhere) == recipe_hash(TrainConfig())


def test_a_new_setting_that_is_off_changes_no_hash(monkeypatch):
    before, settings = recipe_hash(TrainConfig()), dataclasses.asdict(TrainConfig())
    monkeypatch.setattr(dataclasses, "asdict", lambda config: {"new": False, **settings})
    assert recipe_hash(TrainConfig()) == before


def test_a_page_says_what_was_set():
    config = config_of("fast-lr=1e-05-average=0.0-precision=bfloat16")
    assert (config.lr, config.average, config.precision) == (1e-5, 0.0, "bfloat16")
    assert config.clip_norm == TrainConfig.recipe("fast").clip_norm
    assert config_of("quick").precision == "float32"
