import importlib
import math

import pytest
import torch

from evaluate.pictures import SCALE, as_tensor, nearest, photo, save
from hat_sr.errors import ConfigError
from hat_sr.evaluate.benchmark import Score, benchmark, bicubic
from hat_sr.evaluate.cache import Cache, Entry, code_digest, key_of
from hat_sr.evaluate.compare import BICUBIC, ORIGINAL, SIDE, Entrant, compare, cut_detail, place_detail
from hat_sr.evaluate.dataset import Degraded, find_dataset
from hat_sr.image.io import read_image
from hat_sr.image.resize import imresize


class Counting:
    """Nearest neighbour that counts its calls, and stops the run at one of them."""

    def __init__(self, stop_at=0):
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, x):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return nearest(x)


def entrant(upscale, name="near", fingerprint="near", **more):
    return Entrant(name=name, upscale=upscale, num_parameters=0, fingerprint=fingerprint, **more)


@pytest.fixture
def dataset(tmp_path):
    for index in range(3):
        save(tmp_path / f"Set/{index}.png", photo(48, 50, seed=index))
    return find_dataset(tmp_path / "Set", SCALE)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def test_scores_are_those_of_the_benchmark(dataset):
    results = list(compare([entrant(nearest)], dataset))
    for name, upscale in (("near", nearest), (BICUBIC, bicubic(SCALE))):
        expected = {result.name: result.score for result in benchmark(upscale, dataset)}
        assert {result.name: result.scores[name] for result in results} == expected
    assert [list(result.scores) for result in results] == [[BICUBIC, "near"]] * 3
    assert [list(result.details) for result in results] == [[BICUBIC, "near", ORIGINAL]] * 3


def test_with_and_without_a_cache(dataset, cache):
    without = list(compare([entrant(nearest)], dataset))
    assert list(compare([entrant(nearest)], dataset, cache)) == without
    counting = Counting()
    assert list(compare([entrant(counting)], dataset, cache)) == without
    assert counting.calls == 0


def test_a_run_that_was_stopped_goes_on(dataset, cache):
    with pytest.raises(KeyboardInterrupt):
        list(compare([entrant(Counting(stop_at=3))], dataset, cache))
    counting = Counting()
    list(compare([entrant(counting)], dataset, cache))
    assert counting.calls == 1


def test_only_a_new_network_is_run(dataset, cache):
    list(compare([entrant(nearest)], dataset, cache))
    old, new = Counting(), Counting()
    list(compare([entrant(old), entrant(new, name="new", fingerprint="other weights")], dataset, cache))
    assert (old.calls, new.calls) == (0, 3)


def test_a_changed_image_is_scored_again(dataset, cache, tmp_path):
    list(compare([entrant(nearest)], dataset, cache))
    save(tmp_path / "Set/1.png", photo(48, 50, seed=7))
    counting = Counting()
    list(compare([entrant(counting)], dataset, cache))
    assert counting.calls == 1


@pytest.mark.parametrize(
    ("scale", "settings"),
    [
        (3, {"lr": "mirror"}),
        (2, {"lr": "clamp"}),
        (2, {"lr": "mirror", "jpeg": 75}),
        (2, {"degraded": Degraded("real")}),
    ],
)
def test_another_question_has_another_answer(dataset, cache, scale, settings):
    list(compare([entrant(nearest)], dataset, cache))
    other = find_dataset(dataset.pairs[0].hr.parent, scale, **settings)
    calls = []

    def upscale(x):
        calls.append(x)
        return x.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    list(compare([entrant(upscale)], other, cache))
    assert len(calls) == 3


def test_degradations_and_seeds_are_told_apart(dataset, cache):
    asked = [Degraded("real"), Degraded("real", 1), Degraded("mild"), Degraded("real")]
    counting = Counting()
    for degraded in asked:
        list(compare([entrant(counting)], find_dataset(dataset.pairs[0].hr.parent, 2, degraded=degraded), cache))
    assert counting.calls == 3 * 3


def test_what_depends_on_the_memory_is_not_kept(dataset, cache):
    counting = Counting()
    for _ in range(2):
        list(compare([entrant(counting, repeatable=lambda height, width: (height, width) != (24, 25))], dataset, cache))
    assert counting.calls == 6


