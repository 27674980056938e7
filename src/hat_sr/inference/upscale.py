"""The one type that networks, runtimes, baselines and wrappers share."""

from collections.abc import Callable

from torch import Tensor

Upscale = Callable[[Tensor], Tensor]
"""Enlarges a batch of images by a whole factor s: (B, C, H, W) float in [0, 1] → (B, C, s·H, s·W).

Dtype and device stay the same. The result may leave [0, 1] a little: whoever turns it into pixels clamps.
"""
