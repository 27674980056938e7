"""The learning rate and the decay of the average as pure functions of the step."""

import math

from hat_sr.train.config import OptimConfig


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
