"""What docs/serving.md prints works as printed, but for the port."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from hat_sr.image.io import read_image
from robustness.server import Server, write_picture

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    assert server.stop() == 143


def run(folder, command, server):
    """What the command prints."""
    write_picture(folder / "photo.jpg", height=20, width=30, seed=0)
    text = [word.replace("http://127.0.0.1:8000", server.address) for word in command]
    return subprocess.run(text, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_lines_with_curl(tmp_path, server):
    line, events = re.findall(r"^    curl (.*)$", PAGE, flags=re.MULTILINE)
    run(tmp_path, ["curl", *line.split()], server)
    assert read_image(tmp_path / "large.jpg").pixels.shape == (40, 60, 3)
    with (tmp_path / "photo.jpg").open("rb") as file:
        job = httpx.post(f"{server.address}/v1/jobs", files={"file": file}).json()
    told = run(tmp_path, ["curl", *events.replace("JOB", job["id"]).split()], server)
    assert told.count("event: done") == 1


def test_the_client_in_python(tmp_path, server):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    run(tmp_path, [sys.executable, "-c", code], server)
    assert read_image(tmp_path / "large.png").pixels.shape == (40, 60, 3)


def test_the_table_of_limits_names_the_defaults():
    from hat_sr.serve.settings import ServerSettings

    for option, value in re.findall(r"`--([a-z-]+)` (\d+)[ |]", PAGE):
        known = getattr(ServerSettings, option.replace("-", "_"))
        assert known == int(value) * (10**6 if known >= 10**6 else 1)
