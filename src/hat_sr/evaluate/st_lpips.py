"""ST-LPIPS: a perceptual distance learnt from human judgements that small shifts hardly change.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", arXiv 2207.13686. Weights: those of the package
stlpips_pytorch (BSD-2), whose figures these are; AlexNet's trunk.
"""

import importlib.util
import pickle
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.errors import InputError, MissingExtraError, WeightsError

_WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
_LEAST_NORM = 1e-10
_SMALLEST = 32
"""Pixels of a side, so that something is left after the four halvings."""


def st_lpips(sr: Tensor, hr: Tensor) -> float:
    """Distance of two images as people see them: 0 for equal ones, about 0.5 for bicubic ×4 of a bad photograph.

    sr, hr: RGB or gray of one shape, (C, H, W) or (1, C, H, W), sides of at least 32 pixels; uint8 or float in [0, 1].
    Raises InputError for others, MissingExtraError without the package.
    """
    pair = torch.stack([_prepared(sr), _prepared(hr)])
    if min(pair.shape[-2:]) < _SMALLEST:
        raise InputError(
            f"ST-LPIPS of {pair.shape[-1]}×{pair.shape[-2]} pixels: sides of at least {_SMALLEST} are needed"
        )
    weights = _weights()
    total = 0.0
    with torch.no_grad():
        for level, features in enumerate(_features((2 * pair - 1 - weights["shift"]) / weights["scale"], weights)):
            unit = features / (features.square().sum(1, keepdim=True).sqrt() + _LEAST_NORM)
            distance = (unit[:1] - unit[1:]).square()
            total += F.conv2d(distance, weights[f"lin{level}"]).mean().item()
    return total


def _features(x: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """The five maps after AlexNet's activations; each stride is a blur of [1, 2, 1], as in the paper."""
    x = _halved(F.conv2d(x, weights["conv0"], weights["bias0"], padding=2)).relu()
    found = [x]
    for level in range(1, 5):
        if level < 3:
            x = _halved(F.max_pool2d(x, 3, stride=1))
        x = F.conv2d(x, weights[f"conv{level}"], weights[f"bias{level}"], padding=2 if level == 1 else 1).relu()
        found.append(x)
    return found


def _halved(x: Tensor) -> Tensor:
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _prepared(image: Tensor) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3 or len(image) not in (1, 3):
        raise InputError(f"an image of shape {tuple(image.shape)}: (C, H, W) with 1 or 3 channels is accepted")
    return (image.float() / 255 if image.dtype == torch.uint8 else image.float()).clamp(0, 1).expand(3, -1, -1)


@cache
def _weights() -> dict[str, Tensor]:
    """Convolutions, biases, the weights of channels, and the trunk's normalisation. The file is read once."""
    package = importlib.util.find_spec("stlpips_pytorch")
    if package is None or package.origin is None:
        raise MissingExtraError("ST-LPIPS needs the package stlpips_pytorch: pip install 'hat-sr[metrics]'")
    path = Path(package.origin).parent / _WEIGHTS
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        layers = [key.removesuffix(".bias") for key in state if key.startswith("net.") and key.endswith(".bias")]
        found = {"shift": state["scaling_layer.shift"], "scale": state["scaling_layer.scale"]}
        for level, layer in enumerate(layers):
            found[f"conv{level}"], found[f"bias{level}"] = state[f"{layer}.weight"], state[f"{layer}.bias"]
            found[f"lin{level}"] = state[f"lin{level}.model.1.weight"]
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): install stlpips_pytorch 0.0.2 again") from error
    return found
