"""What a benchmark has computed, kept in a folder: one small file for each image and network.

A file's name is a hash of all that its content depends on, so there is nothing to clear when anything changes.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import OpenImageIO as oiio  # noqa: N813
import torch

import hat_sr
from hat_sr.errors import ConfigError
from hat_sr.evaluate.benchmark import Score
from hat_sr.files import replacing, what_blocks_writing


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Scores and details of one image by one network."""

    score: Score
    detail: bytes
    """A piece of the result, as a lossless WebP file."""


class Cache:
    """Entries in a folder, which is made when the first is put there.

    Raises ConfigError if the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        if (path := what_blocks_writing(folder)) is not None:
            raise ConfigError(
                f"the cache {folder} cannot be written to because of {path}: name another, or --cache off"
            )
        self._folder = folder

    def get(self, key: str) -> Entry | None:
        """The entry, or None if there is none, or a damaged one."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
            psnr = math.inf if kept["psnr"] is None else float(kept["psnr"])
            st_lpips, niqe = (None if kept[name] is None else float(kept[name]) for name in ("st_lpips", "niqe"))
            detail = base64.b64decode(kept["detail"], validate=True)
            return Entry(score=Score(psnr=psnr, ssim=float(kept["ssim"]), st_lpips=st_lpips, niqe=niqe), detail=detail)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry. Raises OSError as writing does."""
        psnr = entry.score.psnr if math.isfinite(entry.score.psnr) else None
        content = asdict(entry.score) | {"psnr": psnr, "detail": base64.b64encode(entry.detail).decode()}
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            # Floats come back from JSON exactly as they were.
            part.write_text(json.dumps(content), encoding="utf-8")

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key[2:]}.json"


def default_folder() -> Path:
    """Below the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hat-sr" / "benchmark"


def key_of(*parts: object) -> str:
    """A hash of texts, numbers and None."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file. Raises OSError as reading does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over all code that makes a score: what changes it may change a score.

    That is this package's own, hat-sr-native's where it is installed, and the versions of torch, of spandrel, and of
    OpenImageIO, whose libjpeg degrades images.
    """
    spandrel = "".join(found.version for found in importlib.metadata.distributions(name="spandrel"))
    versions = hat_sr.__version__, torch.__version__, spandrel, oiio.VERSION_STRING
    digest = hashlib.sha256(" ".join(versions).encode())
    folder = Path(hat_sr.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        if path.relative_to(folder).parts[0] in ("model", "image", "degradation", "inference", "evaluate"):
            digest.update(path.read_bytes())
    native = importlib.util.find_spec("hat_sr_native")  # it rounds in another way than torch
    for place in [] if native is None else native.submodule_search_locations or []:
        for path in sorted(Path(place).iterdir()):
            if path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()
