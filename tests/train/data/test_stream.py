"""Samples from tar shards: which are read by whom, and what cannot be."""

import io
import logging
import tarfile

import pytest
import torch

from hat_sr.errors import ConfigError, DataError
from hat_sr.train.config import DataConfig, SourceConfig
from hat_sr.train.data.batches import open_data
from train.small import photo, save_png

# A machine with fewer processors than worker processes is warned of by torch.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def _shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.fixture
def root(tmp_path):
    """Four shards of three images; another file beside each image, as classes are."""
    for shard in range(4):
        files = {}
        for number in range(3):
            key = f"n01/{shard}{number}"
            files[f"{key}.cls"] = b"7"
            files[f"{key}.png"] = save_png(tmp_path / "image.png", photo(20, 20, number)).read_bytes()
        _shard(tmp_path / f"{shard}.tar", files)
    return tmp_path


def _open(root, *, path="{0..3}.tar", total_steps=6, first_step=0, rank=0, num_ranks=1, seed=0, **changes):
    source = SourceConfig(path=path, kind="webdataset")
    settings = {"root": str(root), "sources": (source,), "patch_size": 4, "batch_size": 2} | changes
    return open_data(
        DataConfig(**settings),
        scale=2,
        seed=seed,
        first_step=first_step,
        total_steps=total_steps,
        rank=rank,
        num_ranks=num_ranks,
    )


def _names(batches):
    return [name.partition(".tar/")[2] for batch in batches for name in batch.names]


ALL = sorted(f"n01/{shard}{number}.png" for shard in range(4) for number in range(3))


def test_batches(root):
    batches = list(_open(root))
    assert len(batches) == len(_open(root)) == 6
    assert (batches[0].lr.shape, batches[0].hr.shape) == ((2, 3, 4, 4), (2, 3, 8, 8))
    assert batches[0].hr.dtype == torch.float32
    assert batches[0].skipped == ()


def test_it_goes_round_in_another_order_each_time(root):
    names = _names(_open(root, total_steps=300))
    assert set(names) == set(ALL)
    # The buffer holds more than there is here, so that an image can be late; not often.
    assert all(30 <= names.count(name) <= 70 for name in ALL)
    assert names[:12] != names[12:24]


def test_it_depends_on_seed_and_first_step(root):
    names = _names(_open(root))
    assert _names(_open(root)) == names
    assert _names(_open(root, seed=1)) != names
    assert _names(_open(root, first_step=1, total_steps=7)) != names
    assert not list(_open(root, first_step=6))


def test_processes_and_workers_share_the_shards(root):
    """Each shard is read by one of them in each round, here the first."""
    read = []
    for rank in range(2):
        for batch in _open(root, rank=rank, num_ranks=2, num_workers=2, total_steps=2, batch_size=4):
            assert len(batch.names) == 2
            read.append({name.partition(".tar/")[0] for name in batch.names})
    assert len(read) == 4


def test_that_it_is_no_function_of_the_number_is_said_once(root, caplog):
    with caplog.at_level(logging.WARNING):
        list(_open(root))
        _open(root, batch_size=2, rank=1, num_ranks=2)
    assert len([record for record in caplog.records if "read as a stream" in record.getMessage()]) == 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_cannot_be_read_is_reported_once(root, caplog, num_workers):
    good = save_png(root / "image.png", photo(20, 20)).read_bytes()
    small = save_png(root / "image.png", photo(20, 7)).read_bytes()
    _shard(root / "4.tar", {"cut.png": good[:300], "small.png": small, "text.txt": b"no image", "good.png": good})
    whole = (root / "0.tar").read_bytes()
    (root / "0.tar").write_bytes(whole[: len(whole) // 2])
    (root / "3.tar").write_bytes(b"no tar file")
    with caplog.at_level(logging.WARNING):
        batches = list(_open(root, path="{0..4}.tar", total_steps=60, num_workers=num_workers))
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    for what in (
        "4.tar/cut.png",
        "4.tar/small.png",
        "4.tar/text has no image",
        "/3.tar cannot be read",
        "/0.tar cannot be read",
    ):
        assert len([message for message in told if what in message]) == 1, (what, told)
    assert "n01/10.png" in _names(batches)
    assert "good.png" in _names(batches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_shards_of_which_nothing_can_be_used(root, num_workers):
    (root / "bad.tar").write_bytes(b"no tar file")
    with pytest.raises(DataError, match=r"no image could be read from .*bad\.tar"):
        list(_open(root, path="bad.tar", num_workers=num_workers))
    small = save_png(root / "image.png", photo(20, 7)).read_bytes()
    _shard(root / "small.tar", {"a.png": small})
    with pytest.raises(DataError, match=r"100 images in turn .*a\.png is 7×20"):
        list(_open(root, path="small.tar", num_workers=num_workers))


def test_what_is_refused_before_anything_is_read(root):
    with pytest.raises(DataError, match=r"2 of 6 shards do not exist, such as .*4\.tar"):
        _open(root, path="{0..5}.tar")
    with pytest.raises(ConfigError, match="has 4 shards, too few for 6 readers"):
        _open(root, num_workers=3, num_ranks=2)
    with pytest.raises(ConfigError, match="cannot be kept in memory"):
        _open(root, in_memory=True)


@pytest.mark.parametrize(
    "path",
    [
        "pipe:touch made",
        "pipe://touch made",
        "{pipe:touch made,}",
        "PIPE://x",
        "http://a/$(touch made)",
        "ftp://a/b.tar",
    ],
)
def test_a_recipe_runs_no_command_through_a_shard(root, monkeypatch, path):
    monkeypatch.chdir(root)
    with pytest.raises((ConfigError, DataError), match=r"is not read|do not exist"):
        _open(root, path=path)
    assert not (root / "made").exists()


def test_a_shard_whose_name_looks_like_an_address_is_a_file(root, monkeypatch):
    monkeypatch.chdir(root)
    (root / "0.tar").rename("touch:made.tar")
    assert len(_names(_open(root, path="touch:made.tar"))) == 12


@pytest.mark.parametrize("path", ["{0..99999999999}.tar", "{0..9999}{0..9999}.tar", "{0..3.tar", "{" * 5000])
def test_patterns_that_cannot_be(root, path):
    with pytest.raises((ConfigError, DataError), match=r"pattern of shards|do not exist"):
        _open(root, path=path)
