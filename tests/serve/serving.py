"""A server in this process, with a tiny network."""

import io
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

from hat_sr import save_model
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from hat_sr.inference.upscaler import Upscaler
from hat_sr.serve.api import application
from hat_sr.serve.sandbox import Sandbox
from hat_sr.serve.service import Service
from hat_sr.serve.settings import ServerSettings
from model.tiny import tiny_model


class KeptSandbox(Sandbox):
    """Shared by all tests: it takes seconds to start."""

    def close(self):
        pass

    def close_at_last(self):
        super().close()


def save_tiny(folder):
    """The path of a network that enlarges by 2."""
    path = folder / "tiny.safetensors"
    if not path.exists():
        save_model(tiny_model(), path)
    return str(path)


def settings(folder, **changes):
    return ServerSettings(
        **{
            "folder": folder / "queue",
            "models": (save_tiny(folder),),
            "precision": "fp32",
            "allowed_hosts": ("testserver",),
            **changes,
        }
    )


@contextmanager
def serving(folder, *, root_path="", **changes):
    """The service, and a client of its application; root_path as behind a proxy that takes it away."""
    with Service(settings(folder, **changes)) as service:
        address = f"http://testserver{root_path}"  # as uvicorn does, the client puts it before the path
        app = application(service)
        with TestClient(app, base_url=address, root_path=root_path) as client:
            yield service, client


def picture(suffix=".png", height=9, width=12, channels=3, seed=0):
    """The bytes of an image file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"picture{suffix}"
        write_image(path, Image(pixels))
        return path.read_bytes()


def upload(data):
    return {"file": ("../../etc/a name.png", io.BytesIO(data))}


def finished(client, identity, state="done"):
    """The job once it has ended."""
    for _ in range(2000):
        job = client.get(f"/v1/jobs/{identity}").json()
        if job["state"] not in ("queued", "running"):
            assert job["state"] == state, job
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def wait_until(true):
    """Return once `true()` is, which has to be soon."""
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not become true")


class Held:
    """Stands in for a long computation: waits within a report until it is let go."""

    def __init__(self, monkeypatch):
        self.reached, self.go = threading.Event(), threading.Event()
        call = Upscaler.__call__

        def slow(upscaler, x, *, report):
            def held(part):
                report(part)
                self.reached.set()
                assert self.go.wait(60)

            return call(upscaler, x, report=held)

        monkeypatch.setattr(Upscaler, "__call__", slow)
