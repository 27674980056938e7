"""From a high-resolution image to a degraded low-resolution one."""

import math

import numpy as np
from torch import Tensor

from hat_sr.degradation import kernels
from hat_sr.degradation.config import PRESETS, DegradationConfig, PassConfig
from hat_sr.degradation.draws import below, chance, choice, uniform
from hat_sr.degradation.filters import sharpened
from hat_sr.degradation.steps import Filter, Gaussian, Jpeg, Poisson, Resize, Step
from hat_sr.errors import InputError

_SHAPES = ("blur", "generalized blur", "plateau blur")


def degrade(
    hr_CHW: Tensor, config: DegradationConfig, random: np.random.Generator, *, scale: int
) -> tuple[Tensor, Tensor]:
    """Degrade an image: (lr, target), both uint8, (3, H / scale, W / scale) and (3, H, W).

    hr_CHW: (3, H, W) uint8 RGB, its sides multiples of `scale`. All that is drawn comes from the bits of `random`, so
    that an image, a config and a seed (numpy.random.Generator(PCG64(seed))) give the same bytes on every machine, as
    far as libjpeg does. The target is the image, sharpened if the config says so. Raises InputError for another image.
    """
    target = sharpened(hr_CHW) if config.sharpen else hr_CHW
    lr = target
    for step in draw_steps(config, random, _sides(hr_CHW, scale), scale=scale):
        lr = step(lr, random)
    return lr, target


def draw_steps(
    config: DegradationConfig, random: np.random.Generator, size: tuple[int, int], *, scale: int
) -> tuple[Step, ...]:
    """What is to be done to an image of (height, width), drawn from `random`: all but the noise itself."""
    sizes = {"hr": size, "lr": (size[0] // scale, size[1] // scale)}
    kind = choice(random, (config.clean, config.mild, 1 - config.clean - config.mild))
    if kind == 0:
        return (Resize(sizes["lr"], "matlab"),)
    used = PRESETS["mild"] if kind == 1 else config
    steps = [step for one in used.passes for step in _draw_pass(one, random, sizes[one.of])]
    last: list[Step] = [Resize(sizes["lr"], used.last_modes[below(random, len(used.last_modes))])]
    if chance(random, used.last_sinc):
        last.append(_draw_sinc(used.passes[-1], random, lowest=math.pi / 3))
    if steps and isinstance(steps[-1], Jpeg) and chance(random, used.jpeg_last):
        last.append(steps.pop())
    return (*steps, *last)


def _sides(hr_CHW: Tensor, scale: int) -> tuple[int, int]:
    height, width = hr_CHW.shape[-2:]
    if hr_CHW.dim() != 3 or len(hr_CHW) != 3 or not hr_CHW.numel() or height % scale or width % scale:
        raise InputError(
            f"got {tuple(hr_CHW.shape)}: (3, H, W) is accepted, H and W multiples of {scale}: cut the image to them"
        )
    return height, width


def _draw_pass(config: PassConfig, random: np.random.Generator, size: tuple[int, int]) -> list[Step]:
    steps: list[Step] = []
    if chance(random, config.blur):
        steps.append(_draw_blur(config, random))
    steps.append(_draw_resize(config, random, size))
    kind = choice(random, (config.gaussian, config.poisson, 1 - config.gaussian - config.poisson))
    gray = chance(random, config.gray)
    if kind == 0:
        steps.append(Gaussian(uniform(random, *config.gaussian_sigma), gray))
    if kind == 1:
        steps.append(Poisson(uniform(random, *config.poisson_scale), gray))
    if chance(random, config.jpeg):
        low, high = config.jpeg_quality
        fine = chance(random, config.fine_color)
        steps.append(Jpeg(low + below(random, high - low + 1), "4:4:4" if fine else "4:2:0"))
    return steps


def _draw_blur(config: PassConfig, random: np.random.Generator) -> Step:
    if chance(random, config.sinc):
        return _draw_sinc(config, random, lowest=None)
    shape, anisotropic = divmod(choice(random, config.kernels), 2)
    size = _draw_size(config, random)
    first = uniform(random, *config.sigma)
    second = uniform(random, *config.sigma) if anisotropic else first
    angle = uniform(random, -math.pi, math.pi) if anisotropic else 0.0
    beta = 1.0
    if shape:
        low, high = config.generalized_beta if shape == 1 else config.plateau_beta
        middle = min(max(1.0, low), high)
        beta = uniform(random, *((low, middle) if chance(random, 0.5) else (middle, high)))
    text = f"{_SHAPES[shape]} {first:.1f}" + (f"/{second:.1f}" if anisotropic else "")
    return Filter(kernels.bell(shape, size, (first, second), angle, beta), text)


def _draw_sinc(config: PassConfig, random: np.random.Generator, *, lowest: float | None) -> Step:
    """The lowest cutoff is published: π/3 at the end; in a pass π/3 for kernels below 13 pixels, π/5 for the others."""
    size = _draw_size(config, random)
    if lowest is None:
        lowest = math.pi / (3 if size < 13 else 5)
    cutoff = uniform(random, lowest, math.pi)
    return Filter(kernels.sinc(size, cutoff), f"sinc {cutoff / math.pi:.2f}π")


def _draw_size(config: PassConfig, random: np.random.Generator) -> int:
    low, high = config.kernel_size
    return low + 2 * below(random, (high - low) // 2 + 1)


def _draw_resize(config: PassConfig, random: np.random.Generator, size: tuple[int, int]) -> Step:
    low, high = config.resize_factor
    factor = uniform(random, *((1.0, high), (low, 1.0), (1.0, 1.0))[choice(random, config.resize)])
    mode = config.resize_modes[below(random, len(config.resize_modes))]
    height, width = (max(int(side * factor), 1) for side in size)
    return Resize((height, width), mode)
