import logging
import socket

import pytest

from cli.running import run


@pytest.fixture(autouse=True)
def log_level():
    logger = logging.getLogger("hat_sr")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def loaded(monkeypatch):
    """Whether networks would have been loaded."""
    calls = []

    def load(settings):
        calls.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("hat_sr.serve.service.Service", load)
    return calls


def test_a_port_that_is_taken(monkeypatch, capsys, loaded):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(monkeypatch, "serve", "--port", port, "--no-page") == 2
    assert f"hat-sr: port {port} of 127.0.0.1 is taken: name another with --port" in capsys.readouterr().err
    assert not loaded
    assert run(monkeypatch, "serve", "--port", port, "--no-page") == 130
    assert loaded


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--port", "65536"), "Must be <= 65535"),
        (("--host", "192.0.2.1"), "of 192.0.2.1 cannot be listened at: "),  # an address of no machine: RFC 5737
    ],
)
def test_what_cannot_be_listened_at(monkeypatch, capsys, loaded, words, message):
    assert run(monkeypatch, "serve", *words, "--no-page") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not loaded
