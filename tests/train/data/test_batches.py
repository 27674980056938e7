"""How samples are cut, which sample is which, and what becomes of images that cannot be used."""

import itertools
import logging
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hat_sr.errors import ConfigError, DataError
from hat_sr.image.io import Image, write_image
from hat_sr.image.resize import imresize
from hat_sr.train.config import DataConfig, SourceConfig
from hat_sr.train.data.batches import PatchDataset, open_data
from hat_sr.train.data.patches import crop_pair
from hat_sr.train.data.reading import Picture
from train.small import make_photos, photo, save_png

# A machine with fewer processors than worker processes is warned of by torch.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def _tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class _Pictures:
    """A source of pictures that are there already."""

    where = "memory"

    def __init__(self, *pictures):
        self.pictures = [picture if isinstance(picture, Picture) else Picture(picture) for picture in pictures]

    def __len__(self):
        return len(self.pictures)

    def name(self, index):
        return str(index)

    def read(self, index):
        return self.pictures[index]


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
    return PatchDataset(_Pictures(*images), scale=scale, patch_size=patch_size, seed=seed)


def test_a_sample_depends_on_seed_and_index_alone():
    one, other = _dataset(), _dataset()
    expected = {index: one[index] for index in range(6)}
    for index in (5, 0, 3, 3, 1):
        torch.manual_seed(index)
        np.random.seed(index)  # noqa: NPY002 (that it does not matter)
        sample = other[index]
        assert torch.equal(sample.lr, expected[index].lr)
        assert torch.equal(sample.hr, expected[index].hr)
        assert sample.name == expected[index].name
    assert not torch.equal(_dataset(seed=1)[0].hr, one[0].hr)
    for index, next_one in itertools.pairwise(range(6)):
        assert not torch.equal(expected[index].hr, expected[next_one].hr)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_samples_are_floats_of_the_right_size(scale):
    lr, hr, *_ = _dataset(scale=scale)[0]
    assert (lr.shape, hr.shape) == ((3, 4, 4), (3, 4 * scale, 4 * scale))
    assert lr.dtype == hr.dtype == torch.float32
    assert 0 <= min(lr.min(), hr.min()) <= max(lr.max(), hr.max()) <= 1
    assert torch.equal(hr * 255, (hr * 255).round())


def test_both_of_a_pair_are_turned_alike():
    dataset = _dataset(scale=1)
    for sample in (dataset[index] for index in range(32)):
        assert torch.equal(sample.lr, sample.hr)


def test_a_given_low_resolution_image_is_cut_where_the_other_is():
    """The low-resolution image holds the first of every 3×3 pixels, so the patches must, however they are turned."""
    hr = _tensor(
        np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)[::3, ::3].repeat(3, 0).repeat(3, 1)
    )
    dataset = PatchDataset(_Pictures(Picture(hr, hr[:, ::3, ::3])), scale=3, patch_size=4, seed=0)
    for sample in (dataset[index] for index in range(24)):
        assert sample.lr.shape == (3, 4, 4)
        assert torch.equal(sample.lr.repeat_interleave(3, 1).repeat_interleave(3, 2), sample.hr)


def test_all_eight_flips_and_turns_occur():
    """Of an image with one place to cut: each view, and no other."""
    dataset = _dataset(scale=1, patch_size=6, sizes=((6, 6),))
    image = dataset.source.read(0).hr.float() / 255
    views = [torch.rot90(x, turns, (1, 2)) for x in (image, image.flip(2)) for turns in range(4)]
    seen = [next(i for i, view in enumerate(views) if torch.equal(dataset[index].hr, view)) for index in range(80)]
    assert set(seen) == set(range(8))


def test_every_place_can_be_cut_including_the_last():
    codes = torch.arange(12, dtype=torch.uint8).view(3, 4)
    dataset = PatchDataset(_Pictures(codes.expand(3, -1, -1)), scale=1, patch_size=2, seed=0)
    smallest = {int((dataset[index].hr[0] * 255).min().round()) for index in range(200)}
    assert smallest == {0, 1, 2, 4, 5, 6}


