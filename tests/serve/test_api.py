"""The API as a client sees it: the same pixels as the command, and every limit with its status."""

import json
import re
import shutil
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from cli.running import run
from hat_sr.image.io import read_image
from hat_sr.serve.api import _header
from serve.serving import finished, picture, save_tiny, serving, upload, wait_until

pytestmark = pytest.mark.usefixtures("shared")


@pytest.fixture
def client(tmp_path):
    with serving(tmp_path) as (_, client):
        yield client


@pytest.mark.parametrize(
    ("suffix", "channels", "fields", "options"),
    [
        (".png", 3, {}, ()),
        (".png", 4, {"scale": "1.5"}, ("--scale", "1.5")),
        (".jpg", 3, {"quality": "80"}, ("--quality", "80")),
        (".tif", 1, {"format": "webp"}, ("--format", "webp")),
        (".bmp", 3, {"format": "exr"}, ("--format", "exr")),
    ],
)
def test_the_answer_is_the_file_that_the_command_writes(
    tmp_path, monkeypatch, client, suffix, channels, fields, options
):
    data = picture(suffix, channels=channels)
    (tmp_path / f"a{suffix}").write_bytes(data)
    words = ("upscale", tmp_path / f"a{suffix}", "-o", tmp_path / "out", "-m", save_tiny(tmp_path))
    assert run(monkeypatch, *words, "--precision", "fp32", *options) == 0
    (expected,) = (tmp_path / "out").iterdir()
    answer = client.post("/v1/upscale", files=upload(data), data=fields)
    assert answer.status_code == 200
    assert answer.content == expected.read_bytes()
    assert answer.headers["content-disposition"].endswith(f'{expected.suffix}"')


def test_a_job_from_upload_to_deletion(tmp_path, client):
    answer = client.post("/v1/jobs", files=upload(data := picture()))
    assert answer.status_code == 202
    identity = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{identity}"
    job = finished(client, identity)
    assert (job["progress"], job["result_width"], job["result_height"], job["format"]) == (1, 24, 18, "png")
    result = client.get(f"/v1/jobs/{identity}/result")
    assert result.headers["content-type"] == "image/png"
    assert result.content == client.post("/v1/upscale", files=upload(data)).content
    assert client.delete(f"/v1/jobs/{identity}").status_code == 204
    for path in ("", "/result", "/events"):
        assert client.get(f"/v1/jobs/{identity}{path}").status_code == 404
    assert list((tmp_path / "queue/files").iterdir()) == []


def test_behind_a_proxy_that_shows_it_under_a_path(tmp_path):
    with serving(tmp_path, root_path="/hat") as (_, client):
        answer = client.post("/v1/jobs", files=upload(picture()))
        assert answer.headers["location"] == f"/hat/v1/jobs/{answer.json()['id']}"
        for path in ("/", "/ui"):
            assert client.get(path, follow_redirects=False).headers["location"] == "/hat/ui/"
        assert client.get("/ui/theme.css").status_code == 404  # there is none, but it is counted as the page
        counted = client.get("/metrics").text
    assert 'hat_sr_requests_total{path="/v1/jobs",status="202"} 1.0' in counted
    assert 'hat_sr_requests_total{path="/ui",status="404"} 1.0' in counted


def test_events_end_with_the_outcome(client):
    identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
    text = client.get(f"/v1/jobs/{identity}/events").text
    events = re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)
    assert {name for name, _ in events[:-1]} <= {"progress"}
    assert events[-1][0] == "done"
    parts = [json.loads(data)["progress"] for _, data in events]
    assert parts == sorted(parts)
    assert parts[-1] == 1


def test_models(tmp_path):
    with serving(tmp_path, models=("auto", save_tiny(tmp_path))) as (_, client):
        models = client.get("/v1/models").json()
    assert models[0] == {"name": "auto", "scale": None, "default": True}
    assert {"name": "tiny", "scale": 2, "default": False} in models
    assert str(tmp_path) not in json.dumps(models)


def test_auto_takes_the_network_that_the_command_takes(tmp_path):
    with serving(tmp_path, models=("auto",)) as (_, client):
        for suffix, fields, name in (
            (".png", {}, "hat-xs-x4"),
            (".jpg", {}, "hat-xs-x4-real"),
            (".jpg", {"scale": "1.5"}, "hat-xs-x4-real"),
            (".png", {"scale": "1.5"}, "hat-xs-x2"),
            (".png", {"model": "hat-xxs-x2"}, "hat-xxs-x2"),
        ):
            answer = client.post("/v1/upscale", files=upload(picture(suffix)), data=fields)
            assert answer.headers["x-model"] == name


