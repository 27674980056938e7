"""Where the official network comes from: spandrel's copy of it, for the scripts beside this one.

The first run installs spandrel, without its dependencies, into a cache folder, where only these scripts find it: both
networks run on the torch of the Python that runs the script. torchvision, which spandrel asks for and HAT does not use,
is replaced by an empty package, because its wheels want CUDA.

    PYTHONPATH=$(python benchmarks/official_network.py) hat-sr experiment networks …

prints that folder, and so lets trainings have spandrel's RCAN and SwinIR.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from torch import nn

from hat_sr.model.config import HATConfig

PACKAGES = ("spandrel==0.4.2", "einops==0.8.2")


def default_cache() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hat-sr"


def install_official(cache: Path) -> Path:
    """The folder below `cache` to import spandrel from; made, whole or not at all, if it is not there."""
    folder = cache / "-".join(PACKAGES).replace("==", "-")
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            part = Path(scratch) / "packages"
            pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(part), *PACKAGES]
            if subprocess.run(pip, check=False).returncode:
                raise SystemExit(f"pip could not install {' and '.join(PACKAGES)}, see above")
            functional = part / "torchvision/transforms/functional.py"
            functional.parent.mkdir(parents=True)
            functional.write_text("InterpolationMode = normalize = rotate = None\n", encoding="utf-8")
            part.rename(folder)
    return folder


def build_official(config: HATConfig, *, use_checkpoint: bool = False) -> nn.Module:
    """The official network of that shape, with fresh weights; to be called where spandrel can be imported."""
    settings = asdict(config)
    for name in ("mean", "use_cab", "use_channel_attention", "use_ocab"):  # the official code has no such settings
        del settings[name]
    network: nn.Module = importlib.import_module("spandrel.architectures.HAT").HAT(
        **settings, img_size=64, use_checkpoint=use_checkpoint
    )
    return network


if __name__ == "__main__":
    print(install_official(default_cache()))
