"""Disks that are full or may not be written to: small file systems in memory, which only root can mount."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from cli.running import run, write_noise
from hat_sr.image.io import read_image
from hat_sr.inference.manifest import NAME


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


def call(monkeypatch, command):
    words = ("batch", "in", "out") if command == "batch" else ("upscale", "in", "-o", "out")
    return run(monkeypatch, *words, "--format", "tif", "--model", "bicubic", "--scale", "2")


@pytest.mark.parametrize("command", ["upscale", "batch"])
def test_a_disk_that_fills_up_and_is_made_larger(mounted, monkeypatch, capsys, command):
    out = mounted("size=1700k")
    (out / "ballast").write_bytes(bytes(300_000))
    assert call(monkeypatch, command) == 1
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
    assert call(monkeypatch, command) == 0
    assert len(list(out.glob("*.tif"))) == 8
    assert made == {name: (out / name).stat().st_mtime_ns for name in names}


@pytest.mark.parametrize("command", ["upscale", "batch"])
def test_a_disk_without_room_for_a_line(mounted, monkeypatch, capsys, command):
    out = mounted("size=1m")
    room = shutil.disk_usage(out).free
    (out / "ballast").write_bytes(np.zeros(room, np.uint8))
    assert call(monkeypatch, command) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(out.glob("*.tif"))
    (out / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(out)], check=True)
    assert call(monkeypatch, command) == 0
    assert len(list(out.glob("*.tif"))) == 8


@pytest.mark.parametrize("command", ["upscale", "batch"])
def test_a_disk_that_may_not_be_written_to(mounted, monkeypatch, capsys, command):
    out = mounted("size=1m,ro")
    assert call(monkeypatch, command) != 0
    said = capsys.readouterr().err
    assert "cannot be written to" in said or "Read-only file system" in said
    assert list(out.iterdir()) == []
