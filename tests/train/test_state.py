"""The file of a training's state."""

import json
import logging
import zipfile
from pathlib import Path

import pytest
import torch

from hat_sr.errors import WeightsError
from hat_sr.train.config import SourceConfig
from hat_sr.train.data.batches import Batch
from hat_sr.train.distributed import Processes
from hat_sr.train.loop import train_step
from hat_sr.train.state import previous, resume_state, save_state, start_state
from train.small import small_recipe


def start(recipe):
    """The state before the first step, of a training in one process."""
    return start_state(recipe, Processes(device=torch.device("cpu")))


def random_batch(seed, size=2):
    generator = torch.Generator().manual_seed(seed)
    lr, hr = (torch.rand(size, 3, side, side, generator=generator) for side in (4, 8))
    return Batch(lr=lr, hr=hr, names=tuple(f"image {number}" for number in range(size)), skipped=())


def _advance(state, steps=1):
    for _ in range(steps):
        train_step(state, random_batch(state.step))


@pytest.fixture
def recipe(tmp_path):
    return small_recipe(tmp_path)


def assert_same_state(one, other):
    """Step, weights, averaged weights and optimizer, bit for bit."""
    assert one.step == other.step
    for part in ("network", "averaged", "optimizer"):
        torch.testing.assert_close(
            getattr(one, part).state_dict(), getattr(other, part).state_dict(), rtol=0, atol=0, msg=part
        )


def test_the_start_depends_on_the_recipe_alone(recipe, tmp_path):
    one = start(recipe)
    torch.rand(3)
    assert_same_state(one, start(recipe))
    other = start(small_recipe(tmp_path, seed=1))
    assert not torch.equal(one.network.conv_last.weight, other.network.conv_last.weight)
    started = start(small_recipe(tmp_path, start="interpolator"))
    assert torch.equal(started.network.conv_last.weight[:, :3, 1, 1], torch.eye(3))
    assert torch.equal(started.averaged.conv_last.weight, started.network.conv_last.weight)