def test_a_network_whose_name_no_header_can_hold(tmp_path):
    path = tmp_path / "日本 ×2.safetensors"
    shutil.copy(save_tiny(tmp_path), path)
    with serving(tmp_path, models=(str(path),)) as (_, client):
        answer = client.post("/v1/upscale", files=upload(picture(".png")))
    assert answer.status_code == 200
    assert answer.headers["x-model"] == "%E6%97%A5%E6%9C%AC%20%C3%972"


def bomb(width, height):
    """A PNG whose header says so, and that holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * width) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def many_scans(number):
    """A JPEG that says so often the same."""
    data = picture(".jpg")
    start = data.index(b"\xff\xda")
    return data[:start] + data[start:-2] * number + b"\xff\xd9"


SMALL = {"direct_pixels": 10**3, "max_pixels": 10**4, "max_result_pixels": 3 * 10**4, "max_bytes": 10**5}


@pytest.mark.parametrize(
    ("path", "data", "fields", "status", "words"),
    [
        ("upscale", b"", {}, 415, "empty"),
        ("upscale", b"<svg onload=alert(1)>", {}, 415, "JPEG, PNG, TIFF, WebP, BMP, EXR and GIF are accepted"),
        ("jobs", picture(), {"format": "heic"}, 415, "jpg, png, tif"),
        ("upscale", picture(height=40, width=30), {}, 413, "send it to /v1/jobs"),
        ("jobs", picture(height=101, width=100), {}, 413, "100×101 pixels, and up to 10000"),
        ("jobs", picture(height=90, width=100), {}, 413, "makes 36000, and up to 30000"),
        ("jobs", bomb(12000, 12000), {}, 413, "12000×12000 pixels"),
        ("jobs", bomb(60000, 60000), {}, 422, "malicious header"),
        ("jobs", bytes(200_000), {}, 413, "larger than 100000 bytes"),
        ("jobs", b"\x89PNG\r\n\x1a\n" + bytes(50), {}, 422, ""),
        ("upscale", picture()[:-20], {}, 422, "damaged or cut short"),
        ("jobs", picture(), {"scale": "2.5"}, 422, "not between 1 and 2"),
        ("jobs", picture(), {"scale": "nan"}, 422, "not between 1 and 2"),
        ("jobs", picture(), {"scale": "much"}, 422, "scale: Input should be a valid number"),
        ("jobs", picture(), {"model": "/etc/passwd"}, 422, "not on offer: tiny are"),
        ("jobs", picture(".jpg"), {"quality": "101"}, 422, "1 to 100"),
        ("jobs", None, {}, 415, "send a form (multipart/form-data) whose field 'file' is the image"),
        ("jobs", None, {"scale": "2"}, 415, "send a form"),
        (
            "jobs",
            picture(),
            {"scales": "2"},
            422,
            "scales: there is no such field: file, scale, model, format, quality",
        ),
        ("upscale?scale=2", picture(), {}, 422, "scale: addresses below /v1 take no parameters"),
        ("jobs", picture(), {"scale": ["1.5", "2"]}, 422, "scale: the field comes 2 times"),
        ("jobs", picture(".jpg"), {"model": "x" * 20_000}, 400, "the form is broken: Part exceeded maximum size"),
        ("jobs", many_scans(101), {}, 422, "more than 100 scans"),
    ],
)
def test_what_is_refused(tmp_path, path, data, fields, status, words):
    with serving(tmp_path, **SMALL) as (_, client):
        answer = client.post(f"/v1/{path}", files=None if data is None else upload(data), data=fields)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        assert words in answer.json()["error"]
        assert str(tmp_path) not in answer.text
        assert "Traceback" not in answer.text
        assert client.post("/v1/upscale", files=upload(picture())).status_code == 200
    assert list((tmp_path / "queue/files").iterdir()) == []


def test_a_request_in_chunks_is_counted(tmp_path):
    def chunks():
        yield b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
        for _ in range(20):
            yield bytes(10_000)

    with serving(tmp_path, **SMALL) as (_, client):
        answer = client.post("/v1/jobs", content=chunks(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413
    assert "larger than 100000 bytes" in answer.json()["error"]


def test_a_form_without_a_file(client):
    answer = client.post("/v1/jobs", files={"scale": (None, "2")})
    assert (answer.status_code, answer.json()) == (422, {"error": "file: Field required"})
    answer = client.post("/v1/jobs", files={"file": (None, "photo.jpg")})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("file: a file is wanted, and this is text")


def test_two_files(client):
    files = [("file", ("a.png", picture())), ("file", ("b.png", picture()))]
    answer = client.post("/v1/jobs", files=files)
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "file: the field comes 2 times, and is accepted once"},
    )


def test_a_file_whose_name_is_in_another_alphabet(client):
    part = b"--x\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''%E5%B1%B1.png\r\n\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/upscale", content=part + picture() + b"\r\n--x--\r\n", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")


def test_what_is_lost_is_said_beside_the_picture(client):
    answer = client.post("/v1/upscale", files=upload(picture(channels=4)), data={"format": "jpg"})
    assert json.loads(answer.headers["x-warnings"]) == ["transparency is laid on white"]
    answer = client.post("/v1/upscale", files=upload(picture()))
    assert json.loads(answer.headers["x-warnings"]) == []


def test_a_header_has_room_for_so_much():
    lines = ["ä" * 500] * 100
    assert json.loads(_header(lines)) == lines[:1]
    assert len(_header(["x" * 500] * 100)) < 4100
    assert _header(["x" * 10**6]) == "[]"


def test_what_can_be_read_can_be_asked_for_without_its_body(client):
    identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
    finished(client, identity)
    job = f"/v1/jobs/{identity}"
    pages = ("/ui/", "/ui/page.js", "/ui/page.css", "/favicon.ico", "/healthz", "/readyz", "/metrics", "/v1/models")
    for path in (*pages, job, f"{job}/result", f"{job}/before", f"{job}/after"):
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, whole.status_code) == (200, 200)
        assert head.headers["content-type"] == whole.headers["content-type"]
        if path != "/metrics":  # which counts both
            assert head.headers["content-length"] == whole.headers["content-length"]
    assert client.head("/v1/jobs/unknown/result").status_code == 404
    assert client.head("/v1/jobs").status_code == 405


def test_a_page_and_none(tmp_path):
    with serving(tmp_path) as (_, client):
        assert client.get("/").text.startswith("<!doctype html>")
    with serving(tmp_path, page=False) as (_, client):
        assert client.get("/ui/").status_code == 404
        assert client.get("/", follow_redirects=False).headers["location"] == "/docs"


def test_answers_come_while_files_are_looked_at(tmp_path, monkeypatch, shared):
    go, at_it = threading.Event(), threading.Semaphore(0)

    def slow(source):
        at_it.release()
        assert go.wait(60)
        return {"height": 9, "width": 12, "channels": 3, "lossy": False}

    with serving(tmp_path, max_uploads=20) as (_, client), ThreadPoolExecutor(60) as people:
        monkeypatch.setattr(shared, "look", slow)
        answers = [people.submit(client.post, "/v1/jobs", files=upload(picture())) for _ in range(60)]
        assert at_it.acquire(timeout=60)
        refused = [answer.result() for _, answer in zip(range(40), as_completed(answers), strict=False)]
        assert {answer.status_code for answer in refused} == {503}
        assert int(refused[0].headers["retry-after"]) > 0
        for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/ui/"):
            assert client.get(path).status_code == 200
        go.set()
        assert sorted(answer.result().status_code for answer in answers) == [202] * 20 + [503] * 40


def test_names_that_a_client_made_up_are_not_repeated_at_length(client):
    names = [f"{number}{'x' * 1000}" for number in range(100)]
    for answer in (
        client.post("/v1/jobs", files=upload(picture()), data=dict.fromkeys(names, "1")),
        client.post("/v1/jobs", files=upload(picture()), params=dict.fromkeys(names[:10], "1")),
    ):
        assert answer.status_code == 422
        assert len(answer.text) < 400


def test_a_form_that_is_broken(client):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/jobs", content=b"--y nothing of the kind", headers=headers)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


def test_a_queue_that_is_full(tmp_path, monkeypatch):
    with serving(tmp_path, max_queue=2) as (service, client):
        monkeypatch.setattr(service.store, "claim", lambda: None)  # nobody works
        ids = [client.post("/v1/jobs", files=upload(picture())).json()["id"] for _ in range(2)]
        for path in ("jobs", "upscale"):
            answer = client.post(f"/v1/{path}", files=upload(picture()))
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
        assert [client.get(f"/v1/jobs/{one}").json()["place"] for one in ids] == [0, 1]
        assert client.get(f"/v1/jobs/{ids[0]}/result").status_code == 409
        client.delete(f"/v1/jobs/{ids[0]}")
        assert client.get(f"/v1/jobs/{ids[0]}/result").status_code == 410
        assert client.post("/v1/jobs", files=upload(picture())).status_code == 202


def test_time_that_is_over(tmp_path):
    with serving(tmp_path, max_seconds=1e-9) as (_, client):
        answer = client.post("/v1/upscale", files=upload(picture()))
        assert (answer.status_code, answer.json()["error"]) == (
            504,
            "the picture took longer than 1e-09 s: make it smaller",
        )
    with serving(tmp_path, direct_seconds=0.2) as (service, client):
        service.store.claim = lambda: None
        answer = client.post("/v1/upscale", files=upload(picture()))
        assert answer.status_code == 504
        assert "/v1/jobs" in answer.json()["error"]
        assert service.store.unfinished() == []


def test_results_expire(tmp_path):
    with serving(tmp_path, keep_seconds=0.3) as (_, client):
        identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
        wait_until(lambda: client.get(f"/v1/jobs/{identity}").status_code == 404)
        assert "too long ago" in client.get(f"/v1/jobs/{identity}/result").json()["error"]
        wait_until(lambda: not list((tmp_path / "queue/files").iterdir()))  # the worker has to find the time


def test_results_expire_while_the_worker_is_busy(tmp_path, monkeypatch):
    with serving(tmp_path, keep_seconds=1000) as (service, client):
        identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
        finished(client, identity)
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + 1001)
        for path in ("", "/result", "/events"):
            assert client.get(f"/v1/jobs/{identity}{path}").status_code == 404
        assert service.store.get(identity) is not None


def test_an_error_of_ours_tells_nothing(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError(str(tmp_path))

    with serving(tmp_path) as (service, client):
        monkeypatch.setattr("hat_sr.serve.worker.enlarge_image", fails)
        answer = client.post("/v1/upscale", files=upload(picture()))
        assert (answer.status_code, answer.json()) == (
            500,
            {"error": "something went wrong in the server: see its log"},
        )
        monkeypatch.undo()
        assert service.worker.is_alive()


def test_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    data = picture()
    with serving(tmp_path) as (_, client):
        monkeypatch.setattr(shutil, "copyfileobj", full)
        answer = client.post("/v1/jobs", files=upload(data))
    assert (answer.status_code, answer.json()) == (507, {"error": "the server's disk is full: try again later"})
    assert list((tmp_path / "queue/files").iterdir()) == []


def test_health_and_metrics(tmp_path):
    with serving(tmp_path) as (service, client):
        assert client.get("/healthz").text == client.get("/readyz").text == "ok\n"
        client.post("/v1/upscale", files=upload(picture()))
        client.get("/v1/jobs/unknown")
        client.get("/nowhere/secret")
        text = client.get("/metrics").text
        assert 'hat_sr_jobs_total{outcome="done"} 1.0' in text
        assert 'hat_sr_requests_total{path="/v1/upscale",status="200"} 1.0' in text
        assert 'hat_sr_requests_total{path="/v1/jobs/{identity}",status="404"} 1.0' in text
        assert 'hat_sr_requests_total{path="other",status="404"} 1.0' in text
        assert f"hat_sr_pixels_total {9 * 12}.0" in text
        assert "hat_sr_queue_length 0.0" in text
        service.worker.stop()
        assert client.get("/readyz").status_code == 503


def test_the_description_is_whole_and_needs_no_other_host(client):
    page = client.get("/docs").text
    assert not re.search(r"https?://", page)
    for path in re.findall(r'(?:src|href)="(/[^"]*)"', page):
        assert client.get(path).status_code == 200
    description = client.get("/openapi.json").json()
    assert set(description["paths"]) == {
        "/v1/upscale",
        "/v1/jobs",
        "/v1/jobs/{identity}",
        "/v1/jobs/{identity}/events",
        "/v1/jobs/{identity}/result",
        "/v1/jobs/{identity}/before",
        "/v1/jobs/{identity}/after",
        "/v1/models",
        "/healthz",
        "/readyz",
        "/metrics",
    }


def test_a_picture_that_lies_on_its_side(tmp_path, client):
    spec = oiio.ImageSpec(12, 9, 3, "uint8")
    spec.attribute("Orientation", 6)
    output = oiio.ImageOutput.create("jpeg")
    assert output.open(str(tmp_path / "a.jpg"), spec)
    assert output.write_image(np.zeros((9, 12, 3), np.uint8))
    assert output.close()
    answer = client.post("/v1/upscale", files=upload((tmp_path / "a.jpg").read_bytes()))
    (tmp_path / "b.jpg").write_bytes(answer.content)
    assert read_image(tmp_path / "b.jpg").pixels.shape == (24, 18, 3)


def test_the_picture_keeps_what_its_file_says(tmp_path, client):
    path = tmp_path / "a.tif"
    path.write_bytes(client.post("/v1/upscale", files=upload(picture()), data={"format": "tif"}).content)
    assert read_image(path).pixels.shape == (18, 24, 3)
