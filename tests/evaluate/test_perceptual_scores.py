"""ST-LPIPS and NIQE against the figures of independent programs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hat_sr.errors import InputError, MissingExtraError
from hat_sr.evaluate import st_lpips as module
from hat_sr.evaluate.niqe import niqe
from hat_sr.evaluate.st_lpips import st_lpips
from hat_sr.image.io import read_image

EXAMPLE = Path(__file__).parents[2] / "examples" / "osprey.jpg"


@pytest.fixture(scope="module")
def photo():
    """(3, 288, 384) uint8: a part of the example photograph."""
    pixels = read_image(EXAMPLE).pixels[100:388, 200:584, :3]
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def test_st_lpips_is_that_of_the_package(photo):
    """Of a part of the photo and its blur, and of two patches of noise, as stlpips_pytorch 0.0.2 computes it."""
    part = photo[:, :96, :128]
    blurred = torch.nn.functional.avg_pool2d(part.float(), 5, 1, 2).to(torch.uint8)
    assert st_lpips(blurred, part) == pytest.approx(0.2957596, abs=1e-4)
    pair = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    assert st_lpips(*pair) == pytest.approx(0.0406787, abs=1e-4)
    assert st_lpips(part, part) == 0


def test_niqe_is_that_of_another_implementation(photo):
    """BasicSR's, whose figure for a well-known picture equals that of MATLAB R2021a."""
    assert niqe(photo) == pytest.approx(4.6772, abs=0.005)
    assert niqe(photo.float() / 255) == niqe(photo)


def test_niqe_tells_noise_and_blur_from_a_photograph(photo):
    noise = torch.randint(-40, 41, photo.shape, generator=torch.Generator().manual_seed(0))
    noisy = (photo + noise).clamp(0, 255).to(torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(photo.float(), 9, 1, 4).to(torch.uint8)
    assert niqe(photo) + 1 < min(niqe(noisy), niqe(blurred))


@pytest.mark.parametrize(
    ("score", "message"),
    [(lambda x: niqe(x), "NIQE of 90×95 pixels"), (lambda x: st_lpips(x[:, :20], x[:, :20]), "90×20")],
)
def test_images_that_are_too_small_are_refused(score, message):
    with pytest.raises(InputError, match=message):
        score(torch.zeros(3, 95, 90))


def test_without_its_package_st_lpips_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    module._weights.cache_clear()
    with pytest.raises(MissingExtraError, match="stlpips_pytorch: pip install"):
        st_lpips(torch.zeros(3, 40, 40), torch.zeros(3, 40, 40))


def test_a_flat_image_has_no_niqe():
    with pytest.raises(InputError, match="without texture"):
        niqe(torch.full((3, 96, 96), 0.5))
