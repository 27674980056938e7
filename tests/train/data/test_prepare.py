"""Images cut and stored, in one go or several; and checked."""

import json
import multiprocessing
import os
import shutil
import signal
import tarfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from hat_sr.errors import ConfigError, HatError
from hat_sr.train.config import SourceConfig
from hat_sr.train.data import store as store_module
from hat_sr.train.data.check import check_source, find_duplicates
from hat_sr.train.data.prepare import PrepareConfig, prepare, unique_names, windows
from hat_sr.train.data.sources import FolderSource, open_source
from hat_sr.train.data.store import JOURNAL
from hat_sr.train.data.stream import list_shards, read_shards
from train.data.test_batches import make_unusable
from train.small import make_photos, photo, save_png

KINDS = ("folder", "lmdb", "webdataset")


def _tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _prepare(root, *, destination="out", source="photos", on_progress=None, exclude=(), described=None, **settings):
    images = FolderSource(root / source, exclude=exclude)
    described = described or {"source": source}
    return prepare(
        images, root / destination, PrepareConfig(**settings), described_as=described, on_progress=on_progress
    )


def _stored(root, kind, num_shards=1):
    """Name and picture of all that was stored, as a training reads it; and no name twice."""
    if kind == "webdataset":
        shards = [str(root / f"out/{number:06d}.tar") for number in range(num_shards)]
        assert sorted(map(str, (root / "out").glob("*.tar"))) == shards
        unusable = []
        files = {}
        for shard in shards:
            for name, data in read_shards([shard], unusable=unusable):
                name = name.removeprefix(f"{shard}/")
                assert name not in files
                files[name] = data
        assert unusable == []
        for name, data in files.items():
            path = root / "unpacked" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        source = FolderSource(root / "unpacked")
    else:
        source = open_source(SourceConfig(path="out", kind=kind), root, scale=1)
    pictures = {source.name(index): source.read(index).hr for index in range(len(source))}
    assert len(pictures) == len(source)
    return pictures


def _assert_same(pictures, expected):
    assert sorted(pictures) == sorted(expected)
    for name, picture in pictures.items():
        assert torch.equal(picture, expected[name]), name


WHOLE = {f"{number}.png": _tensor(photo(*size, number)) for number, size in enumerate([(40, 56), (33, 64), (48, 31)])}
"""What make_photos makes."""


def _parts(crop, step):
    config = PrepareConfig(crop=crop, step=step)
    return {
        f"{name.removesuffix('.png')}_s{number:03d}.png": image[:, top : top + height, left : left + width]
        for name, image in WHOLE.items()
        for number, (top, left, height, width) in enumerate(windows(*image.shape[1:], config), start=1)
    }


def test_windows():
    config = PrepareConfig(crop=480, step=240)
    assert list(windows(480, 480, config)) == [(0, 0, 480, 480)]
    assert [left for _, left, _, _ in windows(480, 960, config)] == [0, 240, 480]
    assert [left for _, left, _, _ in windows(480, 1000, config)] == [0, 240, 480, 520]
    assert list(windows(500, 481, config)) == [(top, left, 480, 480) for top in (0, 20) for left in (0, 1)]
    assert list(windows(300, 400, config)) == [(0, 0, 300, 400)]
    assert list(windows(300, 500, config)) == [(0, 0, 300, 480), (0, 20, 300, 480)]
    assert list(windows(300, 400, PrepareConfig())) == [(0, 0, 300, 400)]
    assert list(windows(480, 960, PrepareConfig(crop=480))) == list(windows(480, 960, config))


def test_every_pixel_is_in_a_window():
    config = PrepareConfig(crop=7, step=5)
    for height, width in ((7, 7), (8, 20), (3, 31), (19, 22)):
        seen = np.zeros((height, width), int)
        for top, left, tall, wide in windows(height, width, config):
            assert (tall, wide) == (min(7, height), min(7, width))
            seen[top : top + tall, left : left + wide] += 1
        assert seen.min() >= 1


