"""A server in a process of its own, as a user starts it, for what kills it or asks a lot of it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from hat_sr import save_model
from hat_sr.image.io import write_image
from hat_sr.image.pixels import Image
from model.tiny import tiny_model


class Server:
    """`hat-sr serve` with a tiny network, without the page, at a port of its own; its queue lies in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self._options = folder, options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._model = folder / "tiny.safetensors"
        save_model(tiny_model(), self._model)

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "hat_sr", "serve", "--port", str(self.port), "--no-page"]
        command += ["--folder", str(self.folder / "queue"), "-m", str(self._model)]
        with (self.folder / "log").open("ab") as log:
            # One thread: on a busy machine two wait for each other longer than such a small network runs.
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log, env=environment)
        while ready and not self._answers():
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.02)

    def kill(self) -> None:
        """As the system does when memory is short: nothing can be done about it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as a user does; returns the exit code."""
        self.process.terminate()
        return self.process.wait()

    def memory(self) -> int:
        """Bytes that its process has in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/readyz").status_code == 200
        except httpx.TransportError:
            return False


def write_picture(path: Path, *, height: int, width: int, seed: int) -> bytes:
    """Noise as an image file; returns its bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_image(path, Image(pixels))
    return path.read_bytes()
