"""Which images are read, and how samples are cut from them."""

import itertools
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.errors import DataError
from hat_sr.image.resize import imresize
from hat_sr.train.config import DataConfig, FolderConfig
from hat_sr.train.data import PatchDataset, crop_pair, open_data, read_folder
from train.small import make_photos, photo, save_png


def _tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@st.composite
def crops(draw):
    scale = draw(st.sampled_from([1, 2, 3, 4, 8]))
    patch_size = draw(st.integers(1, 6))
    height, width = (patch_size * scale + draw(st.integers(0, 14 * scale)) for _ in range(2))
    corners = []
    for side in (height, width):
        last = side // scale - patch_size
        corners.append(draw(st.one_of(st.just(0), st.just(last), st.integers(0, last))))
    return scale, patch_size, height, width, *corners, draw(st.integers(0, 1000))


@given(crops())
@settings(max_examples=150, deadline=None)
def test_a_crop_equals_the_crop_of_the_whole(crop):
    scale, size, height, width, top, left, seed = crop
    whole_hr = _tensor(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    whole_hr = whole_hr[:, : height // scale * scale, : width // scale * scale]
    whole_lr = imresize(whole_hr, 1 / scale) if scale > 1 else whole_hr
    lr, hr = crop_pair(whole_hr, top, left, patch_size=size, scale=scale)
    assert torch.equal(lr, whole_lr[:, top : top + size, left : left + size])
    top, left, size = top * scale, left * scale, size * scale
    assert torch.equal(hr, whole_hr[:, top : top + size, left : left + size])


def test_what_is_beyond_the_last_whole_low_resolution_pixel_does_not_matter():
    image = _tensor(photo(26, 31))
    cut = image[:, :24, :30]
    for expected, got in zip(
        crop_pair(cut, 4, 6, patch_size=4, scale=3), crop_pair(image, 4, 6, patch_size=4, scale=3), strict=True
    ):
        assert torch.equal(expected, got)


def _dataset(*, scale=2, patch_size=4, seed=0, sizes=((20, 30), (33, 17))):
    images = [_tensor(photo(*size, seed=number)) for number, size in enumerate(sizes)]
    return PatchDataset(images, scale=scale, patch_size=patch_size, seed=seed)


def test_a_sample_depends_on_seed_and_index_alone():
    one, other = _dataset(), _dataset()
    expected = {index: one[index] for index in range(6)}
    for index in (5, 0, 3, 3, 1):
        torch.manual_seed(index)
        np.random.seed(index)  # noqa: NPY002 (that it does not matter)
        assert all(map(torch.equal, other[index], expected[index]))
    assert not torch.equal(_dataset(seed=1)[0][1], one[0][1])
    for index, next_one in itertools.pairwise(range(6)):
        assert not torch.equal(expected[index][1], expected[next_one][1])


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_samples_are_floats_of_the_right_size(scale):
    lr, hr = _dataset(scale=scale)[0]
    assert (lr.shape, hr.shape) == ((3, 4, 4), (3, 4 * scale, 4 * scale))
    assert lr.dtype == hr.dtype == torch.float32
    assert 0 <= min(lr.min(), hr.min()) <= max(lr.max(), hr.max()) <= 1
    assert torch.equal(hr * 255, (hr * 255).round())


def test_both_of_a_pair_are_turned_alike():
    dataset = _dataset(scale=1)
    for lr, hr in (dataset[index] for index in range(32)):
        assert torch.equal(lr, hr)


def test_all_eight_flips_and_turns_occur():
    """Of an image with one place to cut: each view, and no other."""
    dataset = _dataset(scale=1, patch_size=6, sizes=((6, 6),))
    image = dataset.images[0].float() / 255
    views = [torch.rot90(x, turns, (1, 2)) for x in (image, image.flip(2)) for turns in range(4)]
    seen = [next(i for i, view in enumerate(views) if torch.equal(dataset[index][1], view)) for index in range(80)]
    assert set(seen) == set(range(8))


def test_every_place_can_be_cut_including_the_last():
    dataset = _dataset(scale=1, patch_size=2, sizes=((3, 4),))
    codes = torch.arange(12, dtype=torch.uint8).view(3, 4)
    dataset.images[0] = codes.expand(3, -1, -1)
    smallest = {int((dataset[index][1][0] * 255).min().round()) for index in range(200)}
    assert smallest == {0, 1, 2, 4, 5, 6}


def test_images_are_equally_likely_whatever_their_size():
    dataset = PatchDataset(
        [torch.full((3, 10, 10), 10, dtype=torch.uint8), torch.full((3, 10, 30), 30, dtype=torch.uint8)],
        scale=1,
        patch_size=2,
        seed=0,
    )
    large = sum(float(dataset[index][1].mean()) > 0.1 for index in range(800))
    assert large / 800 == pytest.approx(0.5, abs=0.05)


def _open(root, *, first_step=0, total_steps=4, **changes):
    config = DataConfig(root=str(root), folders=(FolderConfig(path="photos"),), patch_size=4, batch_size=3, **changes)
    return open_data(config, scale=2, seed=3, first_step=first_step, total_steps=total_steps)


def _equal(batches, others):
    return all(all(map(torch.equal, one, other)) for one, other in zip(batches, others, strict=True))


def test_batches_are_those_of_the_steps(tmp_path):
    make_photos(tmp_path)
    batches = list(_open(tmp_path))
    assert [tuple(x.shape) for x in batches[0]] == [(3, 3, 4, 4), (3, 3, 8, 8)]
    assert len(batches) == len(_open(tmp_path)) == 4
    assert _equal(batches[2:], list(_open(tmp_path, first_step=2)))
    assert not list(_open(tmp_path, first_step=4))


def test_workers_do_not_change_the_samples(tmp_path):
    make_photos(tmp_path)
    assert _equal(list(_open(tmp_path)), list(_open(tmp_path, num_workers=1)))


def test_images_are_read_in_the_order_of_their_names(tmp_path):
    for name, seed in (("b.png", 1), ("a.png", 0), ("sub/c.png", 2)):
        save_png(tmp_path / "photos" / name, photo(12, 12, seed))
    images = read_folder(FolderConfig(path="photos"), tmp_path, smallest=8)
    assert len(images) == 3
    for seed, image in enumerate(images):
        assert torch.equal(image, _tensor(photo(12, 12, seed)))


def test_files_that_cannot_be_used_are_left_out_and_reported(tmp_path, caplog):
    folder = tmp_path / "photos"
    save_png(folder / "good.png", photo(20, 20))
    save_png(folder / "gray.png", photo(20, 20)[..., :1])
    save_png(folder / "small.png", photo(20, 7))
    save_png(folder / "alpha.png", np.dstack([photo(20, 20), photo(20, 20)[..., 0]]))
    save_png(folder / "deep.png", photo(20, 20).astype(np.uint16) * 257)
    cut = save_png(folder / "cut.png", photo(20, 20))
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    save_png(folder / "shown.png", photo(20, 20))
    with caplog.at_level(logging.WARNING):
        images = read_folder(FolderConfig(path="photos", exclude=("shown.png",)), tmp_path, smallest=8)
    assert [tuple(image.shape) for image in images] == [(3, 20, 20), (3, 20, 20)]
    gray = _tensor(photo(20, 20)[..., :1]).expand(3, -1, -1)
    assert torch.equal(images[1], gray)
    told = [record.getMessage() for record in caplog.records if record.name == "hat_sr.train.data"]
    for name in ("small.png", "alpha.png", "deep.png", "cut.png", "notes.txt"):
        assert len([message for message in told if name in message]) == 1, name
    assert len(told) == 5


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (30, 50)),
        ({"shrink": 2.0}, (15, 25)),
        ({"max_width": 40}, (22, 38)),
        ({"max_width": 50}, (30, 50)),
        ({"shrink": 2.0, "max_width": 20}, (11, 19)),
    ],
    ids=str,
)
def test_images_are_made_smaller_first(tmp_path, settings, size):
    save_png(tmp_path / "photos" / "a.png", photo(30, 50))
    (image,) = read_folder(FolderConfig(path="photos", **settings), tmp_path, smallest=8)
    assert image.shape == (3, *size)
    assert image.dtype == torch.uint8
    assert image.double().mean().item() == pytest.approx(photo(30, 50).mean(), abs=3)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (FolderConfig(path="photos", exclude=("0.png", "none.png")), "none.png"),
        (FolderConfig(path="nowhere"), "nowhere does not exist or is empty"),
        (FolderConfig(path="photos", exclude=("0.png", "1.png", "2.png")), "no image that could be used"),
    ],
    ids=str,
)
def test_data_that_is_not_as_the_recipe_says(tmp_path, config, says):
    make_photos(tmp_path)
    with pytest.raises(DataError, match=says):
        read_folder(config, tmp_path, smallest=8)
