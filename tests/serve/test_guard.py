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


@pytest.mark.parametrize("root_path", ["", "/hat"])
def test_pages_of_other_sites_send_nothing(tmp_path, root_path):
    with serving(tmp_path, root_path=root_path) as (_, client):
        for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
            headers = {"sec-fetch-site": site}
            assert client.post("/v1/upscale", files=upload(picture()), headers=headers).status_code == status
        assert client.get("/v1/models", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_a_socket_is_not_opened(tmp_path):
    with serving(tmp_path) as (_, client), pytest.raises(WebSocketDisconnect), client.websocket_connect("/ui"):
        pass
