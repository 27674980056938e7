"""One body for several tasks."""

import dataclasses

import pytest
import torch

from hat_sr.checkpoints.checkpoint import read_checkpoint
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.experiment.tasks import BODY, SharedBody, train_tasks
from hat_sr.train.network import build_network, load_what_fits
from train.small import make_photos, small_recipe


def _tasks(root, *, total_steps=7, **changes):
    return [
        small_recipe(root, model={"upscale": upscale}, optim={"total_steps": total_steps}, **changes)
        for upscale in (2, 3, 1)
    ]


def _weights(folder):
    return read_checkpoint(folder / "weights.safetensors").state


def test_tasks_share_the_body_and_nothing_else(tmp_path):
    shared = SharedBody([build_network(recipe) for recipe in _tasks(tmp_path)])
    of_each = [dict(network.named_parameters()) for network in shared.networks]
    for key, weight in of_each[0].items():
        same = all(each[key] is weight for each in of_each)
        assert same == (key.partition(".")[0] in BODY), key


@pytest.mark.parametrize(("task", "side"), [(0, 16), (1, 24), (2, 8)])
def test_the_current_task_runs(tmp_path, task, side):
    shared = SharedBody([build_network(recipe) for recipe in _tasks(tmp_path)])
    shared.task = task
    assert shared(torch.rand(1, 3, 8, 8)).shape == (1, 3, side, side)


def test_every_task_takes_its_turn(tmp_path):
    """After one step only the first task's head and tail have changed, after three those of all."""
    make_photos(tmp_path)
    for steps in (1, 3):
        state = train_tasks(_tasks(tmp_path, total_steps=steps), tmp_path / str(steps))
        before = [build_network(recipe) for recipe in _tasks(tmp_path)]
        trained = [
            not torch.equal(new.conv_first.weight, old.conv_first.weight)
            for new, old in zip(state.network.networks, before, strict=True)
        ]
        assert trained == [number < steps for number in range(3)]


def test_it_goes_on_to_the_same_bits(tmp_path):
    make_photos(tmp_path)
    train_tasks(_tasks(tmp_path), tmp_path / "whole")
    for steps in (2, 4):  # stopped between two saved states, too: steps 3 and 4 are done again
        train_tasks(
            [
                dataclasses.replace(each, optim=dataclasses.replace(each.optim, total_steps=steps))
                for each in _tasks(tmp_path)
            ],
            tmp_path / "parts",
        )
    train_tasks(_tasks(tmp_path), tmp_path / "parts")
    whole, parts = (_weights(tmp_path / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_what_is_written_is_the_first_tasks_network(tmp_path):
    make_photos(tmp_path)
    recipes = _tasks(tmp_path)
    state = train_tasks(recipes, tmp_path / "run")
    network = build_network(recipes[0])
    assert load_what_fits(network, str(tmp_path / "run/weights.safetensors")) == []
    assert all(
        torch.equal(value, state.averaged.networks[0].state_dict()[key]) for key, value in network.state_dict().items()
    )
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"upscale": 3, "num_feat": 16}}, "only upscale may differ"),
        ({"precision": "bf16"}, "precision 'fp32'"),
        ({"start_from": "x.safetensors"}, "without start_from"),
    ],
)
def test_refusals(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        train_tasks([small_recipe(tmp_path), small_recipe(tmp_path, **changes)], tmp_path / "run")


def test_a_state_of_other_tasks(tmp_path):
    make_photos(tmp_path)
    train_tasks(_tasks(tmp_path, total_steps=1), tmp_path / "run")
    with pytest.raises(WeightsError, match="does not belong to these tasks"):
        train_tasks(_tasks(tmp_path, total_steps=1)[:2], tmp_path / "run")
