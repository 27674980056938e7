import fsspec
import pytest

from hat_sr.batch.ledger import FileLines, stamp
from hat_sr.batch.places import Place, whole
from hat_sr.errors import InputError


@pytest.fixture(params=["memory", "file", "path"])
def url(request, tmp_path):
    """A folder in memory, and one on the disk by its URL and by its path."""
    yield {"memory": "memory://photos", "file": f"file://{tmp_path}/photos", "path": f"{tmp_path}/photos"}[
        request.param
    ]
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


def put(place, name, data):
    with place.written(name) as path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def files(place, **more):
    return place.files(onerror=pytest.fail, **more)


def test_what_is_written_is_read(url):
    place = Place(url)
    assert files(place) == {}
    assert place.stamp("trip/a b#ü.png") is None
    put(place, "trip/a b#ü.png", b"one")
    put(place, ".hidden/b.png", b"two")
    with place.read("trip/a b#ü.png") as path:
        assert path.name == "a b#ü.png"
        assert path.read_bytes() == b"one"
    assert files(place) == {"trip/a b#ü.png": place.stamp("trip/a b#ü.png")}


def test_a_stamp_changes_with_the_file(url):
    place = Place(url)
    put(place, "a.png", b"one")
    first = place.stamp("a.png")
    assert first == place.stamp("a.png")
    put(place, "a.png", b"another")
    assert place.stamp("a.png") != first


def test_what_fails_leaves_what_was_there(url):
    place = Place(url)
    if place.local is not None:
        pytest.skip("on a disk `Enlarger` itself replaces the file")
    put(place, "a.png", b"one")
    with pytest.raises(RuntimeError), place.written("a.png") as path:
        path.write_bytes(b"half")
        raise RuntimeError
    with place.read("a.png") as path:
        assert path.read_bytes() == b"one"
    assert list(files(place)) == ["a.png"]


def test_what_killed_processes_left_is_deleted(url, monkeypatch):
    place = Place(url)
    for name in ("a.png", ".hat-sr-a.part", "trip/.hat-sr-b.part", "other/.hat-sr-c.part", ".hat-sr-manifest.jsonl"):
        put(place, name, b"x")
    names = ["a.png", "trip/b [1].png", "nowhere/c.png"]
    place.remove_leftovers(names)
    assert place.stamp(".hat-sr-a.part") is not None  # another process may still write to it
    monkeypatch.setattr("hat_sr.files.LEFTOVER_SECONDS", -1)
    place.remove_leftovers(names)
    assert place.stamp(".hat-sr-a.part") is place.stamp("trip/.hat-sr-b.part") is None
    for name in ("a.png", "other/.hat-sr-c.part", ".hat-sr-manifest.jsonl"):
        assert place.stamp(name) is not None


def test_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, expected in (
        ("photos/", f"{tmp_path}/photos"),
        ("", f"{tmp_path}"),
        ("/photos", "/photos"),
        ("s3://bucket/photos", "s3://bucket/photos"),
    ):
        assert whole(url) == expected


def test_one_folder_in_another(url):
    place = Place(url)
    assert place.within(place) == ""
    assert Place(f"{url}/large").within(place) == "large"
    assert place.within(Place(f"{url}/large")) is None
    assert place.within(Place("memory://other")) is None


def test_lines_are_kept_whoever_reads_them(url):
    lines = Place(url).lines()
    assert lines.read() == []
    lines.add([{"number": 1}, {"number": 2}])
    assert len(Place(url).lines().read()) == 2  # the first at once
    lines.add([{"number": 3}])
    lines.close()
    assert [line["number"] for line in Place(url).lines().read()] == [1, 2, 3]
    assert files(Place(url)) == {}


def test_many_lines_do_not_wait(url):
    lines = Place(url).lines()
    lines.read()
    lines.add([{"number": 0}])
    lines.add([{"number": 1}] * 1000)
    assert len(Place(url).lines().read()) == 1001
    lines.close()


def test_on_a_disk_it_is_as_hat_sr_upscale_has_it(tmp_path):
    place = Place(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"x")
    assert place.stamp("a.png") == stamp(tmp_path / "a.png")
    assert isinstance(place.lines(), FileLines)


def test_what_fsspec_does_not_open():
    with pytest.raises(InputError, match=r"nowhere://x cannot be opened: .*nowhere"):
        Place("nowhere://x")


def test_links_to_folders_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png").touch()
    (tmp_path / "photos/deep").mkdir(parents=True)
    (tmp_path / "photos/seen").symlink_to("../elsewhere")
    (tmp_path / "photos/deep/round").symlink_to("..")
    place = Place(f"file://{tmp_path}/photos")
    assert list(files(place)) == ["seen/a.png"]
    assert files(place, leave_out=Place(f"{tmp_path}/elsewhere")) == {}
    assert Place(f"{tmp_path}/photos/seen/more").within(Place(f"{tmp_path}/elsewhere")) == "more"


def test_what_is_left_out(url):
    place = Place(url)
    for name in ("a.png", "large/b.png", "largest/c.png"):
        put(place, name, b"x")
    assert list(files(place, leave_out=Place(f"{url}/large"))) == ["a.png", "largest/c.png"]
    assert len(files(place, leave_out=place)) == 3


def test_folders_that_cannot_be_read_are_told(url, closed, monkeypatch):
    place, told = Place(url), []
    for name in ("a.png", "trip/b.png"):
        put(place, name, b"x")
    if place.local is not None:
        closed(place.local / "trip")
    else:
        ls = place._fs.ls

        def refusing(path, **settings):
            if path.endswith("trip"):
                raise PermissionError("not yours")
            return ls(path, **settings)

        monkeypatch.setattr(place._fs, "ls", refusing)
    assert list(place.files(onerror=told.append)) == ["a.png"]
    (error,) = told
    assert error.filename.endswith("photos/trip")
    assert error.strerror in ("Permission denied", "not yours")


def test_an_odd_line_is_named_and_those_after_it_count(url, caplog):
    place = Place(url)
    lines = place.lines()
    lines.read()
    lines.add([{"number": 1}])
    lines.close()
    if place.local is not None:
        with (place.local / ".hat-sr-manifest.jsonl").open("a") as file:
            file.write("odd\n")
    else:
        place._fs.pipe_file(f"{place._root}/.hat-sr-manifest/20990101.jsonl", b'odd\n{"number": 2}\n')
    again = Place(url).lines()
    assert again.read()[:2] == [{"number": 1}, None]
    assert ".hat-sr-manifest" in caplog.text
    assert "damaged, and left out: line" in caplog.text
