"""Files that appear whole or not at all."""

import os

import pytest

from hat_sr.files import (
    PART_PREFIX,
    arriving,
    cannot_read,
    list_files,
    locked,
    remove_leftovers,
    replacing,
    what_blocks_writing,
)


def test_takes_the_place_of_the_file_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with replacing(path) as part:
        assert (part.parent, part.name.startswith(PART_PREFIX)) == (tmp_path, True)
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(error), replacing(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_anything_was_written(tmp_path):
    with pytest.raises(OSError, match="disk"), replacing(tmp_path / "a.txt"):
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())


def test_the_longest_name_can_be_replaced(tmp_path):
    path = tmp_path / ("a" * 255)
    with replacing(path) as part:
        part.write_text("after")
    assert path.read_text() == "after"


def test_files_arrive_together(tmp_path):
    (tmp_path / "a.bin").write_text("before")
    with arriving(tmp_path) as folder:
        for name in ("a.xml", "a.bin"):
            (folder / name).write_text("after")
        assert (tmp_path / "a.bin").read_text() == "before"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.xml": "after", "a.bin": "after"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_none_arrives_after_a_failure(tmp_path, error):
    with pytest.raises(error), arriving(tmp_path) as folder:
        (folder / "a.bin").write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_what_blocks_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert what_blocks_writing(tmp_path / "new" / "newer") is None
    assert what_blocks_writing(tmp_path / "file" / "new") == tmp_path / "file"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert what_blocks_writing(tmp_path / "link" / "new") == tmp_path / "link"
    assert what_blocks_writing(tmp_path / ("a" * 300)) == tmp_path / ("a" * 300)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root, who may write anywhere
    assert what_blocks_writing(tmp_path / "new") == tmp_path


def test_a_file_is_locked_for_one_at_a_time(tmp_path):
    with locked(tmp_path / "lock"):
        assert locked(tmp_path / "lock") is None
    locked(tmp_path / "lock").close()


def test_a_lock_on_a_file_that_was_just_deleted_is_none(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    monkeypatch.setattr("hat_sr.files.fcntl.flock", lambda *_: path.unlink())  # by the process that had it till then
    assert locked(path) is None


def test_leftovers_go_when_nobody_has_written_to_them_for_long(tmp_path):
    old, new, other = (tmp_path / name for name in (f"{PART_PREFIX}1.part", f"{PART_PREFIX}2.part", "a.part"))
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(folder, **more):
    return list_files(folder, onerror=pytest.fail, **more)


def test_files_below_a_folder(tmp_path):
    put(tmp_path, "b.png", "a/c.png", "a/d/e", ".hidden", ".cache/f.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "lost.png").symlink_to("nowhere")
    (tmp_path / "g.png").symlink_to("b.png")
    assert listed(tmp_path) == ["a/c.png", "a/d/e", "b.png", "g.png", "lost.png"]
    assert listed(tmp_path / "b.png") == listed(tmp_path / "missing") == []


def test_links_to_folders_are_followed_and_no_folder_is_listed_twice(tmp_path):
    put(tmp_path, "photos/z/a.png", "elsewhere/b.png", "elsewhere/deep/c.png", "up/d.png", "up/photos.png")
    for name, target in (
        ("photos/a", "z"),  # goes by its own name though that comes later
        ("photos/seen", "../elsewhere"),
        ("photos/seen-too", "../elsewhere"),
        ("photos/part", "../elsewhere/deep"),  # of what is listed already
        ("photos/round", "."),
        ("photos/z/above", "../.."),  # everything, itself included
        ("elsewhere/back", "../photos"),
        ("photos/more", "../up"),
        ("up/home", ".."),
        ("up/itself", "itself"),
    ):
        (tmp_path / name).symlink_to(target)
    told = []
    names = list_files(tmp_path / "photos", onerror=lambda error: told.append(cannot_read(error)))
    assert names == ["more/d.png", "more/photos.png", "part/c.png", "seen/b.png", "z/a.png"]
    assert told == [f"{tmp_path}/photos/more/itself cannot be read: Too many levels of symbolic links"]


def test_a_folder_of_results_is_left_out_by_whatever_path(tmp_path):
    put(tmp_path, "in/a.png", "in/out/b.png", "out/c.png")
    (tmp_path / "in/seen").symlink_to("../out")
    assert listed(tmp_path / "in", leave_out=[tmp_path / "in/out"]) == ["a.png", "seen/c.png"]
    assert listed(tmp_path / "in", leave_out=[tmp_path / "out"]) == ["a.png", "out/b.png"]
    for itself_or_above in (tmp_path / "in", tmp_path):
        assert len(listed(tmp_path / "in", leave_out=[itself_or_above])) == 3


def test_folders_that_cannot_be_read_are_told_and_the_rest_listed(tmp_path, closed):
    put(tmp_path, "a.png", "locked/b.png", "open/c.png", "open/locked/d.png")
    closed(tmp_path / "locked")
    closed(tmp_path / "open/locked")
    told = []
    names = list_files(tmp_path, onerror=lambda error: told.append(cannot_read(error)))
    assert names == ["a.png", "open/c.png"]
    assert sorted(told) == [
        f"{tmp_path}/{name} cannot be read: Permission denied" for name in ("locked", "open/locked")
    ]
    closed(tmp_path)
    assert list_files(tmp_path, onerror=lambda error: told.append(error.filename)) == []
    assert told[-1] == str(tmp_path)


def test_leftovers_that_are_folders_go_alike(tmp_path):
    old, new = (tmp_path / f"{PART_PREFIX}{name}.part" for name in "12")
    for folder in (old, new):
        folder.mkdir()
        (folder / "net.onnx").write_bytes(b"half")
    for path in (old / "net.onnx", old, new):  # into the other one something was written just now
        os.utime(path, (0, 0))
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [new]
    remove_leftovers(tmp_path, only_abandoned=False)
    assert list(tmp_path.iterdir()) == []
