import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hat_sr.errors import DataError, InputError
from hat_sr.evaluate.benchmark import ImageResult, Score, benchmark, mean_score
from hat_sr.evaluate.dataset import Dataset, find_datasets
from hat_sr.evaluate.metrics import psnr, ssim
from hat_sr.evaluate.report import Report, to_json, to_markdown
from hat_sr.image.io import write_image
from hat_sr.image.jpeg import through_jpeg
from hat_sr.image.pixels import Image
from hat_sr.image.resize import imresize

SCALE = 2


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Something with edges and slopes."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, channels))
    slope = np.add.outer(np.arange(height), np.arange(width))[..., None] * 3
    return np.clip(noise + slope, 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels))


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def nearest(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(SCALE, -1).repeat_interleave(SCALE, -2)


def one(folder: Path, lr: str = "auto", jpeg: int | None = None) -> Dataset:
    (dataset,) = find_datasets(folder, SCALE, lr=lr, jpeg=jpeg)
    return dataset


def test_low_resolution_images_through_jpeg(tmp_path):
    """What is enlarged, by the model and by bicubic; the ground truth stays as it is."""
    pixels = photo(48, 64)
    save(tmp_path / "a.png", pixels)
    dataset = one(tmp_path, jpeg=75)
    (result,) = benchmark(nearest, dataset)
    lr = through_jpeg(imresize(as_tensor(pixels), 1 / SCALE)[0], quality=75)[None]
    assert result.model.psnr == pytest.approx(psnr(nearest(lr), as_tensor(pixels), crop_border=SCALE))
    assert result.bicubic.psnr == pytest.approx(psnr(imresize(lr, SCALE), as_tensor(pixels), crop_border=SCALE))
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
        assert result.model.psnr == pytest.approx(psnr(sr, hr, crop_border=SCALE))
        assert result.model.ssim == pytest.approx(ssim(sr, hr, crop_border=SCALE))
        assert result.bicubic.psnr == pytest.approx(psnr(imresize(lr, SCALE), hr, crop_border=SCALE))


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
    assert first.model.psnr == math.inf
    assert first.model.ssim == pytest.approx(1)
    assert first.bicubic.psnr < 40
    assert [result.name for result in results] == ["b"]


def test_gray_and_16_bit_truth(tmp_path):
    gray = photo(24, 24, channels=1)
    save(tmp_path / "gray.png", gray)
    save(tmp_path / "rgb.png", np.repeat(gray, 3, axis=2))
    save(tmp_path / "deep.png", np.repeat(gray, 3, axis=2).astype(np.uint16) * 257)
    shapes = []
    results = list(benchmark(lambda x: shapes.append(x.shape) or nearest(x), one(tmp_path)))
    assert set(shapes) == {(1, 3, 12, 12)}
    assert results[0].model == results[1].model == results[2].model


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


def report(*psnrs: float) -> Report:
    dataset = Dataset(name="Tiny", scale=4, pairs=(), border="mirror", lr_source="made somehow")
    bicubic = Score(psnr=28.0, ssim=0.8)
    results = [
        ImageResult(name=f"image{index}", model=Score(psnr=value, ssim=0.9), bicubic=bicubic)
        for index, value in enumerate(psnrs)
    ]
    return Report(model="network", dataset=dataset, results=tuple(results))


def test_means_are_over_images():
    mean = mean_score([Score(psnr=30, ssim=0.8), Score(psnr=31, ssim=0.9)])
    assert mean == Score(psnr=30.5, ssim=pytest.approx(0.85))
    with pytest.raises(InputError, match="no scores"):
        mean_score([])


def test_markdown():
    lines = to_markdown(report(30.0, 31.239, 27.0)).splitlines()
    assert lines[0] == "Tiny ×4, network. Low-resolution images: made somehow."
    assert lines[2] == "| image  |  PSNR |   SSIM | bicubic PSNR | bicubic SSIM |"
    assert lines[5] == "| image1 | 31.24 | 0.9000 |        28.00 |       0.8000 |"
    assert lines[7] == "| mean   | 29.41 | 0.9000 |        28.00 |       0.8000 |"
    assert len({len(line) for line in lines[2:8]}) == 1
    assert lines[-1].endswith("Images below bicubic: image2.")


def test_json():
    (data,) = json.loads(to_json([report(30.0, math.inf)]))["datasets"]
    assert data["dataset"] == "Tiny"
    assert data["lr"] == "made somehow"
    assert data["images"][0] == {
        "name": "image0",
        "psnr": 30.0,
        "ssim": 0.9,
        "bicubic_psnr": 28.0,
        "bicubic_ssim": 0.8,
    }
    assert data["images"][1]["psnr"] is None
    assert data["mean"]["psnr"] is None
    assert data["mean"]["bicubic_psnr"] == 28.0
    assert data["below_bicubic"] == []
