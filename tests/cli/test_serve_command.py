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


@pytest.mark.parametrize("where", ["option", "environment"])
@pytest.mark.parametrize("token", ["", " ", "secret\n"])
def test_a_token_that_is_empty_is_refused(monkeypatch, capsys, loaded, where, token):
    words = ("--token", token) if where == "option" else ()
    if where == "environment":
        monkeypatch.setenv("HAT_SR_TOKEN", token)
    assert run(monkeypatch, "serve", "--port", 0, *words) == 2
    assert "the token is empty or has space around it" in " ".join(capsys.readouterr().err.split())
    assert not loaded


def test_the_token_of_the_option_and_of_the_environment(monkeypatch, loaded):
    monkeypatch.setenv("HAT_SR_TOKEN", "of the environment")
    run(monkeypatch, "serve", "--port", 0)
    run(monkeypatch, "serve", "--port", 0, "--token", "secret", "--max-bytes", "2MiB", "--memory", "1GiB")
    assert [settings.token for settings in loaded] == ["of the environment", "secret"]
    assert (loaded[1].max_bytes, loaded[1].keep_bytes, loaded[1].memory) == (2 << 20, 16 << 30, 1 << 30)


def test_a_queue_that_is_a_file(monkeypatch, capsys, tmp_path):
    (tmp_path / "queue").write_text("notes")
    monkeypatch.setattr("hat_sr.serve.service.Networks", lambda settings: None)
    assert run(monkeypatch, "serve", "--port", 0, "--folder", tmp_path / "queue") == 2
    assert "not a folder for a queue: give another one with --folder" in " ".join(capsys.readouterr().err.split())