def test_names_are_unique():
    names = ["a.jpg", "a.png", "a_jpg.png", "n01/a.jpg", "n01/x.y.jpg", "n.02/b", "c.d.png", "c_d.png"]
    assert unique_names(names) == [
        "a_jpg_",
        "a_png",
        "a_jpg",
        "n01/a",
        "n01/x_y",
        "n.02/b",
        "c_d_png",
        "c_d_png_",
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("crop", [None, 32])
def test_what_is_stored_is_what_was_there(tmp_path, kind, crop):
    make_photos(tmp_path)
    done = _prepare(tmp_path, to=kind, crop=crop)
    expected = WHOLE if crop is None else _parts(32, 16)
    _assert_same(_stored(tmp_path, kind), expected)
    assert (done.num_images, done.num_done_before, done.num_pieces) == (3, 0, len(expected))
    assert done.unusable == ()
    assert not [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(store_module.PART_PREFIX)]


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_class_folders_keep_apart(tmp_path, kind):
    expected = {}
    for number, name in enumerate(("n01/a", "n02/a", "n02/a_s001")):
        save_png(tmp_path / "photos" / f"{name}.png", photo(9, 9, number))
        expected[f"{name}_s001.png"] = _tensor(photo(9, 9, number))
    _prepare(tmp_path, to=kind, crop=9)
    _assert_same(_stored(tmp_path, kind), expected)


def test_shards_are_closed_when_they_are_full(tmp_path):
    make_photos(tmp_path)
    done = _prepare(tmp_path, to="webdataset", crop=32, shard_bytes=1000)
    assert done.num_shards == 3
    _assert_same(_stored(tmp_path, "webdataset", 3), _parts(32, 16))
    config = SourceConfig(path="out/{000000..000002}.tar", kind="webdataset")
    assert [
        len({name.rpartition("/")[2][0] for name, _ in read_shards([shard], unusable=[])})
        for shard in list_shards(config, tmp_path)
    ] == [1, 1, 1]


def test_meta_info_is_as_basicsr_has_it(tmp_path):
    make_photos(tmp_path)
    _prepare(tmp_path, to="lmdb")
    lines = (tmp_path / "out" / "meta_info.txt").read_text().splitlines()
    assert lines == ["0.png (40,56,3) 1", "1.png (33,64,3) 1", "2.png (48,31,3) 1"]


def test_a_database_grows(tmp_path, monkeypatch):
    opened = lmdb.open
    monkeypatch.setattr(lmdb, "open", lambda path, **settings: opened(path, **settings | {"map_size": 40_000}))
    monkeypatch.setattr(store_module, "_BATCH_BYTES", 1)
    make_photos(tmp_path)
    _prepare(tmp_path, to="lmdb", crop=32)
    monkeypatch.undo()
    _assert_same(_stored(tmp_path, "lmdb"), _parts(32, 16))


class _StopError(Exception):
    pass


def _stop_at(at):
    def stop(number, total):
        if number == at:
            raise _StopError

    return stop


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_is_not_done_again(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(store_module, "_BATCH_BYTES", 1)
    make_photos(tmp_path)
    settings = {"to": kind, "crop": 32, "shard_bytes": 1}
    with pytest.raises(_StopError):
        _prepare(tmp_path, **settings, on_progress=_stop_at(2))
    read = []
    monkeypatch.setattr(
        FolderSource, "read", lambda self, index, read_it=FolderSource.read: read.append(index) or read_it(self, index)
    )
    done = _prepare(tmp_path, **settings)
    assert (len(read), done.num_done_before, done.num_images) == (1, 2, 3)
    _assert_same(_stored(tmp_path, kind, 3), _parts(32, 16))
    read.clear()
    again = _prepare(tmp_path, **settings)
    assert (read, again.num_done_before, again.num_pieces) == ([], 3, done.num_pieces)


def _prepare_and_die(root, kind, die_before, number):
    """Killed as if by -9 when the journal is written, or a file renamed, for the n-th time."""
    calls = 0

    def dying(self, *words, call, **settings):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, *words, **settings)

    owner, name = die_before
    call = getattr(owner, name)
    setattr(owner, name, lambda self, *words, **settings: dying(self, *words, call=call, **settings))
    store_module._BATCH_BYTES = 1
    _prepare(root, to=kind, crop=32, shard_bytes=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["journal", "rename"])
def test_killed_at_any_moment_and_started_again(tmp_path, kind, where, monkeypatch):
    make_photos(tmp_path)
    context = multiprocessing.get_context("fork")
    die_before = (store_module.PreparedLog, "add") if where == "journal" else (Path, "replace")
    for number in (2, 1, 3):
        process = context.Process(target=_prepare_and_die, args=(tmp_path, kind, die_before, number))
        process.start()
        process.join(timeout=100)
        assert process.exitcode in (-signal.SIGKILL, 0)
    monkeypatch.setattr(store_module, "_BATCH_BYTES", 1)
    _prepare(tmp_path, to=kind, crop=32, shard_bytes=1)
    _assert_same(_stored(tmp_path, kind, 3), _parts(32, 16))
    left = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")}
    assert left == {JOURNAL}


def test_a_line_that_was_cut_short_counts_as_not_done(tmp_path):
    make_photos(tmp_path)
    _prepare(tmp_path)
    journal = tmp_path / "out" / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-10])
    assert _prepare(tmp_path).num_done_before == 2
    assert journal.read_bytes() == whole


