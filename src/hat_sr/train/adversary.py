"""Adversarial training: a discriminator, what it adds to the network's loss, and its own steps."""

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim import Adam

from hat_sr.train.config import AdversaryConfig, OptimConfig
from hat_sr.train.distributed import average_gradients
from hat_sr.train.optim import learning_rate

SLOPE = 0.2
"""Of the discriminator's LeakyReLU."""

DETAIL_GAIN = 8.0
"""Brings the detail of photographs in [0, 1] to about the range of the images."""


class Discriminator(nn.Module):
    """A U-Net that says of each pixel whether it is real (Real-ESRGAN, arXiv 2107.10833, section 3.3).

    Three halvings, three doublings with skips, `channels` at full size. With `normalised` all layers between the first
    and the last have spectral norm. With `detail` it also sees each image's difference from its local mean, many times
    enlarged: a sharp image that is otherwise like a soft one is then told from it within hundreds of steps.
    """

    def __init__(self, channels: int = 64, *, normalised: bool = True, detail: bool = False) -> None:
        super().__init__()
        self.detail = detail

        def conv(fan_in: int, fan_out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            layer = nn.Conv2d(fan_in, fan_out, kernel, stride, padding=1, bias=False)
            return spectral_norm(layer) if normalised else layer

        sizes = [channels << level for level in range(4)]
        self.first = nn.Conv2d(6 if detail else 3, channels, 3, padding=1)
        self.down = nn.ModuleList(conv(size, 2 * size, kernel=4, stride=2) for size in sizes[:3])
        self.up = nn.ModuleList(conv(2 * size, size) for size in reversed(sizes[:3]))
        self.end = nn.ModuleList(conv(channels, channels) for _ in range(2))
        self.last = nn.Conv2d(channels, 1, 3, padding=1)
        if detail and not normalised:  # the usual start makes signals smaller in every layer
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, a=SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (B, 1, H, W), of images (B, 3, H, W) in [0, 1] whose sides are multiples of 8: above 0 is real."""
        if self.detail:
            x = torch.cat([2 * x - 1, DETAIL_GAIN * (x - _local_mean(x))], dim=1)
        features = [F.leaky_relu(self.first(x), SLOPE)]
        for layer in self.down:
            features.append(F.leaky_relu(layer(features[-1]), SLOPE))
        out = features.pop()
        for layer in self.up:
            wide = F.interpolate(out, scale_factor=2.0, mode="bilinear", align_corners=False)
            out = F.leaky_relu(layer(wide), SLOPE) + features.pop()
        for layer in self.end:
            out = F.leaky_relu(layer(out), SLOPE)
        logits: Tensor = self.last(out)
        return logits


def _local_mean(x: Tensor) -> Tensor:
    """Means of 5×5 pixels, with mirrored borders."""
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)


class Adversary:
    """A discriminator under training. Its gradients gather over the parts of a batch, until `step`."""

    def __init__(self, config: AdversaryConfig, optim: OptimConfig, *, device: torch.device, low: bool) -> None:
        self.config = config
        self.network = Discriminator(config.channels, normalised=config.spectral_norm, detail=config.detail).to(device)
        self.optimizer = Adam(self.network.parameters(), lr=config.learning_rate, betas=optim.betas)
        self._optim, self._device, self._low = optim, device, low

    def loss(self, sr: Tensor) -> Tensor:
        """How far the discriminator is from taking `sr` for real; the gradient goes to `sr` alone."""
        self.network.requires_grad_(False)
        loss = self._loss(sr, real=True)
        self.network.requires_grad_(True)
        return loss

    def learn(self, sr: Tensor, real: Tensor, *, share: float) -> dict[str, float]:
        """Add the gradient of its own loss, times `share`, to the discriminator's weights.

        Returns that loss, and the mean answers to `real` and `sr` as probabilities, each times `share`.
        """
        found: dict[str, float] = {"discriminator": 0.0}
        for name, images, is_real in (("answer_to_real", real, True), ("answer_to_fake", sr.detach(), False)):
            logits = self._logits(images)
            loss = share * _cross_entropy(logits, is_real)
            loss.backward()
            found["discriminator"] += loss.item()
            found[name] = share * logits.detach().sigmoid().mean().item()
        return found

    def step(self, number: int) -> None:
        """Change the discriminator's weights by what has gathered; the rate follows the network's schedule."""
        rate = self.config.learning_rate * learning_rate(self._optim, number) / self._optim.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        average_gradients(list(self.network.parameters()))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])

    def _loss(self, images: Tensor, *, real: bool) -> Tensor:
        return _cross_entropy(self._logits(images), real)

    def _logits(self, images: Tensor) -> Tensor:
        # With channels innermost, convolutions in bfloat16 take less than half the time on CPUs.
        with self._precision():
            logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits.float()

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._low)


def _cross_entropy(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
