import os
import shlex
import signal
import subprocess
import sys

import pytest

from cli.running import run
from hat_sr import cli, save_model
from hat_sr.checkpoints.named import bundled_names
from model.tiny import tiny_model


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_model(tiny_model(), path, provenance={"data": "none, a formula"})
    return path


def test_info(monkeypatch, capsys, tiny):
    assert run(monkeypatch, "info", tiny) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["embed_dim", "12"] in lines
    assert ["data", "none,", "a", "formula"] in lines


def test_info_of_what_is_no_network(tmp_path, monkeypatch, capsys):
    (tmp_path / "photo.pth").write_bytes(b"no weights")
    assert run(monkeypatch, "info", tmp_path / "photo.pth") == 2
    assert "photo.pth" in capsys.readouterr().err


def test_models(monkeypatch, capsys):
    assert run(monkeypatch, "models") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in [*bundled_names(), "HAT-L_SRx4_ImageNet-pretrain"])


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("upscale", "--help")])
def test_help(monkeypatch, words):
    assert run(monkeypatch, *words) == 0


def test_unknown_command(monkeypatch, capsys):
    assert run(monkeypatch, "upscal") == 2
    assert "upscale" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "unread", "code"),
    [("models", "stdout", 141), ("--help", "stdout", 141), ("upscale nowhere", "stderr", 2)],
)
def test_nobody_reads_what_is_printed(words, unread, code):
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, unread: writing}
    done = subprocess.run([sys.executable, "-m", "hat_sr", *words.split()], **streams, check=False)
    os.close(writing)
    assert done.returncode == code
    assert not done.stdout
    assert not done.stderr


@pytest.mark.skipif(os.name != "posix", reason="the shell's")
@pytest.mark.parametrize(("words", "closed", "code"), [("models", ">&-", 0), ("upscale nowhere", "2>&-", 2)])
def test_started_without_a_stream(words, closed, code):
    command = f"{shlex.quote(sys.executable)} -m hat_sr {words} {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_another_broken_pipe_is_an_error(monkeypatch, capsys):
    def broken(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "hat_sr", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __import__("hat_sr").__version__


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="not on Windows")
def test_nohup_is_respected(monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        run(monkeypatch, "models")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
