"""Cancelling and stopping: the worker is free again, and nothing is lost."""

import io

import pytest

from hat_sr.errors import ConfigError
from hat_sr.serve.service import MEDIA_TYPES, Service, suffix_of_result, suffix_of_upload
from hat_sr.serve.settings import RefusedError, ServerSettings
from serve.serving import Held, finished, picture, serving, settings, upload, wait_until

pytestmark = pytest.mark.usefixtures("shared")


def test_a_cancelled_job_frees_the_worker(tmp_path, monkeypatch):
    with serving(tmp_path) as (service, client):
        held = Held(monkeypatch)
        first, second = (client.post("/v1/jobs", files=upload(picture())).json()["id"] for _ in range(2))
        assert held.reached.wait(60)
        job = client.get(f"/v1/jobs/{first}").json()
        assert (job["state"], job["progress"] > 0, job["seconds_left"] >= 0) == ("running", True, True)
        assert client.delete(f"/v1/jobs/{first}").status_code == 204
        held.go.set()
        finished(client, first, "cancelled")
        assert client.get(f"/v1/jobs/{first}/result").json() == {"error": "the job was cancelled"}
        finished(client, second)
        assert not service.store.folder(first).exists()
        assert 'hat_sr_jobs_total{outcome="cancelled"} 1.0' in client.get("/metrics").text


def test_a_stop_in_the_middle_loses_nothing(tmp_path, monkeypatch):
    with serving(tmp_path) as (service, client), monkeypatch.context() as patched:
        held = Held(patched)
        held.go = service.worker._stopping
        ids = [client.post("/v1/jobs", files=upload(picture(seed=seed))).json()["id"] for seed in range(3)]
        assert held.reached.wait(60)
    with serving(tmp_path) as (_, client):
        for seed, identity in enumerate(ids):
            finished(client, identity)
            again = client.post("/v1/upscale", files=upload(picture(seed=seed)))
            assert client.get(f"/v1/jobs/{identity}/result").content == again.content


def test_a_network_that_the_next_server_has_not(tmp_path, monkeypatch):
    with serving(tmp_path) as (service, client):
        monkeypatch.setattr(service.store, "claim", lambda: None)  # nobody works
        identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
    with serving(tmp_path, models=("hat-xxs-x2",)) as (_, client):
        job = finished(client, identity, "failed")
        assert job["error"] == "the network tiny is not on offer any more: send the picture again"
        assert client.get(f"/v1/jobs/{identity}/result").status_code == 410


def test_alpha_is_the_second_half(tmp_path):
    with Service(settings(tmp_path)) as service:
        parts = []
        wanted = service.worker._is_wanted
        service.worker._is_wanted = lambda job: parts.append(service.worker.progress(job.id)[0]) or wanted(job)
        job = service.submit(io.BytesIO(picture(channels=4)))
        wait_until(lambda: service.job(job.id).is_finished)
    assert parts[0] == 0
    assert parts == sorted(parts)
    assert 0.5 in parts


def test_what_browsers_do_not_show_is_shown_as_png(tmp_path):
    with serving(tmp_path) as (service, client):
        for kind, name in (("tif", "after.png"), ("jpg", "result.jpg")):
            identity = client.post("/v1/jobs", files=upload(picture()), data={"format": kind}).json()["id"]
            finished(client, identity)
            before, after = service.before(identity), service.after(identity)
            assert (before.name, after.name) == ("before.png", name)
            assert before.read_bytes()[:4] == after.read_bytes()[:4] or kind == "jpg"


@pytest.mark.parametrize(
    "change",
    [
        {"max_bytes": 0},
        {"direct_seconds": -1},
        {"keep_seconds": float("nan")},
        {"token": ""},
        {"token": "secret\n"},
        {"idle_seconds": 0},
        {"models": ()},
    ],
)
def test_settings_that_cannot_be(tmp_path, change):
    with pytest.raises(ConfigError):
        ServerSettings(folder=tmp_path, **change)


@pytest.mark.parametrize("suffix", MEDIA_TYPES)
def test_kinds_are_told_by_their_beginning(suffix):
    assert suffix_of_upload(picture(suffix)[:12]) == suffix


@pytest.mark.parametrize(
    ("wanted", "source", "suffix"),
    [(None, ".tif", ".tif"), ("", ".gif", ".png"), ("JPEG", ".png", ".jpg"), (".tiff", ".png", ".tif")],
)
def test_the_kind_of_the_result(wanted, source, suffix):
    assert suffix_of_result(wanted, source) == suffix


def test_a_kind_that_is_not_written():
    with pytest.raises(RefusedError, match="'gif' is not written here"):
        suffix_of_result("gif", ".png")


def test_two_networks_of_one_name(tmp_path):
    model = settings(tmp_path).models[0]
    with pytest.raises(ConfigError, match="each needs another name"):
        Service(settings(tmp_path, models=(model, model)))
