"""Requests that name files and hosts: no route of the server opens, copies or asks what a client names."""

import json
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.routing import Mount

from hat_sr.serve.api import application
from hat_sr.serve.service import Service
from serve.serving import TestClient, finished, picture, settings, upload

pytestmark = pytest.mark.usefixtures("shared")

SECRET = b"the contents of a file that no client may have"


class Watch:
    """What this process opens and whom it asks, while it is on: hooks cannot be taken away."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if self.on and event in ("open", "os.listdir", "shutil.copyfile", "os.rename", "os.link", "os.symlink"):
            self.seen.append(f"{event} {arguments[0]!r}")
        if self.on and event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
            self.seen.append(f"{event} {arguments!r}")


@pytest.fixture(scope="module")
def watch():
    watch = Watch()
    yield watch
    watch.on = False


def routes_of(app):
    """Path and methods of every route, those of mounted applications as a path that leads into them."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield f"{route.path}/{{path}}", ("GET", "HEAD")
        elif hasattr(route, "original_router"):  # as newer versions of FastAPI keep those that are included
            yield from routes_of(route.original_router)
        else:
            yield route.path, sorted(route.methods)


def bodies(named):
    """A thing that names a file, as JSON and forms can hold it."""
    description = {"path": named, "url": named, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    for value in (description, {"data": [description, named], "fn_index": 0, "session_hash": "a"}):
        yield {"json": value}
    yield {"data": {"file": json.dumps(description)}}
    yield {"data": {"model": named, "format": named}, "files": {"file": (named, picture())}}
    yield {"files": {"file": (named, b"", "text/uri-list"), "url": (None, named)}}


def test_no_route_takes_a_path(tmp_path, monkeypatch, watch):
    (secret := tmp_path / "secret.png").write_bytes(SECRET)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with socket.create_server(("127.0.0.1", 0)) as other, Service(settings(tmp_path)) as service:
        other.setblocking(False)
        address = f"http://127.0.0.1:{other.getsockname()[1]}/a.png"
        guard = application(service)
        routes = list(routes_of(guard._app))
        assert {"/v1/jobs", "/v1/jobs/{identity}/result", "/ui/page.js", "/static-offline-docs/{path}"} <= {
            path for path, _ in routes
        }
        with TestClient(guard) as client:
            identity = client.post("/v1/jobs", files=upload(picture())).json()["id"]
            finished(client, identity)
            watch.on = True
            assert (secret.read_bytes(), len(watch.seen)) == (SECRET, 1)  # it sees what is opened
            watch.seen.clear()
            for named, filled in ((f"../../../..{secret}", quote(str(secret), safe="")), (address, address)):
                for path, methods in routes:
                    where = path.replace("{identity}", filled).replace("{path}", filled)
                    asked = [("POST", body) for body in bodies(named)]
                    asked += [(method, {"params": {"path": named}}) for method in methods]
                    for method, options in asked:
                        answer = client.request(method, where, **options, follow_redirects=False)
                        assert SECRET not in answer.content
                        assert answer.status_code < 500
            watch.on = False
        with pytest.raises(BlockingIOError):
            other.accept()
    seen = [line for line in watch.seen if "secret.png" in line or str(other) in line or "socket." in line]
    assert [line for line in seen if "AF_UNIX" not in line] == []
    assert list(temporary.iterdir()) == []
    found = [path for path in Path(tmp_path).rglob("*") if path.is_file() and path != secret]
    assert not [path for path in found if SECRET in path.read_bytes()]
    assert not [path for path in found if "secret" in path.name]
