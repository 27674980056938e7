"""Disks that are full or may not be written to: small file systems in memory, which only root can mount."""

import os
import shutil
import subprocess
import threading
from contextlib import suppress

import numpy as np
import pytest

from cli.running import run, write_noise
from hat_sr.batch.ledger import NAME
from hat_sr.image.io import read_image
from serve.serving import finished, picture, serving, upload


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """`in` with eight pictures whose results take 130 KB each as TIFF, and `out` on a disk of its own: its options."""
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        write_noise(tmp_path / f"in/{number}.png", 85, 128)
    (tmp_path / "out").mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path / "out")]
        if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("only root can mount a file system, and not everywhere")
        return tmp_path / "out"

    yield mount
    if os.path.ismount(tmp_path / "out"):
        subprocess.run(["umount", str(tmp_path / "out")], check=True)


def call(monkeypatch):
    return run(monkeypatch, "upscale", "in", "-o", "out", "--format", "tif", "--model", "bicubic", "--scale", "2")


def test_a_disk_that_fills_up_and_is_made_larger(mounted, monkeypatch, capsys):
    out = mounted("size=1700k")
    (out / "ballast").write_bytes(bytes(300_000))
    assert call(monkeypatch) == 1
    said = capsys.readouterr().err
    names = sorted(path.name for path in out.glob("*.tif"))
    assert 0 < len(names) < 8
    assert said.count("failed: in/") == 8 - len(names)
    assert "MB free there, and up to" in said
    for name in names:
        assert read_image(out / name).pixels.shape == (170, 256, 3)
    assert sorted(path.name for path in out.iterdir()) == [NAME, *names, "ballast"]
    subprocess.run(["mount", "-o", "remount,size=20m", str(out)], check=True)
    made = {name: (out / name).stat().st_mtime_ns for name in names}
    assert call(monkeypatch) == 0
    assert len(list(out.glob("*.tif"))) == 8
    assert made == {name: (out / name).stat().st_mtime_ns for name in names}


def test_a_disk_without_room_for_a_line(mounted, monkeypatch, capsys):
    out = mounted("size=1m")
    room = shutil.disk_usage(out).free
    (out / "ballast").write_bytes(np.zeros(room, np.uint8))
    assert call(monkeypatch) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(out.glob("*.tif"))
    (out / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(out)], check=True)
    assert call(monkeypatch) == 0
    assert len(list(out.glob("*.tif"))) == 8


def test_a_disk_that_may_not_be_written_to(mounted, monkeypatch, capsys):
    out = mounted("size=1m,ro")
    assert call(monkeypatch) != 0
    said = capsys.readouterr().err
    assert "cannot be written to" in said or "Read-only file system" in said
    assert list(out.iterdir()) == []


FULL = {"error": "the server's disk is full: try again later"}


@pytest.fixture
def queue(mounted, tmp_path, shared):
    """The disk on which the queue of a server of this test is."""

    def mount(options):
        (tmp_path / "queue").symlink_to(mounted(options))
        return tmp_path / "out"

    return mount


def fill(disk):
    """Leave no room: a file has it, `ballast`."""
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(disk).free == 0


SOURCE = picture(height=170, width=256)


@pytest.mark.parametrize("size", ["800k", "2m"])  # no room for the pixels, and not for the file of the result
def test_a_server_says_that_its_disk_is_full(queue, tmp_path, size):
    disk = queue(f"size={size}")
    with serving(tmp_path) as (service, client):
        identity = client.post("/v1/jobs", files=upload(SOURCE)).json()["id"]
        assert finished(client, identity, "failed")["error"] == FULL["error"]
        answer = client.get(f"/v1/jobs/{identity}/result")
        assert (answer.status_code, answer.json()) == (507, FULL)
        answer = client.post("/v1/upscale", files=upload(SOURCE))
        assert (answer.status_code, answer.json()) == (507, FULL)
        assert not [path for path in (disk / "files").rglob("*") if path.is_file()]
        assert client.post("/v1/upscale", files=upload(picture())).status_code == (200 if size == "2m" else 507)
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert client.post("/v1/upscale", files=upload(SOURCE)).status_code == 200
        assert service.store.unfinished() == []


def test_a_job_whose_end_cannot_be_written_down_is_done_later(queue, tmp_path, monkeypatch):
    disk, full, calls = queue("size=3m"), threading.Event(), []
    with serving(tmp_path) as (service, client):
        clear_work = service.store.clear_work

        def clear_and_fill(job):
            clear_work(job)
            calls.append(job)
            if len(calls) == 2:  # the first is before the work
                fill(disk)
                full.set()

        with monkeypatch.context() as patched:
            patched.setattr("hat_sr.serve.worker.enlarge_image", lambda *_, **__: 1 / 0)
            patched.setattr(service.store, "clear_work", clear_and_fill)
            identity = client.post("/v1/jobs", files=upload(SOURCE)).json()["id"]
            assert full.wait(60)
            answer = client.post("/v1/jobs", files=upload(SOURCE))
            assert (answer.status_code, answer.json()) == (507, FULL)
            assert client.get(f"/v1/jobs/{identity}").json()["state"] == "running"
        (disk / "ballast").unlink()
        finished(client, identity)
        assert service.store.unfinished() == []


def test_a_job_that_cannot_be_written_down_is_not_taken(queue, tmp_path, monkeypatch):
    disk = queue("size=3m")
    with serving(tmp_path) as (service, client):
        planned = service._planned
        with monkeypatch.context() as patched:
            patched.setattr(service, "_planned", lambda *_, **options: (planned(*_, **options), fill(disk))[0])
            answer = client.post("/v1/jobs", files=upload(SOURCE))
        assert (answer.status_code, answer.json()) == (507, FULL)
        assert service.store.unfinished() == []
        (disk / "ballast").unlink()
        finished(client, client.post("/v1/jobs", files=upload(SOURCE)).json()["id"])
