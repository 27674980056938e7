"""Files of strangers: each test is one that a decoder must not survive, or a server must."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hat_sr.errors import ImageError
from hat_sr.image import decode
from hat_sr.image.bounds import edited
from hat_sr.image.io import read_image, write_image
from hat_sr.image.pixels import Image, Metadata
from hat_sr.serve import child
from hat_sr.serve.child import without_paths
from hat_sr.serve.exchange import put_picture, take_picture
from hat_sr.serve.sandbox import BadFileError, Sandbox
from hat_sr.serve.settings import RefusedError
from serve.serving import KeptSandbox, picture, serving, upload

# What a decoder could do that is out of order. In place of its own task the child does what a file "ill" says, which is
# in a folder above the source: one child is started for all tests.
ILL = """
import functools, os, signal, sys, time
from hat_sr.serve import child

def crash(source):
    os.kill(os.getpid(), signal.SIGSEGV)

def eat(source):
    return {"warnings": [], "length": len(bytearray(3 << 30))}

def eat_outside_python(source):
    import ctypes
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    if libc.malloc(ctypes.c_size_t(3 << 30)) is None:
        os.abort()
    return {}

def sleep(source):
    time.sleep(60)

def spin(source):
    while True:
        pass

def lie(source):
    raise ValueError(f"{source} and a secret")

def halve(source):
    raise child.HatError("half a character: \\ud800")

def fill(source):
    source.write_bytes(bytes(5 << 20))
    return {}

def hang(source, folder):
    (folder / "pid.unfinished").write_text(str(os.getpid()))
    (folder / "pid.unfinished").rename(folder / "pid")
    time.sleep(10**6)

def nonsense(source):
    return {"height": -1, "width": 12, "channels": 3, "lossy": False}

def chatter(source):
    return {"height": 9, "width": 12, "channels": 3, "lossy": False, "more": "x" * (2 << 20)}

def swell(source, folder):
    import numpy
    from hat_sr.image.pixels import Image
    child.put_picture(Image(numpy.zeros((900, 1200, 3), numpy.uint8)), folder)
    return {}

def either(task, own, **paths):
    source = paths.get("source", paths.get("folder"))
    for folder in (source, *source.parents):
        if (folder / "ill").is_file():
            named, how = (folder / "ill").read_text().split()
            if named == task:
                return globals()[how](**paths)
    return own(**paths)

