import math
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluate.pictures import SCALE, as_tensor, nearest, photo, save
from hat_sr.errors import DataError, InputError
from hat_sr.evaluate.benchmark import Score, benchmark, bicubic, mean_score
from hat_sr.evaluate.dataset import Dataset, find_datasets
from hat_sr.evaluate.metrics import psnr, ssim
from hat_sr.image.io import write_image
from hat_sr.image.jpeg import through_jpeg
from hat_sr.image.pixels import Image
from hat_sr.image.resize import imresize


def one(folder: Path, lr: str = "auto", jpeg: int | None = None) -> Dataset:
    (dataset,) = find_datasets(folder, SCALE, lr=lr, jpeg=jpeg)
    return dataset


def test_low_resolution_images_through_jpeg(tmp_path):
    """What is enlarged, by the model and by bicubic; the ground truth stays as it is."""
    pixels = photo(48, 64)
    save(tmp_path / "a.png", pixels)
    dataset = one(tmp_path, jpeg=75)
    lr = through_jpeg(imresize(as_tensor(pixels), 1 / SCALE)[0], quality=75)[None]
    for upscale, sr in ((nearest, nearest(lr)), (bicubic(SCALE), imresize(lr, SCALE))):
        (result,) = benchmark(upscale, dataset)
        assert result.score.psnr == pytest.approx(psnr(sr, as_tensor(pixels), crop_border=SCALE))
    assert "bicubic, mirror border, then JPEG of quality 75" in dataset.lr_source
    with pytest.raises(InputError, match="jpeg 0: a quality from 1 to 100"):
        one(tmp_path, jpeg=0)


def test_made_low_resolution_is_the_exact_bicubic_of_the_cropped_truth(tmp_path):
    pixels = photo(33, 41)
    save(tmp_path / "a.png", pixels)
    seen = []

    def upscale(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return nearest(x)

    for border in ("mirror", "clamp"):
        (result,) = benchmark(upscale, one(tmp_path, lr=border))
        hr = as_tensor(pixels)[..., :32, :40]
        lr = imresize(hr, 1 / SCALE, border=border)
        assert seen[-1].dtype == torch.float32
        assert torch.equal(seen[-1], lr.float() / 255)
        sr = nearest(lr)
        assert result.name == "a"
        assert result.score.psnr == pytest.approx(psnr(sr, hr, crop_border=SCALE))
        assert result.score.ssim == pytest.approx(ssim(sr, hr, crop_border=SCALE))


def test_a_low_resolution_file_is_what_is_upscaled(tmp_path):
    hr = photo(32, 40)
    lr = np.ascontiguousarray(hr[::SCALE, ::SCALE])
    save(tmp_path / "GT" / "a.png", hr)
    save(tmp_path / "LR" / "X2" / "ax2.png", lr)
    seen = []
    list(benchmark(lambda x: seen.append(x) or nearest(x), one(tmp_path)))
    assert torch.equal(seen[0], as_tensor(lr).float() / 255)


def test_a_perfect_upscaler_and_results_one_by_one(tmp_path):
    images = {"a": photo(24, 24, seed=1), "b": photo(24, 30, seed=2)}
    for name, pixels in images.items():
        save(tmp_path / f"{name}.png", pixels)
    truths = iter(images.values())
    results = benchmark(lambda x: as_tensor(next(truths)).float() / 255, one(tmp_path))
    first = next(results)
    assert first.name == "a"
    assert first.score.psnr == math.inf
    assert first.score.ssim == pytest.approx(1)
    assert [result.name for result in results] == ["b"]


def test_gray_and_16_bit_truth(tmp_path):
    gray = photo(24, 24, channels=1)
    save(tmp_path / "gray.png", gray)
    save(tmp_path / "rgb.png", np.repeat(gray, 3, axis=2))
    save(tmp_path / "deep.png", np.repeat(gray, 3, axis=2).astype(np.uint16) * 257)
    shapes = []
    results = list(benchmark(lambda x: shapes.append(x.shape) or nearest(x), one(tmp_path)))
    assert set(shapes) == {(1, 3, 12, 12)}
    assert results[0].score == results[1].score == results[2].score


def test_files_that_do_not_fit_are_named(tmp_path):
    save(tmp_path / "GT" / "a.png", photo(32, 40))
    save(tmp_path / "LR" / "X2" / "a.png", photo(16, 21))
    with pytest.raises(DataError, match=r"X2.a\.png has 16×21 .*GT.a\.png at ×2 needs 16×20"):
        list(benchmark(nearest, one(tmp_path)))


def test_an_image_too_small_to_score_is_named(tmp_path):
    save(tmp_path / "a.png", photo(15, 40))
    with pytest.raises(DataError, match=r"a\.png has 15×40"):
        list(benchmark(nearest, one(tmp_path)))


def test_alpha_is_refused(tmp_path):
    save(tmp_path / "a.png", photo(32, 40, channels=4))
    with pytest.raises(DataError, match=r"a\.png has an alpha channel"):
        list(benchmark(nearest, one(tmp_path)))


def test_linear_light_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    write_image(path, Image(photo(32, 40).astype(np.float32) / 255, linear=True))
    with pytest.raises(DataError, match=r"a\.tif has linear light"):
        list(benchmark(nearest, one(tmp_path)))


def test_an_upscaler_of_another_scale_is_refused(tmp_path):
    save(tmp_path / "a.png", photo(32, 40))
    with pytest.raises(InputError, match="upscaler by 2"):
        list(benchmark(lambda x: x, one(tmp_path)))


def test_means_are_over_images():
    mean = mean_score([Score(psnr=30, ssim=0.8), Score(psnr=31, ssim=0.9)])
    assert mean == Score(psnr=30.5, ssim=pytest.approx(0.85))
    with pytest.raises(InputError, match="no scores"):
        mean_score([])
