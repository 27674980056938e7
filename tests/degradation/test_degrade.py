import hashlib

import numpy as np
import pytest
import torch
from numpy.random import PCG64, Generator

from hat_sr.degradation.config import PRESETS, DegradationConfig, PassConfig
from hat_sr.degradation.degrade import degrade, draw_steps
from hat_sr.degradation.filters import sharpened
from hat_sr.errors import InputError
from hat_sr.image.jpeg import through_jpeg
from hat_sr.image.resize import imresize
from train.small import photo

PHOTO = torch.from_numpy(photo(96, 128)).permute(2, 0, 1).contiguous()
REAL = PRESETS["real"]


def _random(seed=0):
    return Generator(PCG64(seed))


def _one(**settings):
    return DegradationConfig(passes=(PassConfig(**settings),))


def _texts(config, number, scale=4):
    return [[str(step) for step in draw_steps(config, _random(seed), (96, 128), scale=scale)] for seed in range(number)]


def test_shapes_and_the_same_bytes_from_the_same_seed():
    for scale in (1, 2, 3, 4, 8):
        hr = PHOTO[:, :, :120]
        (lr, target), (again, _) = (degrade(hr, REAL, _random(3), scale=scale) for _ in range(2))
        assert lr.shape == (3, 96 // scale, 120 // scale)
        assert lr.dtype == torch.uint8
        assert torch.equal(lr, again)
        assert target is hr


def test_clean_is_bicubic_alone():
    config = DegradationConfig(passes=REAL.passes, clean=1.0)
    assert torch.equal(degrade(PHOTO, config, _random(), scale=4)[0], imresize(PHOTO, 1 / 4))


def test_mild_is_the_preset_of_that_name():
    config = DegradationConfig(passes=REAL.passes, mild=1.0)
    for seed in range(3):
        mild, _ = degrade(PHOTO, PRESETS["mild"], _random(seed), scale=2)
        assert torch.equal(degrade(PHOTO, config, _random(seed), scale=2)[0], mild)


def test_shares_of_clean_and_mild():
    texts = _texts(DegradationConfig(passes=REAL.passes, clean=0.2, mild=0.3), 400)
    assert sum(len(steps) == 1 for steps in texts) / 400 == pytest.approx(0.2, abs=0.06)
    assert sum(steps[0] == "32×24 matlab" and len(steps) > 1 for steps in texts) / 400 == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(("fine", "subsampling"), [(1.0, "4:4:4"), (0.0, "4:2:0")])
def test_jpeg_without_noise(fine, subsampling):
    config = _one(jpeg=1.0, jpeg_quality=(60, 60), fine_color=fine)
    wanted = through_jpeg(PHOTO, quality=60, subsampling=subsampling)
    assert torch.equal(degrade(PHOTO, config, _random(), scale=1)[0], wanted)


def test_qualities_reach_both_ends_of_the_range():
    texts = _texts(_one(jpeg=1.0, jpeg_quality=(70, 72)), 30)
    assert {step for steps in texts for step in steps if "JPEG" in step} == {"JPEG 70", "JPEG 71", "JPEG 72"}


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_noise_without_jpeg_has_its_strength(gray):
    flat = torch.full((3, 96, 96), 128, dtype=torch.uint8)
    for noise, wanted in (
        ({"gaussian": 1.0, "gaussian_sigma": (3.0, 3.0)}, 3.0),
        ({"poisson": 1.0, "poisson_scale": (0.5, 0.5)}, 0.5 * (128 * 255 / 256) ** 0.5),
    ):
        made = degrade(flat, _one(**noise, gray=gray), _random(), scale=1)[0].float() - 128
        assert made.std().item() == pytest.approx(wanted, rel=0.05)
        assert abs(made.mean().item()) < 0.1
        assert torch.equal(made[0], made[1]) == bool(gray)


def test_gray_poisson_noise_is_that_of_brightness():
    red = torch.zeros(3, 96, 96, dtype=torch.uint8)
    red[0] = 255
    config = _one(poisson=1.0, poisson_scale=(1.0, 1.0), gray=1.0)
    made = degrade(red, config, _random(), scale=1)[0]
    assert made[1].max() > 0  # which black would not have for itself
    assert torch.equal(made[1], made[2])


def test_the_real_preset_is_the_published_one():
    texts = _texts(REAL, 800)
    share = {
        "sinc at the end": sum("sinc" in steps[-1] or "sinc" in steps[-2] for steps in texts) / 800,
        "JPEG at the end": sum("JPEG" in steps[-1] for steps in texts) / 800,
        "JPEGs": sum("JPEG" in step for steps in texts for step in steps) / 800,
        "second blur": sum("blur" in step or "sinc" in step for steps in texts for step in steps) / 800 - 1.8,
        "noise": sum("colour" in step or "gray" in step for steps in texts for step in steps) / 800,
        "gray": sum("gray" in step for steps in texts for step in steps) / 800,
        "first blur a sinc": sum("sinc" in steps[0] for steps in texts) / 800,
    }
    assert share == pytest.approx(
        {
            "sinc at the end": 0.8,
            "JPEG at the end": 0.5,
            "JPEGs": 2.0,
            "second blur": 0.8,
            "noise": 2.0,
            "gray": 0.8,
            "first blur a sinc": 0.1,
        },
        abs=0.05,
    )


def test_the_second_resize_is_relative_to_the_low_resolution_size():
    widths = [int(step.split("×")[0]) for steps in _texts(REAL, 200) for step in steps[4:-1] if step[0].isdigit()]
    assert max(widths) <= 1.2 * 32


def test_flat_stays_flat_without_noise():
    flat = torch.tensor([255, 0, 17], dtype=torch.uint8)[:, None, None].expand(3, 96, 96)
    quiet = DegradationConfig(
        passes=tuple(
            PassConfig(blur=one.blur, sinc=one.sinc, sigma=one.sigma, of=one.of, resize=one.resize)
            for one in REAL.passes
        ),
        last_modes=REAL.last_modes,
        last_sinc=0.8,
    )
    for seed in range(20):
        lr, _ = degrade(flat, quiet, _random(seed), scale=4)
        assert torch.equal(lr, flat[:, :24, :24])


def test_a_sharpened_target_is_what_is_degraded():
    config = DegradationConfig(passes=REAL.passes, clean=1.0, sharpen=True)
    lr, target = degrade(PHOTO, config, _random(), scale=2)
    assert torch.equal(target, sharpened(PHOTO))
    assert torch.equal(lr, imresize(target, 1 / 2))


def test_tiny_images():
    for seed in range(10):
        assert degrade(PHOTO[:, :4, :8], REAL, _random(seed), scale=4)[0].shape == (3, 1, 2)


@pytest.mark.parametrize("shape", [(3, 97, 128), (1, 96, 128), (3, 0, 0), (96, 128)])
def test_other_images_are_refused(shape):
    with pytest.raises(InputError, match="is accepted"):
        degrade(torch.zeros(shape, dtype=torch.uint8), REAL, _random(), scale=4)


def test_the_same_bytes_on_every_machine():
    """Without JPEG, which is libjpeg's. If this fails, scores of `benchmark --degrade` cannot be compared any more."""
    image = np.random.default_rng(1).integers(256, size=(3, 96, 128), dtype=np.uint8)
    image = degrade(torch.from_numpy(image), _one(blur=1.0, sigma=(2.0, 2.0)), _random(), scale=1)[0]
    without_jpeg = DegradationConfig(
        passes=tuple(PassConfig(**{**vars(one), "jpeg": 0.0}) for one in REAL.passes),
        last_modes=REAL.last_modes,
        last_sinc=REAL.last_sinc,
    )
    digest = hashlib.sha256()
    for seed in range(40):
        lr, _ = degrade(image, without_jpeg, _random(seed), scale=4)
        digest.update(lr.numpy().tobytes())
    assert digest.hexdigest() == "70a9a823ca698b3422e0010e8c56c25f7586af24d451af5d3fcb3b9b720c2374"
