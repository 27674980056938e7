"""Clients that stand still, and too many of them: each costs a line in the log, and no more."""

import logging
import socket
import threading
from contextlib import contextmanager, suppress
from unittest.mock import Mock

import pytest
import uvicorn

from hat_sr.serve.api import application
from hat_sr.serve.connections import Seldom, config_for
from hat_sr.serve.service import Service
from serve.serving import picture, settings, wait_until

pytestmark = pytest.mark.usefixtures("shared")

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"


@contextmanager
def listening(folder, **changes):
    """A server at a port, and the address."""
    with Service(settings(folder, **changes)) as service, socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(config_for(application(service), service.settings))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield service, listener.getsockname()
        running.should_exit = True
        thread.join()


def connected(address, sent=b""):
    connection = socket.create_connection(address, timeout=60)
    connection.sendall(sent)
    return connection


def answered(connection):
    """All that comes until the connection is closed."""
    said = b""
    with connection, suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            said += part
    return said


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: loc", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea", b"200"),
        (HEAD + b"Content-Length: 1000\r\n\r\n" + PART, b"408"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n--x\r\n", b"408"),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
    ],
)
def test_a_client_that_sends_no_more(tmp_path, sent, status):
    with listening(tmp_path, idle_seconds=0.2) as (_, address):
        said = answered(connected(address, sent))
    assert said.partition(b"\r\n")[0].split(b" ")[1:2] == ([status] if status else [])


def test_a_client_that_does_not_read(tmp_path, caplog):
    data = picture(".bmp", height=1500, width=2000)
    with listening(tmp_path, idle_seconds=0.5, max_pixels=10**8, max_result_pixels=10**8) as (service, address):
        (service.settings.folder / "result.bmp").write_bytes(data)
        service.result = lambda _: service.settings.folder / "result.bmp"
        service.job = lambda _: type("Job", (), {"suffix": ".bmp", "scale": 2, "model": "", "warnings": "", "id": ""})
        ask = b"GET /v1/jobs/1/result HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with connected(address, ask) as quick:
            num_bytes = 0
            while num_bytes < len(data):
                num_bytes += len(quick.recv(1 << 20))
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(address)
            slow.sendall(ask)
            wait_until(lambda: "nor read the answer" in caplog.text)


class Loop:
    """Time passes when the next look is taken."""

    def __init__(self):
        self.now = 0.0
        self.look = lambda: None

    def call_later(self, seconds, look):
        self.due, self.look = self.now + seconds, look

    def go_on(self):
        self.now = self.due
        self.look()


def test_a_silent_connection_lives_for_a_quarter_longer_than_it_may_stand_still_at_most(tmp_path):
    protocol = config_for(None, settings(tmp_path, idle_seconds=100)).http
    silent = protocol.__new__(protocol)
    silent.loop, silent.cycle, silent.transport = Loop(), None, Mock()
    silent._look_later()
    while not silent.transport.abort.called:
        silent.loop.go_on()
    assert silent.loop.now == 100

    later = protocol.__new__(protocol)
    later.loop, later.transport, later.flow = Loop(), Mock(), Mock(write_paused=False)
    later.cycle = Mock(response_complete=False)
    later._look_later()
    for _ in range(20):  # the server is at work, however long
        later.loop.go_on()
    since = later.loop.now
    later.cycle.response_complete = True
    while not later.transport.abort.called:
        later.loop.go_on()
    assert since + 100 <= later.loop.now <= since + 125


def test_too_many_connections(tmp_path):
    with listening(tmp_path, max_connections=3) as (_, address):
        held = [connected(address) for _ in range(3)]
        said = answered(connected(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b'{"error": "the server has too many connections' in said
        held.pop().close()
        ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        wait_until(lambda: answered(connected(address, ask)).startswith(b"HTTP/1.1 200 "))
        for connection in held:
            connection.close()


def test_an_upload_that_is_given_up_leaves_one_line(tmp_path, caplog):
    with listening(tmp_path, idle_seconds=60) as (service, address):
        for _ in range(3):
            connected(address, HEAD + b"Content-Length: 100000\r\n\r\n" + PART + bytes(1000)).close()
        wait_until(lambda: caplog.text.count("400 for /v1/jobs") == 3)
        assert list((service.settings.folder / "files").iterdir()) == []
    assert "Traceback" not in caplog.text


def test_lines_of_one_kind_are_one_line_a_minute(caplog):
    logger = logging.getLogger("hat_sr.test_of_lines")
    seldom = Seldom()
    logger.addFilter(seldom)

    def line(text, at):
        record = logger.makeRecord(logger.name, logging.WARNING, "", 0, text, ("x",), None)
        record.created = at
        return record.getMessage() if seldom.filter(record) else None

    assert line("refused: %s", 1000) == "refused: x"
    assert [line("refused: %s", 1000 + second) for second in (0, 1, 59)] == [None] * 3
    assert line("another: %s", 1001) == "another: x"
    assert line("refused: %s", 1060) == "refused: x (3 more like this before)"
    assert line("refused: %s", 1061) is None
    assert line("refused: %s", 1200) == "refused: x (1 more like this before)"
