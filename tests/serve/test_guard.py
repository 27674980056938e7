"""Token, origin, and what a request without them gets."""

import base64

import pytest
from starlette.websockets import WebSocketDisconnect

from serve.serving import picture, serving, upload

pytestmark = pytest.mark.usefixtures("shared")


def basic(password):
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Bearer secret2", 401),
        ("Bearer ", 401),
        ("Bearer sécret", 401),
        ("secret", 401),
        (basic("secret"), 200),
        (basic("other"), 401),
        ("Basic !", 401),
        ("Basic é", 401),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/hat"])
def test_the_token(tmp_path, root_path, authorization, status):
    headers = {} if authorization is None else {"authorization": authorization.encode()}
    with serving(tmp_path, token="secret", root_path=root_path) as (_, client):
        for path in ("/v1/models", "/metrics", "/docs", "/openapi.json"):
            assert client.get(path, headers=headers).status_code == status
        answer = client.post("/v1/upscale", files=upload(picture()), headers=headers)
        assert answer.status_code == status
        if status == 401:
            assert "token is missing or wrong" in answer.json()["error"]
            assert answer.headers["www-authenticate"].startswith("Basic")
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("127.0.0.1", "localhost:8000", 200),
        ("127.0.0.1", "LOCALHOST", 200),
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("127.0.0.1", "[::1]:8000", 200),
        ("127.0.0.1", "upscale.example:8443", 200),  # named by --allowed-host
        ("127.0.0.1", "rebound.example:8000", 421),
        ("127.0.0.1", "192.0.2.1:8000", 421),
        ("127.0.0.1", "localhost.rebound.example", 421),
        ("127.0.0.1", "", 421),
        ("127.0.0.1", "[", 421),
        ("192.0.2.1", "192.0.2.1:8000", 200),
        ("0.0.0.0", "192.0.2.1:8000", 200),
        ("0.0.0.0", "[2001:db8::1]:8000", 200),
        ("0.0.0.0", "rebound.example", 421),
    ],
)
def test_the_name_that_is_asked_for(tmp_path, host, name, status):
    with serving(tmp_path, host=host, allowed_hosts=("Upscale.example",)) as (_, client):
        for path in ("/v1/models", "/docs", "/ui/"):
            assert client.get(path, headers={"host": name}).status_code == status
        if status == 421:
            assert client.post("/v1/jobs", files=upload(picture()), headers={"host": name}).status_code == 421
        assert client.get("/healthz", headers={"host": name}).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("testserver:8000", None, 200),
        ("testserver:8000", "http://testserver:8000", 200),
        ("testserver:8000", "http://testserver:3000", 200),  # named by --allowed-host, whatever the port
        ("localhost:8000", "http://localhost:8000", 200),
        ("localhost:8000", "http://localhost:3000", 403),
        ("localhost:8000", "http://127.0.0.1:8000", 403),
        ("localhost:8000", "https://other.example", 403),
        ("localhost:8000", "null", 403),
        ("localhost:8000", "", 403),
        ("127.0.0.1:8000", "https://testserver", 200),  # a proxy that does not hand on the name
    ],
)
def test_pages_of_other_sites_send_nothing(tmp_path, host, origin, status):
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    with serving(tmp_path) as (_, client):
        answer = client.post("/v1/jobs", files=upload(b"no picture"), headers=headers)
        assert answer.status_code == (415 if status == 200 else status)
        assert client.request("DELETE", "/v1/jobs/1", headers=headers).status_code == (404 if status == 200 else status)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_pages_may_do(tmp_path):
    with serving(tmp_path) as (_, client):
        page = client.get("/ui/").headers["content-security-policy"]
        assert "default-src 'none'" in page
        assert "frame-ancestors 'none'" in page
        assert "unsafe" not in page
        for path in ("/v1/models", "/healthz", "/nowhere"):
            headers = client.get(path).headers
            assert "script-src" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


def test_a_socket_is_not_opened(tmp_path):
    with serving(tmp_path) as (_, client), pytest.raises(WebSocketDisconnect), client.websocket_connect("/ui"):
        pass