def test_images_are_equally_likely_whatever_their_size():
    source = _Pictures(torch.full((3, 10, 10), 10, dtype=torch.uint8), torch.full((3, 10, 30), 30, dtype=torch.uint8))
    dataset = PatchDataset(source, scale=1, patch_size=2, seed=0)
    large = sum(dataset[index].name == "1" for index in range(800))
    assert large / 800 == pytest.approx(0.5, abs=0.05)


def _config(root, **changes):
    return DataConfig(
        **{"root": str(root), "sources": (SourceConfig(path="photos"),), "patch_size": 4, "batch_size": 4} | changes
    )


def _open(root, *, first_step=0, total_steps=4, rank=0, num_ranks=1, **changes):
    return open_data(
        _config(root, **changes),
        scale=2,
        seed=3,
        first_step=first_step,
        total_steps=total_steps,
        rank=rank,
        num_ranks=num_ranks,
    )


def assert_same_batches(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        assert torch.equal(one.lr, other.lr)
        assert torch.equal(one.hr, other.hr)
        assert (one.names, one.skipped) == (other.names, other.skipped)


def test_batches_are_those_of_the_steps(tmp_path):
    make_photos(tmp_path)
    batches = list(_open(tmp_path))
    assert (batches[0].lr.shape, batches[0].hr.shape) == ((4, 3, 4, 4), (4, 3, 8, 8))
    assert set(batches[0].names) <= {f"{tmp_path}/photos/{number}.png" for number in range(3)}
    assert len(batches[0].names) == 4
    assert len(batches) == len(_open(tmp_path)) == 4
    assert_same_batches(batches[2:], _open(tmp_path, first_step=2))
    assert not list(_open(tmp_path, first_step=4))
    assert not list(_open(tmp_path, first_step=5))


@pytest.mark.parametrize(
    "changes", [{"num_workers": 1}, {"in_memory": True}, {"in_memory": True, "num_workers": 2}], ids=str
)
def test_neither_workers_nor_memory_change_the_samples(tmp_path, changes):
    make_photos(tmp_path)
    assert_same_batches(_open(tmp_path), _open(tmp_path, **changes))


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_the_shares_of_all_processes_in_order_are_the_batch_of_one(tmp_path, num_ranks):
    make_photos(tmp_path)
    save_png(tmp_path / "photos" / "small.png", photo(5, 5))
    shares = [list(_open(tmp_path, first_step=1, rank=rank, num_ranks=num_ranks)) for rank in range(num_ranks)]
    for step, whole in enumerate(_open(tmp_path, first_step=1)):
        assert torch.equal(whole.lr, torch.cat([share[step].lr for share in shares]))
        assert torch.equal(whole.hr, torch.cat([share[step].hr for share in shares]))
        assert whole.names == sum((share[step].names for share in shares), ())
        assert whole.skipped == sum((share[step].skipped for share in shares), ())


def test_a_batch_that_cannot_be_shared(tmp_path):
    make_photos(tmp_path)
    with pytest.raises(ConfigError, match="batch_size 4 cannot be shared by 3 processes"):
        _open(tmp_path, num_ranks=3)


def _told(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "hat_sr.train.data.batches"]


def make_unusable(folder):
    """Files of each kind that cannot be used at 8 pixels a side; their names."""
    save_png(folder / "small.png", photo(20, 7))
    save_png(folder / "alpha.png", np.dstack([photo(20, 20), photo(20, 20)[..., 0]]))
    save_png(folder / "deep.png", photo(20, 20).astype(np.uint16) * 257)
    cut = save_png(folder / "cut.png", photo(20, 20))
    cut.write_bytes(cut.read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    return {"small.png", "alpha.png", "deep.png", "cut.png", "notes.txt"}


@pytest.mark.parametrize("changes", [{"in_memory": True}, {}, {"num_workers": 2}], ids=str)
def test_images_that_cannot_be_used_are_reported_once(tmp_path, caplog, changes):
    make_photos(tmp_path)
    unusable = make_unusable(tmp_path / "photos")
    with caplog.at_level(logging.WARNING):
        batches = list(_open(tmp_path, total_steps=20, **changes))
    assert sorted(unusable) == sorted(name for message in _told(caplog) for name in unusable if f"/{name}" in message)
    used = {name.rpartition("/")[2] for batch in batches for name in batch.names}
    assert used == {"0.png", "1.png", "2.png"}
    assert bool(sum(len(batch.skipped) for batch in batches)) == (not changes.get("in_memory"))


def test_another_image_is_drawn_the_same_way_every_time(tmp_path):
    make_photos(tmp_path)
    make_unusable(tmp_path / "photos")
    batches = list(_open(tmp_path))
    assert any(batch.skipped for batch in batches)
    assert_same_batches(batches[2:], _open(tmp_path, first_step=2))
    assert_same_batches(batches, _open(tmp_path, num_workers=2))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_of_which_nothing_can_be_used(tmp_path, num_workers):
    """From a worker process too it is our own error, in a sentence."""
    save_png(tmp_path / "photos" / "small.png", photo(7, 20))
    with pytest.raises(DataError, match="100 images drawn in turn") as caught:
        list(_open(tmp_path, num_workers=num_workers))
    assert "small.png is 20×7: a side is below 8 pixels" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    with pytest.raises(DataError, match="no image that could be used"):
        _open(tmp_path, in_memory=True)


def test_the_images_of_all_sources_are_drawn(tmp_path):
    make_photos(tmp_path)
    save_png(tmp_path / "more" / "a.png", photo(20, 20))
    sources = (SourceConfig(path="photos"), SourceConfig(path="more", exclude=("b.png",)))
    with pytest.raises(DataError, match=r"does not hold b\.png"):
        _open(tmp_path, sources=sources)
    batches = list(_open(tmp_path, total_steps=100, sources=(sources[0], SourceConfig(path="more"))))
    share = np.mean([name.endswith("more/a.png") for batch in batches for name in batch.names])
    assert share == pytest.approx(1 / 4, abs=0.06)


def _run(code):
    """In a process of its own: one that hangs is stopped."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": "tests"},
        stdout=subprocess.PIPE,
        text=True,
    )
    return run.stdout


def test_a_worker_process_that_is_killed(tmp_path):
    make_photos(tmp_path)
    told = _run(f"""
import multiprocessing, os, signal
from hat_sr.errors import DataError
from train.data.test_batches import _open
try:
    for _ in _open({str(tmp_path)!r}, total_steps=10**6, num_workers=1):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
except DataError as error:
    print(error)
""")
    assert told.startswith("a process that prepares samples ended (")
    assert "lower data.num_workers" in told


def test_worker_processes_leave_signals_to_the_main_process(tmp_path):
    make_photos(tmp_path)
    batches = iter(_open(tmp_path, total_steps=12, num_workers=1))
    first = next(batches)
    (worker,) = torch.multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    assert_same_batches([first, *batches], _open(tmp_path, total_steps=12))


def test_worker_processes_read_after_the_main_process_has(tmp_path):
    """OpenImageIO reads large TIFF and EXR in threads, which a forked process does not have."""
    make_photos(tmp_path)
    write_image(tmp_path / "photos" / "large.tif", Image(photo(1500, 1500)))
    _run(f"""
import OpenImageIO as oiio
from hat_sr.image.io import read_image
from train.data.test_batches import _open
oiio.attribute("threads", 4)
read_image({str(tmp_path / "photos" / "large.tif")!r})
names = [name for batch in _open({str(tmp_path)!r}, num_workers=1) for name in batch.names]
assert any(name.endswith("large.tif") for name in names)
assert oiio.get_int_attribute("threads") == 4
""")
