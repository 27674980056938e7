"""What images folders, pairs and databases hold, how they are read, and what is refused."""

import multiprocessing
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch

from hat_sr.errors import DataError, ImageError, MissingExtraError
from hat_sr.train.config import SourceConfig
from hat_sr.train.data.names import Names, list_training_files
from hat_sr.train.data.sources import JoinedSource, KeptSource, open_source
from train.data.test_batches import make_unusable
from train.small import make_photos, photo, save_png


def _tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _open(root, *, scale=2, **settings):
    return open_source(SourceConfig(**settings), root, scale=scale)


def _names(source):
    return [source.name(index) for index in range(len(source))]


def test_images_are_those_of_all_folders_in_the_order_of_their_paths(tmp_path):
    for name, seed in (("b.png", 1), ("a.png", 0), ("n02/c.png", 3), ("n01/deep/c.png", 2)):
        save_png(tmp_path / "photos" / name, photo(12, 12, seed))
    save_png(tmp_path / "photos" / ".hidden" / "d.png", photo(12, 12))
    save_png(tmp_path / "photos" / ".e.png", photo(12, 12))
    source = _open(tmp_path, path="photos")
    assert _names(source) == ["a.png", "b.png", "n01/deep/c.png", "n02/c.png"]
    for seed in range(4):
        picture = source.read(seed)
        assert picture.lr is None
        assert torch.equal(picture.hr, _tensor(photo(12, 12, seed)))


def test_links_are_followed_but_not_in_circles(tmp_path):
    save_png(tmp_path / "elsewhere" / "a.png", photo(12, 12))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "there").symlink_to(tmp_path / "elsewhere")
    (folder / "round").symlink_to(folder)
    (folder / "lost.png").symlink_to(tmp_path / "nothing.png")
    assert list_training_files(folder) == ["lost.png", "there/a.png"]
    with pytest.raises(ImageError, match=r"lost\.png"):
        _open(tmp_path, path="photos").read(0)


def test_names_are_kept_whatever_they_are():
    names = ["a.png", "", "fotoğraf/ü.png", "not utf-8 \udcff.png"]
    kept = Names(names)
    assert [kept[index] for index in range(len(kept))] == names


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, (30, 50)),
        ({"shrink": 2.0}, (15, 25)),
        ({"max_width": 40}, (22, 38)),
        ({"max_width": 50}, (30, 50)),
        ({"shrink": 2.0, "max_width": 20}, (11, 19)),
        ({"shrink": 100.0}, (1, 1)),
    ],
    ids=str,
)
def test_images_are_made_smaller_first(tmp_path, settings, size):
    save_png(tmp_path / "photos" / "a.png", photo(30, 50))
    image = _open(tmp_path, path="photos", **settings).read(0).hr
    assert image.shape == (3, *size)
    assert image.dtype == torch.uint8
    if size != (1, 1):
        assert image.double().mean().item() == pytest.approx(photo(30, 50).mean(), abs=3)


def test_gray_becomes_rgb_and_an_opaque_alpha_is_dropped(tmp_path):
    gray, full = photo(20, 20)[..., :1], np.full((20, 20, 1), 255, np.uint8)
    save_png(tmp_path / "photos" / "a.png", gray)
    save_png(tmp_path / "photos" / "b.png", np.dstack([gray, full]))
    save_png(tmp_path / "photos" / "c.png", np.dstack([photo(20, 20), full]))
    source = _open(tmp_path, path="photos")
    for index in (0, 1):
        assert torch.equal(source.read(index).hr, _tensor(gray).expand(3, -1, -1))
    assert torch.equal(source.read(2).hr, _tensor(photo(20, 20)))


def test_kept_are_the_usable_images(tmp_path):
    make_photos(tmp_path)
    unusable = make_unusable(tmp_path / "photos")
    source = KeptSource(_open(tmp_path, path="photos", exclude=("1.png",)), smallest=8)
    assert _names(source) == ["0.png", "2.png"]
    assert torch.equal(source.read(1).hr, _tensor(photo(48, 31, 2)))
    for name in unusable:
        assert len([message for message in source.unusable if f"/{name}" in message]) == 1, name
    assert len(source.unusable) == 5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"path": "photos", "exclude": ("0.png", "none.png")}, r"does not hold none\.png"),
        ({"path": "nowhere"}, "nowhere does not exist or is empty"),
        ({"path": "photos/0.png"}, r"0\.png does not exist or is empty"),
        ({"path": "photos", "exclude": ("0.png", "1.png", "2.png")}, "no image that could be used"),
        ({"path": "photos", "kind": "lmdb"}, "no LMDB database"),
        ({"path": "photos", "kind": "pairs", "lr_path": "nowhere"}, "nowhere does not exist or is empty"),
    ],
    ids=str,
)
def test_data_that_is_not_as_the_recipe_says(tmp_path, settings, says):
    make_photos(tmp_path)
    with pytest.raises(DataError, match=says):
        _open(tmp_path, **settings)


def test_several_sources_are_one(tmp_path):
    make_photos(tmp_path)
    save_png(tmp_path / "more" / "a.png", photo(20, 20, 7))
    joined = JoinedSource([_open(tmp_path, path="more"), _open(tmp_path, path="photos"), _open(tmp_path, path="more")])
    files = ["more/a.png", "photos/0.png", "photos/1.png", "photos/2.png", "more/a.png"]
    assert _names(joined) == [f"{tmp_path}/{name}" for name in files]
    for index, (shape, seed) in enumerate([((20, 20), 7), ((40, 56), 0), ((33, 64), 1), ((48, 31), 2), ((20, 20), 7)]):
        assert torch.equal(joined.read(index).hr, _tensor(photo(*shape, seed)))


