from pathlib import Path

import pytest

from hat_sr.errors import DataError
from hat_sr.evaluate.dataset import find_datasets


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, scale: int = 4, lr: str = "auto") -> tuple[list[str], list[str | None], str | None]:
    (dataset,) = find_datasets(folder, scale, lr=lr)
    lrs = [pair.lr.relative_to(folder).as_posix() if pair.lr else None for pair in dataset.pairs]
    return [pair.hr.relative_to(folder).as_posix() for pair in dataset.pairs], lrs, dataset.border


def test_a_plain_folder_is_ground_truth(tmp_path):
    touch(tmp_path, "b.PNG", "a.jpg", "notes.txt", ".hidden.png", "other/c.png")
    assert found(tmp_path) == (["a.jpg", "b.PNG"], [None, None], "mirror")
    (dataset,) = find_datasets(tmp_path, 4)
    assert dataset.name == tmp_path.name
    assert dataset.scale == 4
    assert "made" in dataset.lr_source
    assert "mirror" in dataset.lr_source


@pytest.mark.parametrize("hr", ["GT", "gt", "HR", "original"])
def test_ground_truth_in_a_subfolder(tmp_path, hr):
    touch(tmp_path, f"{hr}/a.png", "preview.png")
    assert found(tmp_path)[0] == [f"{hr}/a.png"]


@pytest.mark.parametrize(
    "lr",
    ["LRbic_matlab_new/X4/a.png", "LR_bicubic/X4/ax4.png", "lr/x4/a_x4.png", "LR_x4/a.jpg", "LRx4/aX4.png", "LR/a.png"],
)
def test_low_resolution_partners(tmp_path, lr):
    touch(tmp_path, "GT/a.png", lr, "LR_bicubic/X2/ax2.png")
    assert found(tmp_path) == (["GT/a.png"], [lr], None)
    assert find_datasets(tmp_path, 4)[0].lr_source == f"read from {Path(lr).parent.as_posix()}"


def test_another_scale_is_not_a_partner(tmp_path):
    touch(tmp_path, "GT/a.png", "LR/X4/a.png", "LRx4/a.png")
    assert found(tmp_path, scale=2) == (["GT/a.png"], [None], "mirror")


def test_old_matlab_images_are_read_only_when_named(tmp_path):
    touch(tmp_path, "GT/a.png", "LRbic_matlab_old/X4/a.png")
    assert found(tmp_path) == (["GT/a.png"], [None], "mirror")
    assert found(tmp_path, lr="LRbic_matlab_old")[1] == ["LRbic_matlab_old/X4/a.png"]
    touch(tmp_path, "LRbic_matlab_new/X4/a.png")
    assert found(tmp_path)[1] == ["LRbic_matlab_new/X4/a.png"]


def test_cropped_ground_truth_comes_before_the_original(tmp_path):
    touch(tmp_path, "original/a.png", "GTmod12/a.png", "LRbicx4/a.png")
    assert found(tmp_path) == (["GTmod12/a.png"], ["LRbicx4/a.png"], None)
    touch(tmp_path, "GTmod4/a.png")
    assert found(tmp_path)[0] == ["GTmod4/a.png"]
    assert found(tmp_path, scale=3)[0] == ["GTmod12/a.png"]


def test_pairs_in_one_folder(tmp_path):
    stem = "image_SRF_4/img_001_SRF_4"
    touch(tmp_path, *(f"{stem}_{kind}.png" for kind in ("HR", "LR", "bicubic", "SRCNN")), "image_SRF_2/x_SRF_2_HR.png")
    assert found(tmp_path) == ([f"{stem}_HR.png"], [None], "mirror")  # as with _old folders, unless named
    assert found(tmp_path, lr="image_SRF_4") == ([f"{stem}_HR.png"], [f"{stem}_LR.png"], None)
    assert found(tmp_path, lr="image_SRF") == found(tmp_path, lr="image_SRF_4")
    assert found(tmp_path, scale=2)[0] == ["image_SRF_2/x_SRF_2_HR.png"]


@pytest.mark.parametrize("folder", ["LRbicx4", "LRbic_x4", "LRbic_X4"])
def test_a_folder_may_be_named_without_the_scale(tmp_path, folder):
    touch(tmp_path, "GT/a.png", f"{folder}/a.png", "LR_other/X4/a.png")
    assert found(tmp_path, lr="LRbic")[1] == [f"{folder}/a.png"]


@pytest.mark.parametrize("border", ["mirror", "clamp"])
def test_making_can_be_asked_for(tmp_path, border):
    touch(tmp_path, "GT/a.png", "LR/X4/a.png")
    assert found(tmp_path, lr=border) == (["GT/a.png"], [None], border)


def test_a_folder_of_several(tmp_path):
    touch(tmp_path, "Set5/GT/a.png", "Set14/b.png", "empty/readme.txt")
    assert [dataset.name for dataset in find_datasets(tmp_path, 3)] == ["Set14", "Set5"]


@pytest.mark.parametrize(
    ("files", "lr", "message"),
    [
        (["readme.txt"], "auto", "no images"),
        (["GT/a.png", "GT/b.png", "LR/X4/a.png"], "auto", "no low-resolution partner .* b.png"),
        (["GT/a.png", "LR/X4/a.png", "LR/X4/b.png"], "auto", "no ground truth for b.png"),
        (["GT/a.png", "GT/a.jpg"], "auto", "a.jpg and a.png"),
        (["GT/a.png", "LR_one/X4/a.png", "LR_two/X4/a.png"], "auto", "LR_one, LR_two"),
        (["GT/a.png", "LR_one/X4/a.png"], "LR_two", "LR_one"),
    ],
)
def test_refuses(tmp_path, files, lr, message):
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        find_datasets(tmp_path, 4, lr=lr)


def test_refuses_what_is_no_folder_and_no_scale(tmp_path):
    touch(tmp_path, "a.png")
    with pytest.raises(DataError, match="not a folder"):
        find_datasets(tmp_path / "a.png", 4)
    with pytest.raises(DataError, match="scale"):
        find_datasets(tmp_path, 0)


def test_long_lists_are_cut(tmp_path):
    touch(tmp_path, *(f"GT/{index}.png" for index in range(9)), "LR/X4/0.png")
    with pytest.raises(DataError, match=r"1.png, 2.png, 3.png, 4.png, 5.png and 3 more"):
        find_datasets(tmp_path, 4)
