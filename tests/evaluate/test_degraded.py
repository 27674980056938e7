"""Benchmarks on degraded images."""

import hashlib

import pytest
import torch

from evaluate.pictures import as_tensor, nearest, photo, save
from hat_sr.degradation.config import PRESETS
from hat_sr.errors import InputError
from hat_sr.evaluate.benchmark import benchmark
from hat_sr.evaluate.dataset import Degraded, find_dataset
from hat_sr.evaluate.pairs import degraded_lr, load_pair
from hat_sr.evaluate.sets import describe_lr
from hat_sr.image.jpeg import through_jpeg

HR = as_tensor(photo(96, 120))


@pytest.mark.parametrize(
    ("preset", "scale", "wanted"),
    [
        ("real", 2, "957821c4f4b9f0c0"),
        ("real", 3, "da3337b54db858b8"),
        ("real", 4, "558287aeaf9df17c"),
        ("mild", 4, "9c0d2ea013ebefcc"),
    ],
)
def test_low_resolution_images_are_the_same_for_ever(preset, scale, wanted):
    """If this fails, scores on degraded images cannot be compared with those of before; JPEG is libjpeg's."""
    digest = hashlib.sha256()
    for seed in range(5):
        lr = degraded_lr(HR, Degraded(preset, seed), scale)
        assert lr.shape == (1, 3, 96 // scale, 120 // scale)
        digest.update(lr.numpy().tobytes())
    assert digest.hexdigest()[:16] == wanted


def test_what_libjpeg_makes_of_a_picture():
    """What the hashes above rest on beside our own arithmetic."""
    digest = hashlib.sha256(through_jpeg(HR[0], quality=50).contiguous().numpy().tobytes()).hexdigest()
    assert digest[:16] == "15b06a721e8e85eb"


def test_images_are_degraded_by_seed_and_pixels_not_by_name_or_place(tmp_path):
    for name, pixels in (("b", photo(48, 50)), ("copies/a", photo(48, 50)), ("c", photo(48, 50, seed=1))):
        save(tmp_path / f"{name}.png", pixels)

    def lrs(folder, seed):
        dataset = find_dataset(folder, 2, degraded=Degraded("real", seed))
        assert describe_lr(dataset) == f"degraded from the ground truth (real, seed {seed})"
        return [load_pair(pair, dataset)[0] for pair in dataset.pairs]

    (first, other), (copy,) = lrs(tmp_path, 0), lrs(tmp_path / "copies", 0)
    assert torch.equal(first, copy)
    assert not torch.equal(first, other)
    assert not torch.equal(first, lrs(tmp_path, 1)[0])
    assert torch.equal(first, degraded_lr(as_tensor(photo(48, 50)), Degraded("real"), 2))


def test_files_of_low_resolution_images_are_passed_over(tmp_path):
    save(tmp_path / "HR/a.png", photo(48, 50))
    save(tmp_path / "LR_x2/a.png", photo(24, 25, seed=3))
    dataset = find_dataset(tmp_path, 2, degraded=Degraded("mild"))
    seen = []
    (_,) = benchmark(lambda x: seen.append(x) or nearest(x), dataset)
    wanted = degraded_lr(as_tensor(photo(48, 50)), Degraded("mild"), 2)
    assert torch.equal(seen[0], wanted.float() / 255)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"degraded": Degraded("photo")}, f"'photo' is not one of {', '.join(PRESETS)}"),
        ({"degraded": Degraded("real", -1)}, "seed -1"),
        ({"degraded": Degraded("real"), "jpeg": 75}, "leave out"),
        ({"degraded": Degraded("real"), "lr": "clamp"}, "leave out"),
    ],
)
def test_what_is_refused(tmp_path, settings, says):
    save(tmp_path / "a.png", photo(48, 50))
    with pytest.raises(InputError, match=says):
        find_dataset(tmp_path, 2, **settings)
