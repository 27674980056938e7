from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hat_sr.errors import ImageError, InputError
from hat_sr.image.io import read_image, write_image
from hat_sr.image.jpeg import through_jpeg
from hat_sr.image.pixels import Image
from train.small import photo


@pytest.fixture
def picture():
    return torch.from_numpy(photo(37, 50)).permute(2, 0, 1)


def test_fine_colour_is_what_write_image_makes(tmp_path, picture):
    path = tmp_path / "x.jpg"
    write_image(path, Image(picture.permute(1, 2, 0).contiguous().numpy()), quality=75)
    written = torch.from_numpy(np.ascontiguousarray(read_image(path).pixels)).permute(2, 0, 1)
    assert torch.equal(through_jpeg(picture, quality=75, subsampling="4:4:4"), written)


def test_less_quality_loses_more_and_half_size_colour_too(picture):
    def lost(**settings):
        return (through_jpeg(picture, **settings).float() - picture).square().mean().item()

    assert 0 < lost(quality=100, subsampling="4:4:4") < lost(quality=90, subsampling="4:4:4")
    assert lost(quality=90, subsampling="4:4:4") < lost(quality=90) < lost(quality=50)


def test_flat_gray_stays_flat_and_gray():
    (level,) = through_jpeg(torch.full((3, 16, 24), 77, dtype=torch.uint8), quality=50).unique().tolist()
    assert abs(level - 77) <= 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_no_file_is_left(tmp_path, picture, monkeypatch, in_memory):
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    disk.mkdir()
    if in_memory:
        memory.mkdir()
    monkeypatch.setattr("hat_sr.image.jpeg._MEMORY", memory)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    through_jpeg(picture, quality=75)
    assert not list(disk.iterdir())
    assert not in_memory or not list(memory.iterdir())


def test_no_room_anywhere(tmp_path, picture, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ImageError, match="set TMPDIR"):
        through_jpeg(picture, quality=75)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("image", "quality", "says"),
    [
        (torch.zeros(3, 4, 4), 75, r"\(3, 4, 4\) of torch.float32"),
        (torch.zeros(1, 4, 4, dtype=torch.uint8), 75, r"\(3, H, W\) of uint8"),
        (torch.zeros(3, 4, 0, dtype=torch.uint8), 75, r"\(3, 4, 0\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), 0, "quality 0: 1 to 100"),
    ],
)
def test_what_is_refused(image, quality, says):
    with pytest.raises(InputError, match=says):
        through_jpeg(image, quality=quality)
