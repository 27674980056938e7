"""A batch on a Ray cluster of two workers on this machine: `make test-cluster` runs these."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.running import write_noise
from hat_sr.batch.ledger import NAME
from hat_sr.inference.lines import read_lines

pytest.importorskip("ray", reason="Ray is not installed: make test-cluster")

NUM_FILES = 24
ONE_THREAD = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


def start(folder, *words):
    command = [sys.executable, "-m", "hat_sr", "upscale", "in", "-o", *words, "--model", "hat-xs-x2"]
    return subprocess.Popen(command, cwd=folder, env=ONE_THREAD, stderr=subprocess.PIPE, text=True)


def workers_of(process):
    """Process ids of the Ray workers that hold a network, begun by this process."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(path.name)] = (path / "cmdline").read_text()
        except (OSError, ValueError, IndexError):
            continue

    def descends(number):
        while number > 1 and number != process.pid:
            number = parents.get(number, 0)
        return number == process.pid

    return [number for number, name in names.items() if name.startswith("ray::Map") and descends(number)]


def done(folder):
    return list(folder.rglob("[!.]*.png"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, and what one process makes of them."""
    path = tmp_path_factory.mktemp("batch")
    for number in range(NUM_FILES):
        write_noise(path / f"in/{number % 3}/{number}.png", 60 + number, 80)
    process = start(path, "alone")
    _, said = process.communicate()
    assert process.returncode == 0, said
    return path


def check(folder, name):
    """Every file once, and as one process makes it."""
    for path in done(folder / "alone"):
        assert (folder / name / path.relative_to(folder / "alone")).read_bytes() == path.read_bytes()
    lines = [line["done"] for line in read_lines(folder / name / NAME) if "done" in line]
    assert sorted(lines) == sorted(path.relative_to(folder / name).as_posix() for path in done(folder / name))
    assert len(lines) == NUM_FILES


def test_one_of_two_workers_is_killed(folder):
    process = start(folder, "killed", "--engine", "ray", "--workers", "2")
    times = {}
    killed = []
    while process.poll() is None:
        for path in done(folder / "killed"):
            times.setdefault(path, path.stat().st_mtime_ns)
        if not killed and len(times) >= 5 and len(workers := workers_of(process)) == 2:
            os.kill(workers[0], signal.SIGKILL)
            killed = workers[:1]
        time.sleep(0.01)
    assert process.returncode == 0, process.stderr.read()
    process.stderr.close()
    assert killed
    check(folder, "killed")
    assert times == {path: path.stat().st_mtime_ns for path in times}  # nothing was made twice


def test_the_whole_command_is_killed_and_started_again(folder):
    process = start(folder, "again", "--engine", "ray", "--workers", "2")
    while process.poll() is None and len(done(folder / "again")) < 5:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in done(folder / "again")}
    assert 5 <= len(before) < NUM_FILES
    process = start(folder, "again", "--engine", "ray", "--workers", "2")
    _, said = process.communicate()
    assert process.returncode == 0, said
    check(folder, "again")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_file_that_ends_its_worker_fails_alone(folder, tmp_path):
    """Its worker is killed whenever it begins with that file, as it would be if memory ran out."""
    program = """
import os, signal, sys
from hat_sr.batch.local import BatchWorker
from hat_sr.batch.plan import FileJob
from hat_sr.batch.ray import Cluster, RayWorker, run_on_ray
from hat_sr.inference.enlarge import Settings

run = BatchWorker.run
def fatal(worker, job, **options):
    if job.input == "1/4.png":
        os.kill(os.getpid(), signal.SIGKILL)
    return run(worker, job, **options)

class Patched(RayWorker):
    def __call__(self, row):
        BatchWorker.run = fatal
        return super().__call__(row)

import hat_sr.batch.ray
hat_sr.batch.ray.RayWorker = Patched
settings = Settings(model="bicubic", scale=2)
names = [f"{number % 3}/{number}.png" for number in range(24)]
places = {"source": "in", "destination": "fatal", "in_ledger": True}
jobs = [FileJob(result=name, input=name, stamp=None, before=None, **places) for name in names]
for _, outcome in run_on_ray(jobs, settings, Cluster(num_workers=2)):
    print(outcome.result, outcome.reason, flush=True)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line[:1].isdigit()]  # Ray prints there, too
    assert len(lines) == NUM_FILES
    (failed,) = [line for line in lines if not line.endswith(" None")]
    assert "1/4.png: its worker ended 3 times" in failed


def test_relative_paths_reach_workers_that_were_started_elsewhere(folder, tmp_path):
    program = """
import os, sys
import ray
here = os.getcwd()
os.chdir(sys.argv.pop(1))
ray.init(address="local", log_to_driver=False, include_dashboard=False)
os.chdir(here)
from hat_sr.cli import main
main()
"""
    words = ["upscale", "in", "-o", "relative", "--engine", "ray", "--model", "bicubic", "--scale", "2"]
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *words],
        cwd=folder,
        env=ONE_THREAD,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(done(folder / "relative")) == NUM_FILES
