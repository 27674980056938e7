"""Limits of containers, by files as Linux shows them."""

import pytest
import torch

from hat_sr.inference import memory
from hat_sr.inference.memory import free_memory, limited_memory
from hat_sr.inference.upscaler import Upscaler
from inference.doubles import tiny_hat

MIB = 2**20
UNLIMITED_V1 = 9223372036854771712


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes what `/proc/self/cgroup` says, and files by their path below `/sys/fs/cgroup`."""
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    monkeypatch.setattr(memory, "_ROOT", tmp_path / "root")
    monkeypatch.setattr(memory, "_meminfo", lambda: {"MemTotal": 8000 * MIB, "MemAvailable": 6000 * MIB})

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return write


def v2(limit, used, inactive=0):
    return {"memory.max": limit, "memory.current": used, "memory.stat": f"anon 5\ninactive_file {inactive}\nfile 9"}


def v1(limit, used, inactive=0):
    stat = f"inactive_file 7\ntotal_inactive_file {inactive}"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


def within(folder, files):
    return {f"{folder}{name}": content for name, content in files.items()}


@pytest.mark.parametrize(
    ("own", "files", "limited", "free"),
    [
        ("0::/\n", v2(512 * MIB, 300 * MIB, 100 * MIB), 512, 312),
        ("0::/\n", v2("max", 300 * MIB), None, None),
        ("0::/\n", v2("max", 300 * MIB) | {"memory.high": 400 * MIB}, 400, 100),
        ("0::/a/b\n", within("a/b/", v2(900 * MIB, 100 * MIB)) | within("a/", v2(500 * MIB, 450 * MIB)), 500, 50),
        ("0::/a/b\n", within("a/b/", v2("max", 9)) | within("a/", v2(500 * MIB, 450 * MIB)), 500, 50),
        ("0::/kubepods/pod1\n", v2(256 * MIB, 300 * MIB), 256, 0),  # the host's path, not seen inside
        ("0::/../../user.slice\n", v2(256 * MIB, 0), 256, 256),
        (
            "12:cpu,cpuacct:/a\n4:memory:/docker/1\n1:name=systemd:/x\n0::/x\n",
            within("memory/docker/1/", v1(700 * MIB, 100 * MIB, 50 * MIB)) | within("memory/", v1(UNLIMITED_V1, 0)),
            700,
            650,
        ),
        ("4:memory:/docker/1\n", within("memory/", v1(700 * MIB, 100 * MIB)), 700, 600),
        ("", {}, None, None),
    ],
)
def test_the_smallest_limit_around_the_process_counts(groups, own, files, limited, free):
    groups(own, files)
    assert limited_memory() == (None if limited is None else limited * MIB)
    assert free_memory() == (None if free is None else free * MIB)
    assert memory.installed_memory() == (8000 if limited is None else limited) * MIB
    assert memory.memory_budget(torch.device("cpu")) == int(0.7 * (6000 if free is None else free) * MIB)


def test_no_limit_of_version_1_is_a_number_that_the_machine_has_not(groups):
    groups("4:memory:/\n", within("memory/", v1(UNLIMITED_V1, 100 * MIB)))
    assert memory.installed_memory() == 8000 * MIB
    assert memory.memory_budget(torch.device("cpu")) == int(0.7 * 6000 * MIB)


def test_a_picture_is_planned_within_the_container(groups):
    groups("0::/\n", v2(64 * MIB, 60 * MIB))
    assert Upscaler(tiny_hat(), device="cpu").plan(600, 600).tile_size is not None


def test_without_linux_there_are_no_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_OWN", tmp_path / "missing")
    assert limited_memory() is None
    assert free_memory() is None
