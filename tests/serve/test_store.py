"""The queue on disk: what was taken is there, whatever happens to the process."""

import sqlite3
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
    assert store.unfinished()[:2] == [waited_for.id, first.id]
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


def test_a_job_that_ends_the_process_is_not_tried_for_ever(tmp_path):
    for attempt in range(3):
        store = Store(tmp_path)
        if attempt == 0:
            job = add(store)
        if attempt < 2:
            assert store.claim().id == job.id
            assert store.get(job.id).attempts == attempt + 1
        store.close()  # as a kill does it: nothing is said of the job
    store = Store(tmp_path)
    now = store.get(job.id)
    assert (now.state, now.status) == ("failed", 500)
    assert "ended 2 times while it worked on this picture" in now.error
    assert not store.folder(job.id).exists()
    assert store.claim() is None
    store.close()


def test_a_stop_in_order_is_no_attempt(tmp_path):
    for _ in range(4):
        store = Store(tmp_path)
        if not store.unfinished():
            job = add(store)
        assert store.claim().id == job.id
        store.requeue()
        assert (store.get(job.id).state, store.get(job.id).attempts) == ("queued", 0)
        store.close()


def damage(path, how):
    if how == "gone":
        path.unlink()
    elif how == "text":
        path.write_text("my notes\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "another program's":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE jobs (name TEXT)")
        database.close()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["gone", "text", "empty", "folder", "another program's", "half"])
def test_a_damaged_database_costs_no_files(tmp_path, caplog, how):
    store = Store(tmp_path)
    ready, waiting = add(store), add(store)
    done(store)
    store.close()
    damage(tmp_path / "jobs.sqlite", how)
    for _ in range(2):
        store = Store(tmp_path)
        assert store.unfinished() == []
        assert store.claim() is None
        add(store)
        store.close()
        aside = tmp_path / "aside-1/files"
        assert (aside / ready.id / "result.png").read_bytes() == b"result"
        assert (aside / waiting.id / "source.png").read_bytes() == b"source"
        assert caplog.text.count("damaged or missing: what was there is kept in") == 1
        store = Store(tmp_path)
        store.remove(store.unfinished()[0])
        store.close()
    assert (tmp_path / "aside-1/jobs.sqlite").exists() == (how != "gone")


def test_the_second_time_it_is_put_elsewhere(tmp_path):
    for number in (1, 2):
        store = Store(tmp_path)
        job = add(store)
        store.close()
        (tmp_path / "jobs.sqlite").write_text("notes")
        Store(tmp_path).close()
        assert (tmp_path / f"aside-{number}/files/{job.id}/source.png").exists()


@pytest.mark.parametrize("what", ["", "files", "lock"])
def test_a_folder_that_is_none(tmp_path, what):
    if what == "lock":
        (tmp_path / "queue/lock").mkdir(parents=True)
    else:
        (tmp_path / "queue" / what).parent.mkdir(exist_ok=True)
        (tmp_path / "queue" / what).write_text("a file")
    with pytest.raises(ConfigError, match="not a folder for a queue"):
        Store(tmp_path / "queue")