def test_extras_are_kept_apart(dataset, cache):
    """A cache without them is not taken for one with them."""
    counting = Counting()
    for extras in ((), ("st_lpips",), ("st_lpips",), ()):
        found = list(compare([entrant(counting)], dataset, cache, extras=extras))
        assert all((image.scores[BICUBIC].st_lpips is not None) == bool(extras) for image in found)
    assert counting.calls == 6


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "[" * 100_000, '{"psnr": 1}', '{"psnr": "x", "ssim": 1, "detail": ""}'),
        f'{{"psnr": 1{"0" * 400}, "ssim": 1, "detail": ""}}',
    ],
    ids=str.__len__,
)
def test_a_damaged_entry_is_none(cache, tmp_path, content):
    key = key_of("a", 1, None)
    entry = Entry(score=Score(psnr=math.inf, ssim=1 / 3, niqe=2 / 3), detail=b"\x00\xff")
    cache.put(key, entry)
    assert cache.get(key) == entry
    (path,) = (tmp_path / "cache").rglob("*.json")
    path.write_text(content)
    assert cache.get(key) is None


def test_a_cache_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"the cache .*file.* cannot be written to"):
        Cache(tmp_path / "file" / "cache")


def test_scores_of_other_code_are_not_taken(tmp_path, monkeypatch):
    """hat-sr-native, whose attention rounds in its own way, is part of the code where it is installed."""

    def digest():
        code_digest.cache_clear()
        importlib.invalidate_caches()
        return code_digest()

    (tmp_path / "hat_sr_native").mkdir()
    path = tmp_path / "hat_sr_native/__init__.py"
    path.write_text("one = 1")
    without = digest()
    monkeypatch.syspath_prepend(tmp_path)
    first = digest()
    path.write_text("two = 2")
    assert len({without, first, digest()}) == 3
    monkeypatch.undo()
    assert digest() == without


def test_the_detail_lies_where_bicubic_is_worst():
    hr = as_tensor(photo(200, 240)) // 2
    worst = hr.clone()
    worst[..., 60:80, 140:160] += 100
    worst[..., :2, :] += 120  # in the border that is not scored
    top, left = place_detail(worst, hr, crop_border=2)
    assert top <= 60 <= 80 <= top + SIDE
    assert left <= 140 <= 160 <= left + SIDE


def test_the_detail_is_cut_without_loss(tmp_path):
    image = as_tensor(photo(120, 130))
    (tmp_path / "a.webp").write_bytes(cut_detail(image, (4, 8)))
    assert torch.equal(as_tensor(read_image(tmp_path / "a.webp").pixels), image[..., 4 : 4 + SIDE, 8 : 8 + SIDE])


def test_the_detail_of_a_small_image_is_all_of_it(tmp_path):
    image = as_tensor(photo(24, 30))
    place = place_detail(imresize(imresize(image, 1 / SCALE), SCALE), image, crop_border=SCALE)
    (tmp_path / "a.webp").write_bytes(cut_detail(image, place))
    assert torch.equal(as_tensor(read_image(tmp_path / "a.webp").pixels), image)


def test_each_image_is_hashed_once_whatever_the_number_of_networks(tmp_path, cache, monkeypatch):
    for index in range(2):
        save(tmp_path / f"Set/GT/{index}.png", photo(48, 50, seed=index))
        save(tmp_path / f"Set/LR/{index}.png", photo(48 // SCALE, 50 // SCALE, seed=index))
    hashed = []
    digest = importlib.import_module("hat_sr.evaluate.cache").file_digest
    monkeypatch.setattr("hat_sr.evaluate.compare.file_digest", lambda path: hashed.append(path) or digest(path))
    pairs = find_dataset(tmp_path / "Set", SCALE)
    entrants = [entrant(nearest, name=name, fingerprint=name) for name in "abcd"]
    list(compare(entrants, pairs, cache))
    assert sorted(path.relative_to(tmp_path / "Set").as_posix() for path in hashed) == [
        "GT/0.png",
        "GT/1.png",
        "LR/0.png",
        "LR/1.png",
    ]
    hashed.clear()
    list(compare(entrants, pairs))
    assert hashed == []  # where nothing is kept
