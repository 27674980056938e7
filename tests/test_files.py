"""Files that appear whole or not at all."""

import os

import pytest

from hat_sr.files import PART_PREFIX, arriving, locked, remove_leftovers, replacing, what_blocks_writing


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