def test_what_is_saved_comes_back(recipe, tmp_path):
    state = start(recipe)
    _advance(state, 3)
    state.best_psnr = 31.5
    save_state(state, tmp_path / "state.pt")
    resumed = start(recipe)
    assert resume_state(resumed, tmp_path / "state.pt")
    assert_same_state(resumed, state)
    assert (resumed.step, resumed.best_psnr) == (3, 31.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.pt"]


def test_nothing_to_resume(recipe, tmp_path):
    state = start(recipe)
    assert not resume_state(state, tmp_path / "state.pt")
    assert state.step == 0


def test_a_file_cut_short_gives_way_to_the_one_before(recipe, tmp_path, caplog):
    path = tmp_path / "state.pt"
    state = start(recipe)
    for _ in range(3):
        _advance(state)
        save_state(state, path)
    content = path.read_bytes()
    resumed = start(recipe)
    for length in range(0, len(content) - 1, len(content) // 40):
        path.write_bytes(content[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert resume_state(resumed, path)
        assert resumed.step == 2
        assert str(path) in caplog.text


def test_a_damaged_file_gives_way_to_the_one_before(recipe, tmp_path):
    path = tmp_path / "state.pt"
    state = start(recipe)
    for _ in range(2):
        _advance(state)
        save_state(state, path)
    content = path.read_bytes()
    resumed = start(recipe)
    num_noticed = 0
    for place in range(0, len(content), len(content) // 200):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        assert resume_state(resumed, path)
        if resumed.step == 1:
            num_noticed += 1
        else:  # a byte of the padding between tensors, which carries nothing
            assert_same_state(resumed, state)
    assert num_noticed > 100


def test_a_stop_between_the_two_renames_loses_nothing(recipe, tmp_path):
    path = tmp_path / "state.pt"
    state = start(recipe)
    save_state(state, path)
    path.rename(previous(path))
    assert resume_state(start(recipe), path)


def test_no_readable_state_is_an_error_not_a_new_start(recipe, tmp_path):
    for name in ("state.pt", "state.pt.previous"):
        (tmp_path / name).write_bytes(b"cut")
    with pytest.raises(
        WeightsError, match=r"state\.pt cannot be read: it is of an unknown kind.*previous cannot be read"
    ):
        resume_state(start(recipe), tmp_path / "state.pt")


def test_a_failed_write_leaves_the_state_before(recipe, tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    state = start(recipe)
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
    state = start(recipe)
    save_state(state, tmp_path / "state.pt")
    other = start(small_recipe(tmp_path, model=changes))
    with pytest.raises(WeightsError, match="belongs to another recipe; train into another folder"):
        resume_state(other, tmp_path / "state.pt")


@pytest.mark.parametrize("content", [{"step": 1}, [1, 2], torch.zeros(2)], ids=["dict", "list", "tensor"])
def test_another_file_is_refused(recipe, tmp_path, content):
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match="not written by this version"):
        resume_state(start(recipe), tmp_path / "state.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"step": "3"},
        {"step": -1},
        {"best_psnr": None},
        {"recipe": "{"},
        {"recipe": "[" * 100_000},
        {"recipe": "[]"},
        {"recipe": "{}"},
        {"recipe": '{"data": 3, "optim": {"total_steps": 1}}'},
        {"network": [1]},
        {"network": {}},
        {"network": {"conv_first.weight": torch.zeros(2)}},
        {"averaged": {"conv_first.weight": 3}},
        {"optimizer": {}},
        {"optimizer": {"state": 3, "param_groups": [3]}},
        {"optimizer": {"state": {}, "param_groups": {}}},
    ],
    ids=str,
)
def test_damage_of_every_kind_ends_in_a_sentence(recipe, tmp_path, change):
    state = start(recipe)
    _advance(state)
    save_state(state, tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(content | change, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match=r"state\.pt"):
        resume_state(start(recipe), tmp_path / "state.pt")


@pytest.mark.parametrize("kind", ["text", "folder", "plain pickle", "zip", "empty"])
def test_a_state_that_is_no_state_gives_way_to_the_one_before(recipe, tmp_path, kind):
    path = tmp_path / "state.pt"
    state = start(recipe)
    for _ in range(2):
        save_state(state, path)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "plain pickle":
        torch.save({"step": 1}, path, _use_new_zipfile_serialization=False)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("state/readme.txt", "hello")
    else:
        path.write_text("once upon a time" if kind == "text" else "")
    assert resume_state(start(recipe), path)


def test_what_is_only_written_otherwise_is_the_same_recipe(recipe, tmp_path, monkeypatch, caplog):
    """Paths in another form, and a file by an older version, without settings that were added since."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    save_state(start(recipe), tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    saved = json.loads(content["recipe"])
    for table, name in (("model", "use_ocab"), ("model", "mean"), ("optim", "ema_warmup"), ("log", "num_pictures")):
        del saved[table][name]
    torch.save(content | {"recipe": json.dumps(saved)}, tmp_path / "state.pt")
    monkeypatch.chdir(tmp_path)
    other = small_recipe(Path(".."), data={"sources": (SourceConfig(path=f"{tmp_path.name}/./link"),)})
    with caplog.at_level(logging.WARNING):
        assert resume_state(start(other), tmp_path / "state.pt")
    assert caplog.messages == []


def test_a_setting_that_is_not_known_is_named(recipe, tmp_path, caplog):
    save_state(start(recipe), tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    saved = json.loads(content["recipe"])
    saved["optim"]["sparkle"] = 5
    torch.save(content | {"recipe": json.dumps(saved)}, tmp_path / "state.pt")
    with caplog.at_level(logging.WARNING):
        assert resume_state(start(recipe), tmp_path / "state.pt")
    assert caplog.messages == ["going on with other settings than before: optim.sparkle 5 → not there"]


def test_changed_settings_are_named(recipe, tmp_path, caplog):
    save_state(start(recipe), tmp_path / "state.pt")
    changed = small_recipe(tmp_path, optim={"total_steps": 20})
    with caplog.at_level(logging.WARNING):
        assert resume_state(start(changed), tmp_path / "state.pt")
    assert caplog.messages == ["going on with other settings than before: optim.total_steps 8 → 20"]


def test_changed_settings_of_the_optimizer_take_effect(recipe, tmp_path):
    state = start(recipe)
    _advance(state)
    save_state(state, tmp_path / "state.pt")
    resumed = start(small_recipe(tmp_path, optim={"betas": (0.5, 0.6), "weight_decay": 0.25}))
    assert resume_state(resumed, tmp_path / "state.pt")
    (group,) = resumed.optimizer.param_groups
    assert (tuple(group["betas"]), group["weight_decay"]) == ((0.5, 0.6), 0.25)
