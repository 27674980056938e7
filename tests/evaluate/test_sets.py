import numpy as np
import pytest

from evaluate.pictures import as_tensor, photo, save
from hat_sr.errors import ConfigError, DataError
from hat_sr.evaluate import sets
from hat_sr.evaluate.dataset import find_dataset
from hat_sr.evaluate.sets import KnownImage, KnownSet, check_set, describe_lr, find_sets, known_sets, pixel_digest
from hat_sr.image.resize import imresize

PHOTOS = {"one": photo(38, 50, seed=1), "two": photo(26, 25, seed=2), "three": photo(40, 36, channels=1, seed=3)}

TINY = KnownSet(
    name="Tiny3",
    num_images=3,
    published="a shelf",
    aliases=("T3",),
    images=tuple(
        KnownImage(
            name=name,
            height=pixels.shape[0],
            width=pixels.shape[1],
            digest=pixel_digest(as_tensor(pixels).expand(1, 3, -1, -1)),
        )
        for name, pixels in PHOTOS.items()
    ),
)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    counted = KnownSet(name="Counted2", num_images=2, published="another shelf")
    found = {"Tiny3": TINY, "Counted2": counted}
    monkeypatch.setattr(sets, "known_sets", lambda: found)


def images(folder):
    return [pair.hr for pair in find_dataset(folder, 2).pairs]


