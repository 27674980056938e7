"""The optimizers, Adam and Muon; the learning rate and the decay of the average as pure functions of the step."""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Adam

from hat_sr.train.config import OptimConfig


def make_optimizer(config: OptimConfig, network: nn.Module) -> Adam:
    """The optimizer of all weights of `network`, at the rate of the first step."""
    rate = learning_rate(config, 0)
    if config.optimizer == "adam":
        return Adam(network.parameters(), lr=rate, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    named = dict(network.named_parameters())
    matrices = [name for name, weight in named.items() if is_of_the_body(name, weight)]
    others = [weight for name, weight in named.items() if name not in matrices]
    return Muon(others, [named[name] for name in matrices], lr=rate, betas=config.betas)


def ema_decay(config: OptimConfig, step: int) -> float:
    """How much of the averaged weights step `step` keeps."""
    return min(config.ema_decay, (1 + step) / (10 + step)) if config.ema_warmup else config.ema_decay


def learning_rate(config: OptimConfig, step: int) -> float:
    """The rate for step `step` (0 … total_steps − 1): warm-up, then the schedule."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(config.total_steps - config.warmup_steps, 1)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * config.gamma ** sum(step >= milestone for milestone in config.milestones)


MOMENTUM = 0.95
STEP_RMS = 0.07
"""Root mean square that a matrix's step has, in units of the learning rate, before the iteration's rounding: for the
rate at which Adam does well (tried: 0.2, which others use, is too much for so small a network)."""
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5


def is_of_the_body(name: str, weight: Tensor) -> bool:
    """Whether a HAT's weight is a matrix between features, neither at the picture nor a table nor a vector."""
    return weight.ndim >= 2 and name.startswith(("layers.", "conv_after_body.")) and not name.endswith("_table")


class Muon(Adam):
    """Adam over `others` and Muon over `matrices`, at one learning rate; its state has both."""

    def __init__(
        self, others: Iterable[Parameter], matrices: Iterable[Parameter], *, lr: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(
            [{"params": list(others)}, {"params": list(matrices)}], lr=lr, betas=betas, weight_decay=0.0, fused=True
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        group = self.param_groups[1]
        gradients = {weight: weight.grad for weight in group["params"] if weight.grad is not None}
        for weight in gradients:
            weight.grad = None  # so that Adam passes it by
        super().step()
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for weight in gradients:
            alike[weight.flatten(1).shape].append(weight)
        for shape, weights in alike.items():
            steps = torch.stack([self._momentum(weight, gradients[weight]).flatten(1) for weight in weights])
            size = STEP_RMS * max(shape) ** 0.5 * group["lr"]
            for weight, step in zip(weights, orthogonal(steps), strict=True):
                weight.sub_(step.view_as(weight), alpha=size)
        for weight, gradient in gradients.items():
            weight.grad = gradient

    def _momentum(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Nesterov's: the gradient with that of the steps before, which is updated."""
        state: dict[str, Tensor] = self.state[weight]
        state.setdefault("step", torch.zeros(())).add_(1)  # Adam looks for it when a state is loaded
        momentum = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.mul_(MOMENTUM).add_(gradient)
        return gradient + MOMENTUM * momentum


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices of (B, M, N), roughly: singular values of about 0.7 to 1.2, float32.

    By a polynomial of odd degree five times over, in bfloat16, which is enough for a direction.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = (matrices.mT if tall else matrices).bfloat16()
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()
