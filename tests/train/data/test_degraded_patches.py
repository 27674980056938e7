import numpy as np
import pytest
import torch

from hat_sr.degradation.config import PRESETS, DegradationConfig, PassConfig
from hat_sr.degradation.filters import sharpened
from hat_sr.errors import ConfigError
from hat_sr.train.config import DataConfig, SourceConfig
from hat_sr.train.data.batches import open_data
from hat_sr.train.data.patches import draw_patch
from hat_sr.train.data.reading import Picture
from train.small import make_photos, photo

PHOTO = torch.from_numpy(photo(96, 128)).permute(2, 0, 1)
JPEG_ALONE = DegradationConfig(
    passes=(PassConfig(of="lr", resize_modes=("matlab",)), PassConfig(of="lr", jpeg=1.0, jpeg_quality=(100, 100)))
)


def _random(seed=0):
    return np.random.default_rng(seed)


def _coded():
    """Channels whose levels say where a pixel is."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    return torch.stack([2 * rows, 2 * columns, rows + columns]).to(torch.uint8)


@pytest.mark.parametrize("paired", [False, True])
def test_a_patch_is_the_degraded_low_resolution_with_its_own_high_resolution(paired):
    """Place, flip and rotation are the same for both."""
    coded = _coded()
    small = coded.unflatten(1, (48, 2)).unflatten(3, (64, 2)).float().mean((2, 4)).to(torch.uint8)
    picture = Picture(coded, small if paired else None)
    for seed in range(20):
        lr, hr, _ = draw_patch(picture, _random(seed), patch_size=16, scale=2, degradation=JPEG_ALONE)
        assert lr.shape == (3, 16, 16)
        means = hr.unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4))
        assert (lr - means).abs().mean().item() < 1.5 / 255  # a pixel aside is 4 levels of a channel


def test_patches_begin_at_blocks():
    """A patch of one block is the same whatever is beside it: JPEG's blocks begin at its corner."""
    flat = torch.full((3, 96, 96), 100, dtype=torch.uint8)
    flat[:, ::8, ::8] = 200
    coarse = DegradationConfig(passes=(PassConfig(jpeg=1.0, jpeg_quality=(5, 5), fine_color=1.0),))
    for seed in range(5):
        lr, hr, _ = draw_patch(Picture(flat), _random(seed), patch_size=8, scale=1, degradation=coarse)
        assert len({tuple(block.flatten().tolist()) for block in lr}) <= 3
        assert hr.shape == lr.shape


@pytest.mark.parametrize("side", [40, 56, 73])
def test_an_image_with_little_room(side):
    for name in ("real", "mild"):
        picture = Picture(PHOTO[:, :side, :side])
        lr, hr, _ = draw_patch(picture, _random(), patch_size=20, scale=2, degradation=PRESETS[name])
        assert lr.shape == (3, 20, 20)
        assert hr.shape == (3, 40, 40)


@pytest.mark.parametrize("paired", [False, True])
def test_targets_are_sharpened_on_request(paired):
    config = DegradationConfig(passes=(PassConfig(),), sharpen=True)
    picture = Picture(PHOTO[:, :32, :32], PHOTO[:, :16, :16] if paired else None)
    _, hr, _ = draw_patch(picture, _random(1), patch_size=16, scale=2, degradation=config)
    wanted = sharpened(PHOTO[:, :32, :32]).float() / 255
    assert any(
        torch.equal(hr, torch.rot90(wanted.flip(-1) if flip else wanted, turns, (-2, -1)))
        for turns in range(4)
        for flip in (False, True)
    )


def test_flats():
    patches = [draw_patch(Picture(PHOTO), _random(seed), patch_size=8, scale=2, flats=0.5) for seed in range(400)]
    flat = [(lr, hr) for lr, hr, _ in patches if (hr == hr[:, :1, :1]).all()]
    assert len(flat) / 400 == pytest.approx(0.5, abs=0.08)
    assert all(torch.equal(lr[:, 0, 0], hr[:, 0, 0]) for lr, hr in flat)
    saturated = [hr for _, hr in flat if set(hr.unique().tolist()) <= {0.0, 1.0}]
    assert len(saturated) / len(flat) == pytest.approx(0.5, abs=0.12)
    noisy = draw_patch(
        Picture(PHOTO, PHOTO[:, ::2, ::2]), _random(), patch_size=8, scale=2, flats=1.0, degradation=PRESETS["real"]
    )
    assert (noisy[1] == noisy[1][:, :1, :1]).all()


def test_no_flats_draw_nothing():
    first, second = (
        draw_patch(Picture(PHOTO), _random(5), patch_size=8, scale=2, **more) for more in ({}, {"flats": 0})
    )
    assert torch.equal(first[1], second[1])
    with pytest.raises(ConfigError, match=r"data\.flats 2 is a share"):
        DataConfig(sources=(SourceConfig(path="."),), flats=2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_that_goes_on_sees_the_same_degraded_patches(tmp_path, workers):
    config = DataConfig(
        sources=(SourceConfig(path="photos"),),
        root=str(make_photos(tmp_path)),
        patch_size=8,
        batch_size=4,
        degradation=PRESETS["real"],
        flats=0.2,
        num_workers=workers,
    )
    whole = list(open_data(config, scale=2, seed=7, first_step=0, total_steps=4))
    rest = list(open_data(config, scale=2, seed=7, first_step=2, total_steps=4))
    assert all(torch.equal(x.lr, y.lr) and torch.equal(x.hr, y.hr) for x, y in zip(whole[2:], rest, strict=True))
    assert not torch.equal(whole[0].lr, whole[1].lr)
