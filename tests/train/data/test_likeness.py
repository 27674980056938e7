import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hat_sr.image.jpeg import through_jpeg
from hat_sr.train.data.likeness import ALIKE_BITS, distances, perceptual_hashes
from train.data.make_hashes import BENCHMARKS, TRAINING
from train.small import stages_of

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("hat-x*s-*.toml"))


def picture(seed):
    """Smooth, like a photograph: a few random waves."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=random)
    return (F.interpolate(coarse, size=(96, 128), mode="bicubic").clamp(0, 1)[0] * 255).to(torch.uint8)


def bits(one, other):
    return distance(perceptual_hashes(one, 1), perceptual_hashes(other))


def distance(hashes, views):
    return distances(np.array(hashes, np.uint64), views).min()


CHANGES = {
    "jpeg": lambda x: through_jpeg(x, quality=50),
    "smaller": lambda x: F.interpolate(x[None], size=(41, 57), mode="bilinear", antialias=True)[0],
    "brighter": lambda x: (x * 0.7 + 70).to(torch.uint8),
    "flipped": lambda x: x.flip(-1),
    "turned": lambda x: x.rot90(1, (-2, -1)),
    "turned and flipped": lambda x: x.rot90(3, (-2, -1)).flip(-1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_picture(change):
    for seed in range(5):
        assert bits(CHANGES[change](picture(seed)), picture(seed)) <= ALIKE_BITS


def test_other_pictures():
    for one, other in itertools.combinations(range(8), 2):
        assert bits(picture(one), picture(other)) > ALIKE_BITS


def test_a_flat_picture_has_a_hash():
    assert len(perceptual_hashes(torch.full((3, 5, 1), 9, dtype=torch.uint8))) == 8


@pytest.fixture(scope="module")
def hashes():
    """Of the images of training and of benchmarks, as make_hashes.py wrote them."""
    lines = Path(__file__).with_name("hashes.tsv").read_text(encoding="utf-8").splitlines()
    return {name: [int(one, 16) for one in values] for name, *values in (line.split("\t") for line in lines)}


def test_there_is_a_hash_for_every_image(hashes):
    numbers = [sum(name.startswith(f"{folder}/") for name in hashes) for folder in (*TRAINING, *BENCHMARKS)]
    assert numbers == [91, 400, 73, 111, 5, 14, 100]


@pytest.fixture(scope="module")
def alike(hashes):
    """Each image of training with each image of a benchmark that it is alike."""
    training = [name for name in hashes if name.startswith(tuple(f"{folder}/" for folder in TRAINING))]
    first_views = np.array([hashes[name][0] for name in training], np.uint64)
    assert all(len(hashes[name]) == 1 for name in training)
    return {
        (training[index], other)
        for other, views in hashes.items()
        if other.startswith(BENCHMARKS)
        for index in np.flatnonzero(distances(first_views, views) <= ALIKE_BITS)
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_bundled_network_is_trained_on_a_benchmark(path, hashes, alike):
    sources = {  # what a teacher answered is cut from the images of another recipe
        source.path: source.exclude
        for recipe in stages_of(path).values()
        for source in recipe.data.sources
        if source.teacher_path is None
    }
    assert set(sources) <= set(TRAINING)
    for folder, exclude in sources.items():
        used = [name for name in hashes if name.startswith(f"{folder}/") and Path(name).name not in exclude]
        assert used
        assert {(name, other) for name, other in alike if name in set(used)} == set()


def test_the_one_image_that_is_left_out_for_it(alike):
    """BSDS500's 302003 is Set5's woman: if this fails, the test above cannot find anything."""
    assert ("BSDS400/302003.jpg", "Set5/GT/woman.png") in alike
