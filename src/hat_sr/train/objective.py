"""What a recipe's training makes small: its losses by name, and the discriminator that learns beside the network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.train.adversary import Adversary
from hat_sr.train.config import LossName, Recipe
from hat_sr.train.perceptual import Perceptual

CHARBONNIER_EPSILON = 1e-3
"""About where the loss turns from squares to absolute values (LapSRN, arXiv 1704.03915)."""


def pixel_loss(sr: Tensor, hr: Tensor, name: LossName) -> Tensor:
    """Mean over all values of |d| ("l1"), √(d² + ε²) ("charbonnier") or d² ("mse"), d being sr − hr.

    sr, hr: (B, C, H, W) float in [0, 1]. Returns a scalar.
    """
    if name == "l1":
        return F.l1_loss(sr, hr, reduction="sum") / sr.numel()  # in training a third of the mean's time
    if name == "mse":
        return F.mse_loss(sr, hr)
    return ((sr - hr).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def frequency_loss(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean over all frequencies of the distance of real and of imaginary parts (SAFMN, arXiv 2302.13800, eq. 8).

    sr, hr: (B, C, H, W) float in [0, 1]; the transform is not normalised. Returns a scalar.
    """
    return F.l1_loss(torch.view_as_real(torch.fft.rfft2(sr)), torch.view_as_real(torch.fft.rfft2(hr)))


class Objective:
    """The losses of one recipe on one device. Its weights are those of the discriminator alone."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.optim = recipe.optim
        low = recipe.precision == "bf16"
        self.perceptual = None if recipe.perceptual is None else Perceptual(recipe.perceptual, device=device, low=low)
        self.adversary: Adversary | None = None
        if recipe.adversary is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe.seed)
                self.adversary = Adversary(recipe.adversary, recipe.optim, device=device, low=low)

    def losses(self, sr: Tensor, hr: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        """The weighted losses of a part of a batch, scalars; their sum is what the network is to make small.

        sr, hr, teacher: (b, C, H, W) float in [0, 1]; sr may leave it.
        """
        found: dict[str, Tensor] = {}
        for share, target in ((1 - self.optim.teacher_weight, hr), (self.optim.teacher_weight, teacher)):
            if not share or target is None:
                continue
            parts = {"pixel": pixel_loss(sr, target, self.optim.loss)}
            if self.optim.frequency_weight:
                parts["frequency"] = self.optim.frequency_weight * frequency_loss(sr, target)
            if self.perceptual is not None:
                parts["perceptual"] = self.perceptual.loss(sr, target)
            for name, loss in parts.items():
                loss = loss if share == 1 else share * loss
                found[name] = found[name] + loss if name in found else loss
        if self.adversary is not None:
            found["adversarial"] = self.adversary.config.weight * self.adversary.loss(sr)
        return found

    def learn(self, sr: Tensor, hr: Tensor, teacher: Tensor | None, *, share: float) -> dict[str, float]:
        """Have the discriminator learn from a part of a batch, that is `share` of it; see `Adversary.learn`."""
        if self.adversary is None:
            return {}
        real = teacher if self.adversary.config.real == "teacher" and teacher is not None else hr
        return self.adversary.learn(sr, real, share=share)

    def trains_network(self, step: int) -> bool:
        """False in the steps in which the discriminator learns alone."""
        return self.adversary is None or step >= self.adversary.config.alone_steps