def _pairs(root, *, lr_names, lr_size=(8, 10), size=(25, 31)):
    for number, name in enumerate(lr_names):
        save_png(root / "HR" / "sub" / f"{number}.png", photo(*size, number))
        save_png(root / "LR" / "sub" / name, photo(*lr_size, number))
    return {"path": "HR", "kind": "pairs", "lr_path": "LR", "scale": 3}


def test_pairs(tmp_path):
    source = _open(tmp_path, **_pairs(tmp_path, lr_names=["0.png", "1x3.png", "2x3.bmp"]))
    assert _names(source) == ["sub/0.png", "sub/1.png", "sub/2.png"]
    for number in range(3):
        picture = source.read(number)
        assert torch.equal(picture.lr, _tensor(photo(8, 10, number)))
        assert torch.equal(picture.hr, _tensor(photo(25, 31, number))[:, :24, :30])


@pytest.mark.parametrize("size", [(23, 31), (27, 31), (25, 33)])
def test_pairs_of_other_sizes_are_refused(tmp_path, size):
    source = _open(tmp_path, **_pairs(tmp_path, lr_names=["0.png"], size=size))
    with pytest.raises(ImageError, match=f"{size[1]}×{size[0]}, which is not 3 times the 10×8"):
        source.read(0)


@pytest.mark.parametrize(
    ("lr_names", "says"),
    [
        (["0.png", "1x2.png", "x.png"], r"2 of 3 images of .*HR have no .* such as sub/1\.png, sub/2\.png"),
        (["0.png", "0x3.png"], "1 of 2 images of .*HR have no"),
    ],
)
def test_pairs_that_are_none(tmp_path, lr_names, says):
    settings = _pairs(tmp_path, lr_names=lr_names)
    with pytest.raises(DataError, match=says):
        _open(tmp_path, **settings)


def test_an_image_with_two_partners(tmp_path):
    settings = _pairs(tmp_path, lr_names=["0.png"])
    save_png(tmp_path / "LR" / "sub" / "0x3.png", photo(8, 10))
    with pytest.raises(DataError, match="more than one low-resolution image"):
        _open(tmp_path, **settings)


def _write_database(folder: Path, images, lines):
    with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, data in images.items():
            transaction.put(key.encode(), data)
    (folder / "meta_info.txt").write_text("".join(f"{line}\n" for line in lines))


def test_a_database_as_basicsr_writes_it(tmp_path):
    """Keys without suffix; name, size and compression in a text file."""
    images = {
        name: save_png(tmp_path / f"{name}.png", photo(20 + number, 24, number)).read_bytes()
        for number, name in enumerate(["baby", "0801_s001"])
    }
    lines = ["baby.png (20,24,3) 1", "0801_s001.png (21,24,3) 1", "lost.png (20,24,3) 1", ""]
    _write_database(tmp_path / "x.lmdb", images | {"cut": images["baby"][:100]}, [*lines, "cut.png (20,24,3) 1"])
    source = _open(tmp_path, path="x.lmdb", kind="lmdb")
    assert _names(source) == ["baby.png", "0801_s001.png", "lost.png", "cut.png"]
    for number in range(2):
        assert torch.equal(source.read(number).hr, _tensor(photo(20 + number, 24, number)))
    with pytest.raises(ImageError, match=r"lost\.png is in meta_info\.txt, but not in the database"):
        source.read(2)
    with pytest.raises(ImageError, match=r"x\.lmdb/cut\.png: "):
        source.read(3)
    assert _names(_open(tmp_path, path="x.lmdb", kind="lmdb", exclude=("lost.png", "cut.png"))) == _names(source)[:2]


def _sum_of_first(source, results):
    results.put(int(source.read(0).hr.sum()))


def test_a_database_is_read_after_a_fork(tmp_path):
    data = save_png(tmp_path / "a.png", photo(20, 24)).read_bytes()
    _write_database(tmp_path / "x", {"a": data}, ["a.png (20,24,3) 1"])
    source = _open(tmp_path, path="x", kind="lmdb")
    expected = int(source.read(0).hr.sum())
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_sum_of_first, args=(source, results))
    process.start()
    assert results.get(timeout=60) == expected
    process.join()
    assert int(source.read(0).hr.sum()) == expected


def test_a_database_that_is_none(tmp_path):
    _write_database(tmp_path / "x", {}, ["no line of it"])
    with pytest.raises(DataError, match="'no line of it' is not of the form"):
        _open(tmp_path, path="x", kind="lmdb")
    (tmp_path / "x" / "meta_info.txt").write_text("\n")
    with pytest.raises(DataError, match="names no image"):
        _open(tmp_path, path="x", kind="lmdb")
    (tmp_path / "x" / "meta_info.txt").unlink()
    with pytest.raises(DataError, match=r"meta_info\.txt cannot be read .*start it again"):
        _open(tmp_path, path="x", kind="lmdb")
    (tmp_path / "x" / "meta_info.txt").write_text("a.png (20,24,3) 1\n")
    (tmp_path / "x" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match="cannot be opened as an LMDB database"):
        _open(tmp_path, path="x", kind="lmdb").read(0)


def test_a_package_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hat-sr\[train\]'"):
        _open(tmp_path, path="x", kind="lmdb")
