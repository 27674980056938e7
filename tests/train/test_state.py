"""The file of a training's state."""

import logging

import pytest
import torch

from hat_sr.errors import WeightsError
from hat_sr.train.loop import train_step
from hat_sr.train.state import previous, resume_state, save_state, start_state
from train.small import small_recipe


def _advance(state, recipe, steps=1):
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.step)
        lr, hr = torch.rand(1, 3, 4, 4, generator=generator), torch.rand(1, 3, 8, 8, generator=generator)
        train_step(state, recipe, lr, hr)


@pytest.fixture
def recipe(tmp_path):
    return small_recipe(tmp_path)


def assert_same_state(one, other):
    """Step, weights, averaged weights and optimizer, bit for bit."""
    assert one.step == other.step
    for part in ("model", "ema", "optimizer"):
        torch.testing.assert_close(
            getattr(one, part).state_dict(), getattr(other, part).state_dict(), rtol=0, atol=0, msg=part
        )


def test_the_start_depends_on_the_recipe_alone(recipe, tmp_path):
    one = start_state(recipe)
    torch.rand(3)
    assert_same_state(one, start_state(recipe))
    other = start_state(small_recipe(tmp_path, seed=1))
    assert not torch.equal(one.model.conv_last.weight, other.model.conv_last.weight)
    started = start_state(small_recipe(tmp_path, start="interpolator"))
    assert started.model.conv_last.bias.tolist() == started.averaged.conv_last.bias.tolist() == [-1, -1, -1]


def test_what_is_saved_comes_back(recipe, tmp_path):
    state = start_state(recipe)
    _advance(state, recipe, 3)
    save_state(state, tmp_path / "state.pt")
    number = torch.rand(1)
    resumed = start_state(recipe)
    assert resume_state(resumed, tmp_path / "state.pt")
    assert torch.equal(torch.rand(1), number)
    assert_same_state(resumed, state)
    assert resumed.step == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.pt"]


def test_nothing_to_resume(recipe, tmp_path):
    state = start_state(recipe)
    assert not resume_state(state, tmp_path / "state.pt")
    assert state.step == 0


@pytest.mark.parametrize("kept_bytes", [0, 100, 0.5, 0.99])
def test_a_file_cut_short_gives_way_to_the_one_before(recipe, tmp_path, caplog, kept_bytes):
    path = tmp_path / "state.pt"
    state = start_state(recipe)
    for _ in range(3):
        _advance(state, recipe)
        save_state(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept_bytes if kept_bytes >= 1 else kept_bytes * len(content))])
    resumed = start_state(recipe)
    with caplog.at_level(logging.WARNING):
        assert resume_state(resumed, path)
    assert resumed.step == 2
    assert str(path) in caplog.text


def test_a_stop_between_the_two_renames_loses_nothing(recipe, tmp_path):
    path = tmp_path / "state.pt"
    state = start_state(recipe)
    save_state(state, path)
    path.rename(previous(path))
    assert resume_state(start_state(recipe), path)


def test_no_readable_state_is_an_error_not_a_new_start(recipe, tmp_path):
    for name in ("state.pt", "state.pt.previous"):
        (tmp_path / name).write_bytes(b"cut")
    with pytest.raises(WeightsError, match=r"state\.pt and the state before it cannot be read: delete them"):
        resume_state(start_state(recipe), tmp_path / "state.pt")


def test_a_failed_write_leaves_the_state_before(recipe, tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    state = start_state(recipe)
    save_state(state, path)
    before = path.read_bytes()

    def fail(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_state(state, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("changes", [{"embed_dim": 24}, {"depths": (3,)}, {"window_size": 8}], ids=str)
def test_the_state_of_another_network_is_refused(recipe, tmp_path, changes):
    state = start_state(recipe)
    save_state(state, tmp_path / "state.pt")
    other = start_state(small_recipe(tmp_path, model=changes))
    with pytest.raises(WeightsError, match="belongs to another recipe; train into another folder"):
        resume_state(other, tmp_path / "state.pt")


@pytest.mark.parametrize("content", [{"step": 1}, [1, 2], torch.zeros(2)], ids=["dict", "list", "tensor"])
def test_another_file_is_refused(recipe, tmp_path, content):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match="another recipe"):
        resume_state(start_state(recipe), tmp_path / "state.pt")