ODD_LINES = (
    b"{no json",
    b"\x00" * 9,
    b"[1, 2]",
    b"[" * 100_000,
    b'{"image": 1, "made": []}',
    b'{"image": "1.png", "made": 7}',
    b'{"image": "1.png", "made": [["1.png", "33", 64]]}',
    b'{"image": "1.png"}',
    b"\xff\xfe",
)


@pytest.mark.parametrize("odd", ODD_LINES, ids=range(len(ODD_LINES)))
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_line_is_named_and_what_comes_after_it_counts(tmp_path, kind, odd, caplog):
    make_photos(tmp_path)
    _prepare(tmp_path, to=kind, shard_bytes=1)
    journal = tmp_path / "out" / JOURNAL
    settings, first, _, third = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join((settings, first, odd, third, b"")))
    done = _prepare(tmp_path, to=kind, shard_bytes=1)
    assert str(journal) in caplog.text and "left out" in caplog.text
    assert (done.num_images, done.num_done_before, done.num_pieces) == (3, 2, 3)
    if kind == "webdataset":  # none of the shards that are there is replaced
        assert len(list((tmp_path / "out").glob("*.tar"))) == 4
    else:
        _assert_same(_stored(tmp_path, kind), WHOLE)
    caplog.clear()
    assert _prepare(tmp_path, to=kind, shard_bytes=1).num_done_before == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_unusable_image_is_named_and_the_rest_goes_on(tmp_path, kind):
    make_photos(tmp_path)
    unusable = make_unusable(tmp_path / "photos") - {"small.png"}
    done = _prepare(tmp_path, to=kind)
    assert sorted(name for name in unusable for message in done.unusable if f"/{name}" in message) == sorted(unusable)
    _assert_same(_stored(tmp_path, kind), WHOLE | {"small.png": _tensor(photo(20, 7))})
    again = _prepare(tmp_path, to=kind)
    assert (again.num_done_before, sorted(again.unusable)) == (4, sorted(done.unusable))
    save_png(tmp_path / "photos" / "cut.png", photo(9, 9))
    assert len(_prepare(tmp_path, to=kind).unusable) == len(unusable) - 1


def test_a_name_too_long_for_a_database(tmp_path):
    folder = tmp_path / "photos" / ("d" * 200) / ("e" * 200) / ("f" * 100)
    save_png(folder / "a.png", photo(9, 9))
    save_png(tmp_path / "photos" / "b.png", photo(9, 9))
    done = _prepare(tmp_path, to="lmdb")
    assert "too long for the key of a database" in done.unusable[0]
    assert done.num_pieces == 1