child._LARGEST_FILE = 4 << 20
child._TASKS = {task: functools.partial(either, task, own) for task, own in child._TASKS.items()}
child.main()
"""


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A sandbox whose decoder can fall ill."""
    script = tmp_path_factory.mktemp("ill") / "ill.py"
    script.write_text(ILL)
    started = subprocess.Popen

    def start(command, **options):
        return started([sys.executable, str(script), command[-1]], **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hat_sr.serve.sandbox.subprocess.Popen", start)
        sandbox = KeptSandbox(seconds=20)
    yield sandbox
    sandbox.close_at_last()


@pytest.fixture
def ill(tmp_path, monkeypatch, patient):
    """A sandbox whose decoder does that to files in this test's folder."""

    def make(how, task="look", seconds=20):
        (tmp_path / "ill").write_text(f"{task} {how}")
        monkeypatch.setattr(patient, "_seconds", seconds)
        return patient

    return make


@pytest.mark.parametrize("how", ["crash", "eat_outside_python", "fill"])
def test_a_crash_is_one_sentence(tmp_path, ill, how):
    sandbox = ill(how)
    (tmp_path / "a.png").write_bytes(data := picture())
    for _ in range(2):
        with pytest.raises(BadFileError, match=r"crashed or took too much memory|\(OSError\)"):
            sandbox.look(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(data)
    assert sandbox.read(tmp_path / "a.png", tmp_path, num_pixels=108) == []  # others go on
    assert (take_picture(tmp_path).height, take_picture(tmp_path).width) == (9, 12)


def test_what_is_said_can_be_stored(tmp_path, ill):
    with pytest.raises(BadFileError, match="half a character") as told:
        ill("halve").look(tmp_path)
    assert str(told.value).encode()


def test_memory_is_limited(tmp_path, ill):
    with pytest.raises(BadFileError, match="more memory than it may"):
        ill("eat").look(tmp_path)


@pytest.mark.parametrize("how", ["sleep", "spin"])
def test_time_is_limited(tmp_path, ill, how):
    with pytest.raises(RefusedError, match=r"longer than 0\.5 s") as refused:
        ill(how, seconds=0.5).look(tmp_path)
    assert refused.value.status == 504


@pytest.mark.parametrize(("how", "words"), [("nonsense", "makes no sense"), ("chatter", "crashed or took too much")])
def test_an_answer_that_makes_no_sense_is_one_sentence(tmp_path, ill, how, words):
    with pytest.raises(BadFileError, match=words):
        ill(how).look(tmp_path)


class UnwantedError(Exception):
    """What a check raises when nobody wants the picture any more."""


def test_what_nobody_wants_any_more_ends(tmp_path, ill):
    (tmp_path / "a.png").write_bytes(picture())

    def check():
        if (tmp_path / "pid").exists():
            raise UnwantedError

    with pytest.raises(UnwantedError):
        ill("hang", "read", seconds=10**6).read(tmp_path / "a.png", tmp_path, num_pixels=108, check=check)
    until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists())


def test_cancelling_frees_the_worker_from_a_file_that_takes_long(tmp_path, ill, monkeypatch):
    sandbox = ill("hang", "read", seconds=10**6)
    monkeypatch.setattr("hat_sr.serve.service.Sandbox", lambda seconds: sandbox)
    with serving(tmp_path) as (service, client):
        identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
        until(lambda: list(service.store.folder(identity).glob("work-*/pid")))
        assert client.delete(f"/v1/jobs/{identity}").status_code == 204
        until(lambda: 'hat_sr_jobs_total{outcome="cancelled"} 1.0' in client.get("/metrics").text)
        assert not service.store.folder(identity).exists()


def test_a_picture_of_another_size_is_not_taken(tmp_path, ill, monkeypatch):
    sandbox = ill("swell", "read")
    monkeypatch.setattr("hat_sr.serve.service.Sandbox", lambda seconds: sandbox)
    with serving(tmp_path) as (_, client):
        answer = client.post("/v1/upscale", files=upload(picture()))
    assert (answer.status_code, "what was read of the picture is damaged" in answer.text) == (422, True)


def until(what):
    for _ in range(2000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come")


def test_an_unknown_error_tells_nothing(tmp_path, ill):
    with pytest.raises(BadFileError, match=r"^the file cannot be read or written \(ValueError\)$"):
        ill("lie").look(tmp_path)


def test_a_decoder_that_crashes_costs_one_job(tmp_path, ill, monkeypatch):
    sandbox = ill("crash")
    monkeypatch.setattr("hat_sr.serve.service.Sandbox", lambda seconds: sandbox)
    with serving(tmp_path) as (service, client):
        answer = client.post("/v1/jobs", files=upload(picture()))
        assert (answer.status_code, service.worker.is_alive()) == (422, True)
        assert "crashed" in answer.json()["error"]
        monkeypatch.setattr(sandbox, "look", lambda _: {"height": 9, "width": 12, "channels": 3, "lossy": False})
        assert client.post("/v1/upscale", files=upload(picture())).status_code == 200


def test_the_template_is_started_anew(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    with Sandbox(seconds=20) as sandbox:
        os.kill(sandbox._process.pid, signal.SIGKILL)
        sandbox._process.wait()
        assert sandbox.look(tmp_path / "a.png")["width"] == 12


DYING = """
import os, subprocess, sys
from hat_sr.serve.sandbox import Sandbox
started = subprocess.Popen
def start(*words, **options):
    process = started(*words, **options)
    print(process.pid, flush=True)
    if "at once" in sys.argv:
        os.kill(os.getpid(), 9)
    return process
subprocess.Popen = start
Sandbox(seconds=20)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("when", ["at once", "when it is ready"])
def test_the_process_ends_with_its_server_and_leaves_nothing(tmp_path, when):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", DYING, when]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    until(lambda: not Path(f"/proc/{int(done.stdout)}").exists())
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_does_not_start(monkeypatch):
    monkeypatch.setattr("hat_sr.serve.sandbox.sys.executable", "/bin/false")
    with pytest.raises(RefusedError, match="does not start") as refused:
        Sandbox(seconds=20)
    assert refused.value.status == 503


def test_one_decoder_for_each_kind(tmp_path, kept_sandbox):
    (tmp_path / "a.jpg").write_bytes(picture(".png"))
    with pytest.raises(BadFileError, match="not a kind of image that is read here"):
        kept_sandbox.look(tmp_path / "a.jpg")


def test_the_token_is_not_handed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("HAT_SR_TOKEN", "secret")
    with Sandbox(seconds=20) as sandbox:
        environment = Path(f"/proc/{sandbox._process.pid}/environ").read_bytes()
    assert b"secret" not in environment


def test_warnings_come_back(tmp_path, kept_sandbox):
    put_picture(read_image_of(picture(channels=4), tmp_path), tmp_path)
    warnings = kept_sandbox.write(tmp_path, tmp_path / "b.jpg", num_pixels=108, quality=None)
    assert warnings == ["transparency is laid on white"]


def read_image_of(data, folder):
    (folder / "picture.png").write_bytes(data)
    return read_image(folder / "picture.png")


def test_copies_of_a_file_lie_beside_it(tmp_path, monkeypatch):
    write_image(tmp_path / "a.jpg", Image(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])  # which has no mark at its end
    monkeypatch.setattr("tempfile.tempdir", None)
    targets = []
    monkeypatch.setattr(decode, "edited", lambda path, copy, edits: targets.append(copy) or edited(path, copy, edits))
    answer = child._answer("convert", {"source": str(tmp_path / "a.jpg"), "target": str(tmp_path / "b.png")})
    assert answer == {"warnings": ["the mark at its end is missing"]}
    assert [target.parent for target in targets] == [tmp_path]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.png"]


def test_no_path_is_left_in_a_sentence():
    paths = {"folder": Path("/q/files/1"), "source": Path("/q/files/1/source.png")}
    assert without_paths("/q/files/1/source.png: damaged", paths) == "damaged"
    assert without_paths('cannot open "/q/files/1/source.png"', paths) == 'cannot open "the file"'
    assert without_paths("no room in /q/files/1", paths) == "no room in the file"


def test_a_picture_goes_through_files_unchanged(tmp_path):
    attributes = (("XResolution", "float", 300.0), ("a", "int[2]", (1, 2)), ("b", "string", "ü\udce4"))
    metadata = Metadata(
        icc=b"\0profile",
        exif=None,
        xmp=b"<x/>",
        carried=(("tEXt", b"Author\0caf\xe9"), ("cHRM", bytes(32))),
        attributes=attributes,
        in_blocks=True,
        size=(2, 3),
        lossy=True,
        frame=(0.5, -1, 2, 3.25),
    )
    image = Image(np.arange(24, dtype=np.float16).reshape(2, 3, 4), linear=True, associated=True, metadata=metadata)
    put_picture(image, tmp_path)
    back = take_picture(tmp_path)
    assert (back.pixels == image.pixels).all()
    assert (back.pixels.dtype, back.linear, back.associated) == (image.pixels.dtype, True, True)
    assert back.metadata == metadata


@pytest.mark.parametrize("what", ["pixels", "rest"])
def test_what_a_hostile_child_leaves_is_not_run(tmp_path, what):
    put_picture(Image(np.zeros((2, 3, 3), np.uint8)), tmp_path)

    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    if what == "pixels":
        (tmp_path / "pixels").write_bytes(pickle.dumps(Payload())[:17])
    else:
        (tmp_path / "picture.json").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ImageError, match="damaged"):
        take_picture(tmp_path)
    assert not (tmp_path / "owned").exists()


def rest_of(folder, **changes):
    """Say something else about the picture in the folder."""
    rest = json.loads((folder / "picture.json").read_text())
    (folder / "picture.json").write_text(json.dumps({**rest, **changes}))


def test_no_more_is_read_than_a_picture_of_that_size_has(tmp_path, monkeypatch):
    put_picture(Image(np.ones((2, 3, 3), np.uint8)), tmp_path)
    with (tmp_path / "pixels").open("ab") as file:
        file.truncate(1 << 40)
    assert take_picture(tmp_path, size=(2, 3)).pixels.sum() == 18
    for changes in (
        {"shape": (3, 2, 3)},
        {"shape": (2, 3, 5)},
        {"shape": (2, 3, 1 << 40)},
        {"shape": (2, 3)},
        {"shape": (float("inf"), 3, 3)},
        {"dtype": "object"},
        {"dtype": "float64"},
    ):
        put_picture(Image(np.ones((2, 3, 3), np.uint8)), tmp_path)
        rest_of(tmp_path, **changes)
        with pytest.raises(ImageError, match="damaged"):
            take_picture(tmp_path, size=(2, 3))
    (tmp_path / "picture.json").write_text("[" * 10**6)
    with pytest.raises(ImageError, match="damaged"):
        take_picture(tmp_path, size=(2, 3))
    put_picture(Image(np.ones((2, 3, 3), np.uint8)), tmp_path)
    monkeypatch.setattr("hat_sr.serve.exchange._LARGEST_REST", 100)
    with pytest.raises(ImageError, match="beside pixels"):
        take_picture(tmp_path, size=(2, 3))


@pytest.mark.parametrize("name", ["pixels", "picture.json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_only_files_are_read(tmp_path, name, kind):
    put_picture(Image(np.ones((2, 3, 3), np.uint8)), tmp_path)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    if kind == "link":
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(tmp_path / name)
    with pytest.raises(ImageError, match="damaged"):
        take_picture(tmp_path)
