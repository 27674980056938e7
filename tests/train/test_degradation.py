import numpy as np
import pytest
import torch

from hat_sr.errors import ConfigError
from hat_sr.image.jpeg import through_jpeg
from hat_sr.train.config import DegradationConfig
from hat_sr.train.data.files import Picture
from hat_sr.train.data.patches import draw_patch
from hat_sr.train.degradation import blurred, degrade
from train.small import photo

PHOTO = torch.from_numpy(photo(96, 128)).permute(2, 0, 1)
NOTHING = {"blur_sigma": (0.0, 0.0), "noise": (0.0, 0.0), "clean": 0.0}


def _random(seed=0):
    return np.random.default_rng(seed)


def test_clean_patches_stay_as_they_are():
    assert torch.equal(degrade(PHOTO, DegradationConfig(clean=1.0), _random()), PHOTO)


def test_jpeg_alone_is_jpeg_alone():
    for fine, subsampling in ((1.0, "4:4:4"), (0.0, "4:2:0")):
        config = DegradationConfig(**NOTHING, jpeg_quality=(60, 60), fine_color=fine)
        assert torch.equal(degrade(PHOTO, config, _random()), through_jpeg(PHOTO, quality=60, subsampling=subsampling))


def test_qualities_reach_both_ends_of_the_range():
    config = DegradationConfig(**NOTHING, jpeg_quality=(70, 71), fine_color=0.0)
    made = [degrade(PHOTO, config, _random(seed)) for seed in range(12)]
    wanted = [through_jpeg(PHOTO, quality=quality) for quality in (70, 71)]
    found = [[torch.equal(x, y) for y in wanted] for x in made]
    assert all(any(row) for row in found)
    assert all(any(column) for column in zip(*found, strict=True))


def test_noise_has_its_strength():
    flat = torch.full((3, 96, 96), 128, dtype=torch.uint8)
    config = DegradationConfig(**NOTHING | {"noise": (3.0, 3.0)}, jpeg_quality=(100, 100), fine_color=1.0)
    noise = degrade(flat, config, _random()).float() - 128
    assert noise.std().item() == pytest.approx(3.0, rel=0.08)  # and rounding
    assert abs(noise.mean().item()) < 0.1


def test_blur_of_a_point_is_the_gaussian():
    point = torch.zeros(1, 21, 21, dtype=torch.float64)
    point[0, 10, 10] = 1
    x = blurred(point, 1.5)[0]
    across = torch.arange(21, dtype=torch.float64) - 10
    assert x.sum().item() == pytest.approx(1)
    assert (x * across**2).sum().item() == pytest.approx(1.5**2, rel=0.02)
    assert (x * across[:, None] ** 2).sum().item() == pytest.approx(1.5**2, rel=0.02)
    assert blurred(point, 0.0) is point


def test_blur_of_a_sliver():
    assert blurred(torch.full((3, 1, 9), 5.0), 2.0).shape == (3, 1, 9)


def test_a_patch_is_the_degraded_low_resolution_with_its_own_high_resolution():
    """Place, flip and rotation are the same for both, and JPEG's blocks begin at 0 or 8."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    coded = torch.stack([2 * rows, 2 * columns, rows + columns]).to(torch.uint8)
    config = DegradationConfig(**NOTHING, jpeg_quality=(100, 100), fine_color=1.0)
    for seed in range(20):
        lr, hr = draw_patch(Picture(coded), _random(seed), patch_size=16, scale=2, degradation=config)
        assert lr.shape == (3, 16, 16)
        means = hr.unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4))
        assert (lr - means).abs().mean().item() < 1.5 / 255  # a pixel aside is 4 levels of a channel


def test_an_image_with_room_for_the_patch_alone():
    config = DegradationConfig()
    lr, hr = draw_patch(Picture(PHOTO[:, :40, :40]), _random(), patch_size=20, scale=2, degradation=config)
    assert lr.shape == (3, 20, 20)
    assert hr.shape == (3, 40, 40)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"jpeg_quality": (95, 50)}, r"jpeg_quality \[95, 50\] must be two numbers from 1 to 100"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"noise": (0.0, 300.0)}, "noise"),
        ({"blur_sigma": (-1.0, 0.5)}, "blur_sigma"),
        ({"clean": 1.5}, "clean 1.5 is a share"),
    ],
)
def test_what_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        DegradationConfig(**settings)
