"""The optimizer, and the learning rate and the decay of the average as pure functions of the step."""

import math

from torch import nn
from torch.optim import Adam

from hat_sr.train.config import OptimConfig
from hat_sr.train.muon import Muon, is_of_the_body


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