def test_destinations_that_are_refused(tmp_path):
    make_photos(tmp_path)
    with pytest.raises(ConfigError, match=r"is in .*photos"):
        _prepare(tmp_path, destination="photos/out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        _prepare(tmp_path, destination="file")
    save_png(tmp_path / "other" / "a.png", photo(9, 9))
    with pytest.raises(ConfigError, match="is not empty"):
        _prepare(tmp_path, destination="other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["a.png"]
    _prepare(tmp_path)
    with pytest.raises(ConfigError, match="crop None then, 32 now"):
        _prepare(tmp_path, crop=32)
    with pytest.raises(ConfigError, match="source photos then, elsewhere now"):
        _prepare(tmp_path, described={"source": "elsewhere"})
    for text in ("{no json\n", "[1, 2]\n", "[" * 100_000 + "\n"):
        (tmp_path / "out" / JOURNAL).write_text(text)
        with pytest.raises(ConfigError, match="is damaged"):
            _prepare(tmp_path)


def test_one_at_a_time(tmp_path):
    make_photos(tmp_path)

    def second(number, total):
        with pytest.raises(ConfigError, match="another hat-sr data prepare is at work in"):
            _prepare(tmp_path)

    done = _prepare(tmp_path, on_progress=second)
    assert (done.num_images, done.num_done_before) == (3, 0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [JOURNAL, "0.png", "1.png", "2.png"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"crop": 0}, "crop 0 must be at least 1"),
        ({"crop": 5, "step": 0}, "step 0 must"),
        ({"step": 5}, "without crop"),
        ({"shard_bytes": 0}, "shard_bytes 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ConfigError, match=says):
        PrepareConfig(**settings)


def test_a_full_disk_ends_it_and_leaves_what_is_done(tmp_path, monkeypatch):
    make_photos(tmp_path)
    with pytest.raises(_StopError):
        _prepare(tmp_path, on_progress=_stop_at(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    with pytest.raises(HatError, match="0 MB free there"):
        _prepare(tmp_path)
    monkeypatch.undo()
    assert _prepare(tmp_path).num_done_before == 1
    _assert_same(_stored(tmp_path, "folder"), WHOLE)


@pytest.mark.parametrize("kind", KINDS)
def test_check(tmp_path, kind):
    make_photos(tmp_path)
    save_png(tmp_path / "photos" / "n01" / "0.png", photo(40, 56, 0))
    save_png(tmp_path / "photos" / "small.png", photo(9, 9))
    _prepare(tmp_path, to=kind)
    seen = []
    path = "out/000000.tar" if kind == "webdataset" else "out"
    check = check_source(
        SourceConfig(path=path, kind=kind),
        tmp_path,
        scale=2,
        smallest=16,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert sorted(zip(check.names, check.widths, check.heights, strict=True)) == sorted(
        (name if kind != "webdataset" else f"{tmp_path}/out/000000.tar/{name}", width, height)
        for name, width, height in (("0.png", 56, 40), ("1.png", 64, 33), ("2.png", 31, 48), ("n01/0.png", 56, 40))
    )
    assert len(check.unusable) == 1
    assert "small.png is 9×9: a side is below 16 pixels" in check.unusable[0]
    assert check.megapixels == pytest.approx((2 * 40 * 56 + 33 * 64 + 48 * 31) / 1e6)
    assert check.size_range == ((31, 56, 64), (33, 40, 48))
    assert seen == [(number, None if kind == "webdataset" else 5) for number in range(1, 6)]
    ((*names,),) = find_duplicates([check])
    assert sorted(names) == sorted(f"{check.where}/{name}" for name in check.names if name.endswith("0.png"))


def test_pictures_are_the_same_whatever_the_format_but_not_the_size(tmp_path):
    image = np.full((12, 20, 3), 7, np.uint8)
    for name in ("a.png", "b.bmp", "n01/c.tif"):
        save_png(tmp_path / "photos" / name, image)
    save_png(tmp_path / "photos" / "d.png", image.reshape(20, 12, 3))
    check = check_source(SourceConfig(path="photos"), tmp_path, scale=1)
    assert find_duplicates([check]) == [[f"{tmp_path}/photos/{name}" for name in ("a.png", "b.bmp", "n01/c.tif")]]


def test_the_journal_is_lines_of_json(tmp_path):
    make_photos(tmp_path)
    _prepare(tmp_path)
    first, *lines = (tmp_path / "out" / JOURNAL).read_text().splitlines()
    assert json.loads(first) == {"source": "photos", "to": "folder", "crop": None, "step": None}
    assert json.loads(lines[0]) == {"image": "0.png", "made": [["0.png", 40, 56]]}


def test_shards_hold_plain_files(tmp_path):
    make_photos(tmp_path)
    _prepare(tmp_path, to="webdataset")
    with tarfile.open(tmp_path / "out" / "000000.tar") as tar:
        assert sorted(tar.getnames()) == ["0.png", "1.png", "2.png"]
