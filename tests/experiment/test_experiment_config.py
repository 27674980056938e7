"""Experiments from TOML files: those in the package, also scaled up, and what is refused."""

import functools
from pathlib import Path

import pytest

from experiment.small import write_experiment
from hat_sr.errors import ConfigError
from hat_sr.experiment.config import experiment_names, load_experiment, merged
from hat_sr.experiment.tasks import check_tasks
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.train.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"

opened = functools.cache(load_experiment)  # reading one takes half a second


def test_names():
    assert experiment_names() == ("ablations", "networks", "pretraining")


@pytest.mark.parametrize("scale_up", [False, True])
@pytest.mark.parametrize("name", experiment_names())
def test_those_in_the_package(name, scale_up):
    experiment = opened(name, scale_up=scale_up)
    grouped = {arm for group in experiment.groups for arm in group.arms}
    assert grouped == {arm.name for arm in experiment.arms if arm.compared}
    for arm in experiment.arms:
        assert arm.recipe.upscale == 4
        if arm.tasks:
            check_tasks(arm.tasks)


@pytest.mark.parametrize("name", ["ablations", "pretraining"])
def test_small_networks_are_small(name):
    sizes = [sum(weight.numel() for weight in HAT(arm.recipe.model).parameters()) for arm in opened(name).arms]
    assert max(sizes) <= 120_000


def test_arms_are_trained_for_equally_long():
    ablations, networks, pretraining = (opened(name) for name in experiment_names())
    for experiment in (ablations, networks):
        assert len({arm.recipe.optim for arm in experiment.arms}) == 1
        assert len({arm.recipe.data for arm in experiment.arms}) == 1
    steps = {arm.name: sum(one.recipe.optim.total_steps for one in pretraining.chain(arm)) for arm in pretraining.arms}
    assert steps["scratch"] == steps["same-task"] == steps["many-tasks"] == steps["full-rate"] > steps["quarter"]
    assert 4 * steps["large-quarter"] == steps["large"]


def test_an_ablation_changes_one_thing():
    experiment = opened("ablations")
    changed = {arm.name: _differences(arm.recipe.model, experiment.arm("base").recipe.model) for arm in experiment.arms}
    assert changed["base"] == {}
    assert changed["other-window"] == {"window_size": 16}
    assert changed["neither"] == {"use_ocab": False, "use_cab": False}
    assert {name for name, found in changed.items() if len(found) != 1} == {"base", "neither"}


def _differences(config, other):
    return {key: value for key, value in vars(config).items() if getattr(other, key) != value}


def test_scaled_up_pre_training_is_the_published_one():
    experiment = opened("pretraining", scale_up=True)
    for name, stage in (("large", "pretrain"), ("same-task", "finetune")):
        own, published = experiment.arm(name).recipe, load_recipe(RECIPES / "hat-x4-imagenet.toml", stage=stage)
        for part in ("model", "data", "optim", "start", "precision", "seed"):
            assert getattr(own, part) == getattr(published, part), part


def test_scaled_up_ablations_are_of_the_published_network():
    experiment = opened("ablations", scale_up=True)
    assert experiment.arm("base").recipe.model == HATConfig()
    assert experiment.arm("other-window").recipe.model == HATConfig(window_size=8)
    assert experiment.arm("compress-6").recipe.model == HATConfig(compress_ratio=6)


def test_overrides_are_for_every_arm():
    experiment = opened("pretraining", ("--optim.total-steps", "7", "--data.root", "DATA"))
    assert {arm.recipe.optim.total_steps for arm in experiment.arms} == {7}
    assert {recipe.data.root for arm in experiment.arms for recipe in (arm.recipe, *arm.tasks)} == {"DATA"}


def test_chain():
    experiment = opened("pretraining")
    assert [arm.name for arm in experiment.chain(experiment.arm("same-task"))] == ["large", "same-task"]


def test_merged_changes_values_and_whole_lists():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merged(base, {"a": {"c": [5]}, "e": {"f": 1}}) == {"a": {"b": 1, "c": [5]}, "d": 3, "e": {"f": 1}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "Small"', 'titel = "Small"', "unknown key 'titel'"),
        ('title = "Small"', "", "has no 'title'"),
        ("compared = false", "compare = false", "unknown key 'arms.compare'"),
        ('name = "wide"', 'name = "plain"', "two arms 'plain'"),
        ('after = "start"', 'after = "later"', "is after 'later': that must stand above"),
        ("seeds = [0, 1]", "seeds = [0, 1]\nafter = 'start'", "'plain'.* is after 'start'.*with its seeds"),
        ('arms = ["plain"', 'arms = ["start"', "names 'start', which is no arm that is compared"),
        ("tasks = [{}, ", "tasks = [", "must be empty"),
        ("[scale_up.changes.plain", "[scale_up.changes.plane", "not there: plane"),
        ("embed_dim", "embed_din", "did you mean 'model.embed_dim'"),
        ("title", "title =", "is not valid TOML"),
    ],
)
def test_refusals(tmp_path, old, new, said):
    path = write_experiment(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said):
        load_experiment(str(path), scale_up=True)


def test_no_such_experiment_and_nothing_to_scale_up(tmp_path):
    with pytest.raises(ConfigError, match="no experiment is named ablation: ablations, networks, pretraining are"):
        load_experiment("ablation")
    path = write_experiment(tmp_path)
    path.write_text(path.read_text().partition("[scale_up")[0])
    with pytest.raises(ConfigError, match="has no \\[scale_up\\]"):
        load_experiment(str(path), scale_up=True)