def cut(pixels, multiple):
    return pixels[: pixels.shape[0] // multiple * multiple, : pixels.shape[1] // multiple * multiple]


def test_the_table():
    table = known_sets()  # the real one: imported before it was replaced
    assert {name: len(one.images) for name, one in table.items()} == {
        "Set5": 5,
        "Set14": 14,
        "BSD100": 100,
        "Urban100": 0,
        "Manga109": 0,
    }
    assert all(len(one.images) in (0, one.num_images) for one in table.values())
    digests = [image.digest for one in table.values() for image in one.images]
    assert len(set(digests)) == len(digests)
    assert {image.name: (image.height, image.width) for image in table["Set5"].images}["woman"] == (344, 228)


@pytest.mark.parametrize("layout", ["{}.png", "GT/{}.bmp", "original/{}_HR.png", "image_SRF_2/{}_SRF_2_HR.png"])
def test_as_published_whatever_the_layout(tmp_path, layout):
    for name, pixels in PHOTOS.items():
        save(tmp_path / layout.format(name), pixels)
    assert check_set(images(tmp_path), TINY) == "3 images, each as published"


def test_names_do_not_matter_and_gray_may_be_rgb(tmp_path):
    for number, pixels in enumerate(PHOTOS.values()):
        save(tmp_path / f"img_{number:03}.png", np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
    assert check_set(images(tmp_path), TINY) == "3 images, each as published"


@pytest.mark.parametrize("multiple", [2, 3, 4, 12])
def test_cut_copies_are_the_same_set(tmp_path, multiple):
    for name, pixels in PHOTOS.items():
        save(tmp_path / f"GTmod12/{name}.png", cut(pixels, multiple))
    assert check_set(images(tmp_path), TINY) == "3 images, each as published, cut at the right and bottom"


def test_what_is_wrong_is_named(tmp_path):
    one = PHOTOS["one"].copy()
    one[7, 9, 1] += 1
    save(tmp_path / "One_HR.png", one)
    save(tmp_path / "two.png", PHOTOS["two"])
    save(tmp_path / "four.png", photo(24, 24, seed=4))
    with pytest.raises(DataError) as caught:
        check_set(images(tmp_path), TINY)
    assert str(caught.value) == (
        f"not as published, in {tmp_path}: missing: three; changed: One_HR.png; not of the set: four.png"
    )


def test_an_image_with_more_rows_than_published(tmp_path):
    for name, pixels in PHOTOS.items():
        save(tmp_path / f"{name}.png", np.concatenate([pixels, pixels[-1:]]) if name == "one" else pixels)
    with pytest.raises(DataError, match=r"changed: one\.png$"):
        check_set(images(tmp_path), TINY)


def test_an_image_twice(tmp_path):
    for name, pixels in PHOTOS.items():
        save(tmp_path / f"{name}.png", pixels)
    save(tmp_path / "zwei.png", PHOTOS["two"])
    with pytest.raises(DataError, match=r"not of the set: zwei\.png$"):
        check_set(images(tmp_path), TINY)


def test_sets_are_found_by_name(tmp_path):
    for name, pixels in PHOTOS.items():
        save(tmp_path / f"t-3/HR/{name}.png", pixels)
    for name in "ab":
        save(tmp_path / f"counted2/{name}.png", PHOTOS["one"])
    found = find_sets(tmp_path, ["tiny3", "Counted2"], [2, 3])
    assert [(dataset.name, dataset.scale, check) for dataset, check in found] == [
        ("Tiny3", 2, "3 images, each as published"),
        ("Counted2", 2, "2 images (their number alone was checked)"),
        ("Tiny3", 3, "3 images, each as published"),
        ("Counted2", 3, "2 images (their number alone was checked)"),
    ]
    assert [dataset.name for dataset, _ in find_sets(tmp_path / "t-3", ["Tiny3"], [2])] == ["Tiny3"]


def test_everything_wrong_is_said_once_and_where_sets_are_published(tmp_path):
    save(tmp_path / "Counted2/a.png", PHOTOS["one"])
    with pytest.raises(DataError) as caught:
        find_sets(tmp_path, ["Tiny3", "Counted2"], [2, 4])
    assert str(caught.value).splitlines() == [
        f"Tiny3: no folder of this name in {tmp_path}. It is published at a shelf",
        f"Counted2: 1 images in {tmp_path / 'Counted2'}, but it has 2. It is published at another shelf",
    ]


def test_a_set_that_is_there_at_another_scale_alone(tmp_path):
    for name in PHOTOS:
        save(tmp_path / f"Tiny3/image_SRF_2/{name}_SRF_2_HR.png", PHOTOS[name])
    with pytest.raises(DataError, match=r"Tiny3: no images in .* for ×3"):
        find_sets(tmp_path, ["Tiny3"], [3])


def test_unknown_sets(tmp_path):
    with pytest.raises(ConfigError, match="no set is named 'Set6': Tiny3, Counted2 are known"):
        find_sets(tmp_path, ["Set6"], [2])


def smaller(pixels, border="mirror"):
    return imresize(as_tensor(pixels), 1 / 2, border=border)[0].permute(1, 2, 0).contiguous().numpy()


@pytest.mark.parametrize("border", ["mirror", "clamp"])
def test_the_border_of_files_is_found_out(tmp_path, border):
    for name, pixels in PHOTOS.items():
        save(tmp_path / f"GT/{name}.png", pixels)
        save(tmp_path / f"LRbicx2/{name}.png", smaller(cut(pixels, 2), border))
    found = f"(MATLAB's bicubic, {border} border: equal to it in 3 of 3 files)"
    assert describe_lr(find_dataset(tmp_path, 2)) == f"read from LRbicx2 {found}"
    assert describe_lr(find_dataset(tmp_path, 2, jpeg=30)).endswith(found)  # the files, before they become JPEG


@pytest.mark.parametrize("border", ["mirror", "clamp"])
def test_each_file_that_differs_is_named(tmp_path, border):
    for name, pixels in PHOTOS.items():
        save(tmp_path / f"GT/{name}.png", pixels)
        save(tmp_path / f"LRbicx2/{name}.png", smaller(cut(pixels, 2), border))
    flipped = smaller(cut(PHOTOS["two"], 2), border)[:, ::-1].copy()
    save(tmp_path / "LRbicx2/two.png", flipped)
    assert describe_lr(find_dataset(tmp_path, 2)) == (
        f"read from LRbicx2 (MATLAB's bicubic, {border} border, but 1 of 3 files differ from it: two.png)"
    )


def test_files_that_are_not_bicubic(tmp_path):
    save(tmp_path / "GT/one.png", PHOTOS["one"])
    save(tmp_path / "LRbicx2/one.png", PHOTOS["one"][::2, ::2].copy())
    assert describe_lr(find_dataset(tmp_path, 2)) == (
        "read from LRbicx2 (not MATLAB's bicubic of the ground truth: none of 1 files is equal to it)"
    )
    made = find_dataset(tmp_path, 2, lr="mirror")
    assert describe_lr(made) == made.lr_source
