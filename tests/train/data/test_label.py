"""A teacher's answers: what is written, how it is read back, and a call that goes on."""

import json

import pytest
import torch

from hat_sr.errors import ConfigError, DataError, ImageError
from hat_sr.image.io import read_image
from hat_sr.train.config import DataConfig, SourceConfig
from hat_sr.train.data.batches import open_data, open_patches
from hat_sr.train.data.label import label
from train.small import make_photos, save_png

SCALE = 2


def _patches(root, seed=3):
    data = DataConfig(root=str(root), sources=(SourceConfig(path="photos"),), patch_size=8, batch_size=2)
    return open_patches(data, scale=SCALE, seed=seed)


def teacher(lr):
    return 1 - lr.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)


def _label(root, num_samples=4, **changes):
    return label(_patches(root), root / "labels", teacher, num_samples=num_samples, description={"of": 1, **changes})


def _files(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*.png"))}


@pytest.fixture
def root(tmp_path):
    return make_photos(tmp_path)


def _pixels(path):
    return torch.from_numpy(read_image(path).pixels).permute(2, 0, 1)


def test_patches_and_answers_are_written(root):
    assert _label(root) == 4
    patches = _patches(root)
    for number in range(4):
        lr, hr, answer = (_pixels(root / "labels" / part / f"{number:07d}.png") for part in ("lr", "hr", "teacher"))
        assert torch.equal(lr / 255, patches[number].lr)
        assert torch.equal(hr / 255, patches[number].hr)
        assert torch.equal(answer, 255 - lr.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2))
    assert json.loads((root / "labels" / "labels.json").read_text()) == {"of": 1}


def test_a_call_that_was_stopped_goes_on_to_the_same_files(root, tmp_path):
    _label(root, 5)
    whole = _files(root / "labels")
    for file in (root / "labels" / "teacher").glob("000000[34].png"):
        file.unlink()
    (root / "labels" / "hr" / "0000004.png").unlink()
    asked = []

    def counted(lr):
        asked.append(lr)
        return teacher(lr)

    assert label(_patches(root), root / "labels", counted, num_samples=5, description={"of": 1}) == 2
    assert len(asked) == 2
    assert _files(root / "labels") == whole
    assert _label(root, 5) == 0


def test_answers_are_read_with_their_patches(root):
    _label(root)
    source = SourceConfig(path="labels/hr", kind="pairs", lr_path="labels/lr", teacher_path="labels/teacher")
    data = DataConfig(root=str(root), sources=(source,), patch_size=4, batch_size=4)
    for in_memory in (False, True):
        batches = open_data(
            DataConfig(**{**vars(data), "in_memory": in_memory}), scale=2, seed=0, first_step=0, total_steps=3
        )
        for batch in batches:
            wanted = teacher(batch.lr)  # in whatever way a patch was turned, its answer was turned alike
            torch.testing.assert_close(batch.teacher, wanted, rtol=0, atol=1e-6)


def test_images_without_an_answer_are_left_out(root):
    _label(root)
    (root / "labels" / "teacher" / "0000002.png").unlink()
    settings = {"kind": "pairs", "lr_path": "labels/lr", "teacher_path": "labels/teacher"}
    data = DataConfig(root=str(root), sources=(SourceConfig(path="labels/hr", **settings),), patch_size=4)
    assert len(open_patches(data, scale=2, seed=0).source) == 3
    save_png(root / "labels" / "teacher" / "0000001.png", read_image(root / "labels" / "lr" / "0000001.png").pixels)
    source = open_patches(data, scale=2, seed=0).source
    with pytest.raises(ImageError, match=r"0000001\.png is 8×8 instead of 16×16"):
        source.read(1)
    for file in (root / "labels" / "teacher").iterdir():
        file.rename(file.with_name(f"x{file.name}"))
    with pytest.raises(DataError, match="has no answer to an image of"):
        open_patches(data, scale=2, seed=0)


def test_another_description_is_refused(root):
    _label(root, 1)
    with pytest.raises(ConfigError, match="labelled with another seed, teacher: name a new folder"):
        _label(root, 1, seed=2, teacher="x")
    (root / "labels" / "labels.json").write_text("{")
    with pytest.raises(ConfigError, match=r"labels.json is damaged .*label into a new folder"):
        _label(root, 1)


def test_a_folder_of_something_else_is_refused(root):
    (root / "labels").mkdir()
    (root / "labels" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="not empty, and not of hat-sr data label"):
        _label(root)
    assert [path.name for path in (root / "labels").iterdir()] == ["mine.txt"]
