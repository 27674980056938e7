"""The queue on disk: what was taken is there, whatever happens to the process."""

import subprocess
import sys
import time

import pytest

from hat_sr.errors import ConfigError
from hat_sr.serve.store import Job, Store


def add(store, *, direct=False, max_queue=100, **changes):
    identity, _ = store.new_folder()
    job = Job(
        id=identity,
        direct=direct,
        model="m",
        scale=2.0,
        height=3,
        width=4,
        source_suffix=".png",
        suffix=".png",
        created=time.time(),
        **changes,
    )
    store.source(job).write_bytes(b"source")
    return job if store.add(job, max_queue=max_queue) else None


def done(store):
    job = store.claim()
    store.result(job).write_bytes(b"result")
    assert store.finish(job, warnings=["a", "b"])
    return store.get(job.id)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def test_turns(store):
    first, second, waited_for = add(store), add(store), add(store, direct=True)
    assert store.unfinished() == [waited_for.id, first.id, second.id]
    assert store.claim().id == waited_for.id
    assert store.claim().id == first.id
    assert store.unfinished()[:2] in ([waited_for.id, first.id],)
    assert store.claim().id == second.id
    assert store.claim() is None


def test_a_job_keeps_all_that_is_known_of_it(store):
    job = add(store, quality=80)
    assert store.get(job.id) == job
    now = done(store)
    assert (now.state, now.warnings, now.quality, now.is_finished) == ("done", "a\nb", 80, True)
    assert now.created <= now.started <= now.finished
    assert store.get("unknown") is None


def test_no_more_than_so_many(store):
    assert add(store, max_queue=2)
    assert add(store, max_queue=2)
    assert add(store, max_queue=2) is None
    done(store)
    assert add(store, max_queue=2)


def test_ends_are_final(store):
    job = add(store)
    store.claim()
    assert store.cancel(job.id)
    store.result(job).write_bytes(b"late")
    assert not store.finish(job, warnings=[])
    assert not store.fail(job, 500, "late")
    assert not store.cancel(job.id)
    assert (store.get(job.id).state, store.get(job.id).status) == ("cancelled", 410)


def test_a_job_that_waits_and_is_cancelled_leaves_no_files(store):
    job = add(store)
    assert store.cancel(job.id)
    assert not store.folder(job.id).exists()
    assert store.claim() is None


def test_what_is_finished_is_forgotten_after_a_while(store):
    job, unfinished = add(store), add(store)
    finished = done(store).finished
    store.remove_finished(before=finished, max_bytes=100)
    assert store.get(job.id) is not None
    store.remove_finished(before=finished + 1, max_bytes=100)
    assert store.get(job.id) is None
    assert not store.folder(job.id).exists()
    assert store.source(unfinished).exists()


def test_the_oldest_is_forgotten_if_there_is_too_much(store):
    jobs = [add(store) for _ in range(4)]
    for _ in jobs[:3]:
        done(store)  # files of twelve bytes each
    store.remove_finished(before=0, max_bytes=24)
    assert all(store.get(job.id) for job in jobs)
    store.remove_finished(before=0, max_bytes=23)
    assert [store.get(job.id) is not None for job in jobs] == [False, True, True, True]
    assert not store.folder(jobs[0].id).exists()
    assert store.source(jobs[3]).exists()


def test_a_start_goes_on_where_the_last_one_ended(tmp_path):
    store = Store(tmp_path)
    ready, running, waiting = add(store), add(store), add(store)
    done(store)
    assert store.claim().id == running.id
    direct = add(store, direct=True)
    _, refused = store.new_folder()
    store.close()
    store = Store(tmp_path)
    assert store.unfinished() == [running.id, waiting.id]
    assert store.get(running.id).state == "queued"
    assert store.get(direct.id) is None
    assert store.result(ready).read_bytes() == b"result"
    assert not refused.exists()
    assert not store.folder(direct.id).exists()
    store.close()


def test_one_process_has_the_folder(tmp_path, store):
    code = f"from pathlib import Path; from hat_sr.serve.store import Store; Store(Path({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another server works there" in done.stderr
    with pytest.raises(ConfigError, match="another server works there"):
        Store(tmp_path)
