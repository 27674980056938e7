"""Image super-resolution with HAT, the Hybrid Attention Transformer (arXiv 2205.04437, 2309.05239).

The public names are resolved on first use (PEP 562), so that importing `hat_sr`, and with it the command line,
does not import torch.
"""

import importlib
from typing import TYPE_CHECKING

from hat_sr import errors

if TYPE_CHECKING:
    from hat_sr.checkpoints.checkpoint import save_model
    from hat_sr.checkpoints.named import load_model
    from hat_sr.evaluate.metrics import psnr, ssim
    from hat_sr.inference.enlarge import enlarge_file
    from hat_sr.inference.upscaler import Upscaler
    from hat_sr.lam.attribution import local_attribution_map
    from hat_sr.model.config import PRESETS, HATConfig
    from hat_sr.model.hat import HAT

__version__ = "0.1.0"

__all__ = [
    "HAT",
    "PRESETS",
    "HATConfig",
    "Upscaler",
    "__version__",
    "enlarge_file",
    "errors",
    "load_model",
    "local_attribution_map",
    "psnr",
    "save_model",
    "ssim",
]

_HOME = {
    "HAT": "hat_sr.checkpoints.named",  # which gives it from_pretrained and save_pretrained
    "HATConfig": "hat_sr.model.config",
    "PRESETS": "hat_sr.model.config",
    "Upscaler": "hat_sr.inference.upscaler",
    "enlarge_file": "hat_sr.inference.enlarge",
    "load_model": "hat_sr.checkpoints.named",
    "local_attribution_map": "hat_sr.lam.attribution",
    "psnr": "hat_sr.evaluate.metrics",
    "save_model": "hat_sr.checkpoints.checkpoint",
    "ssim": "hat_sr.evaluate.metrics",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'hat_sr' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
