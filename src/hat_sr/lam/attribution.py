"""Local attribution maps (Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021,
arXiv 2011.11036).

How much of the edges in a window of the result is owed to which pixel of the input? The input is blurred and made sharp
again step by step; along that path the gradient of a detector of edges is summed up (integrated gradients).

- Path λ: the image under a Gaussian, σ from 1.2 to 0 in 50 equal steps, kernel 9×9, borders reflected about the last
  pixel. λ_0 is the baseline, λ_50 the image itself.
- Detector F: the sum over the window and the channels of √(dx² + dy² + ε²), where dx and dy are the differences to the
  next pixel on the right and below, and ε = 1e-6: without it the root has no gradient where the result is flat.
- Attribution: the integral of ∂F/∂λ · dλ, for each value of the image. By the gradient theorem all of them together are
  F(λ_50) − F(λ_0), which is checked: see `Attribution.completeness_error`.
- Map: the absolute value of the sum over the channels.

All this is the authors' published demo, but for two things. The demo multiplies each step's difference by the gradient
at its end alone; here it is the mean of those at both ends (trapezoid rule), for one gradient more and about a tenth of
the error (docs/lam.md). And the demo has no ε, and puts 0 where the gradient is then not a number.

Layout in names: B path images, C channels, H W rows and columns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hat_sr.errors import InputError
from hat_sr.lam.measures import contribution_area, diffusion_index

SIGMA = 1.2
"""Of the Gaussian that makes the baseline, in pixels of the input."""

STEPS = 50
"""Steps of the path."""

KERNEL_SIZE = 9
"""Side of the Gaussian's kernel, in pixels of the input."""

WINDOW_SIZE = 16
"""Side of the window, in pixels of the result."""

EPSILON = 1e-6
"""Of the detector: the root's smallest value, where white is 1."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of the result, in its pixels: x is the first column, y the first row.

    Raises InputError if a number is impossible.
    """

    x: int
    y: int
    size: int = WINDOW_SIZE

    def __post_init__(self) -> None:
        if min(self.x, self.y) < 0 or self.size < 1:
            raise InputError(f"window {self}: x and y from 0 and a size from 1 are accepted")

    def __str__(self) -> str:
        return f"x {self.x}, y {self.y}, size {self.size}"

    def check(self, height: int, width: int) -> None:
        """Raise InputError if the window and the next pixel after it do not lie inside a result of that size."""
        last_x, last_y = width - 1 - self.size, height - 1 - self.size
        if self.x <= last_x and self.y <= last_y:
            return
        accepted = (
            f"x from 0 to {last_x} and y from 0 to {last_y} are accepted"
            if min(last_x, last_y) >= 0
            else f"a size up to {min(height, width) - 1} is accepted"
        )
        raise InputError(
            f"window {self} does not lie inside the result of {width}×{height} pixels (width × height): {accepted}, "
            "as differences to the next pixel are taken, too"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """What `local_attribution_map` found. Tensors are on the device of the image."""

    map_HW: Tensor
    """float64, at least 0: how much each pixel of the input contributed, in either direction."""
    attribution_CHW: Tensor
    """float64: the same for each value of the input, with its sign."""
    sr: Tensor
    """The result for the image itself, (1, C, s·H, s·W), not clamped."""
    window: Window
    """Of which the attribution is."""
    detected: float
    """F of the result for the image itself."""
    baseline_detected: float
    """F of the result for the blurred image."""

    @property
    def diffusion_index(self) -> float:
        """See `hat_sr.lam.measures.diffusion_index`."""
        return diffusion_index(self.map_HW)

    def contribution_area(self, share: float) -> float:
        """See `hat_sr.lam.measures.contribution_area`."""
        return contribution_area(self.map_HW, share)

    @property
    def completeness_error(self) -> float:
        """|Σ attribution − ΔF| / |ΔF| with ΔF = `detected` − `baseline_detected`: 0 if the integral is exact.

        Infinite where ΔF is 0 and the sum is not.
        """
        difference = self.detected - self.baseline_detected
        error = abs(self.attribution_CHW.sum().item() - difference)
        if difference == 0:
            return math.inf if error else 0.0
        return error / abs(difference)


def local_attribution_map(
    upscale: Callable[[Tensor], Tensor],
    x_BCHW: Tensor,
    window: Window,
    *,
    steps: int = STEPS,
    sigma: float = SIGMA,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Attribute the edges in `window` of upscale's result to the pixels of `x_BCHW`.

    upscale: any Upscale (`hat_sr.inference.upscale`) that gradients pass through, such as a network under `padded`; not
        an `Upscaler`, which computes without gradients.
    x_BCHW: one low-resolution image, (1, C, H, W) float in [0, 1], sides of at least 5 pixels.
    window: in pixels of the result, inside it.
    steps, sigma: of the path. More steps make the completeness error smaller.
    batch_size: how many path images pass through the network at once. Memory grows with it; on a CPU it gains nothing.
    progress: called after each pass with how many of the steps + 1 gradients are done, and with steps + 1.

    Raises InputError for an image, a window or settings that are not accepted, and for an upscale without gradients or
    whose result is not finite.
    """
    _check(x_BCHW, steps=steps, sigma=sigma, batch_size=batch_size)
    # The first and the last once more, so that each λ has two neighbours: half their difference is its weight in the
    # trapezoid rule.
    sigmas = [sigma, *(sigma * (1 - step / steps) for step in range(steps)), 0.0, 0.0]
    attribution = torch.zeros_like(x_BCHW[0], dtype=torch.float64)
    values: list[float] = []
    while len(values) <= steps:
        path = torch.cat([blurred(x_BCHW, each) for each in sigmas[len(values) : len(values) + batch_size + 2]])
        weights = (path[2:].double() - path[:-2].double()) / 2
        batch_values, gradients, results = _gradients(upscale, path[1:-1], window)
        attribution += (gradients * weights).sum(dim=0)
        values += batch_values.tolist()
        if progress is not None:
            progress(len(values), steps + 1)
    if not (attribution.isfinite().all() and math.isfinite(values[-1])):
        raise InputError("the result or its gradient is not finite: compute in a higher precision")
    return Attribution(
        map_HW=attribution.sum(dim=0).abs(),
        attribution_CHW=attribution,
        sr=results[-1:],
        window=window,
        detected=values[-1],
        baseline_detected=values[0],
    )


def detect_edges(sr_BCHW: Tensor, window: Window) -> Tensor:
    """The detector F of each image of a batch: (B,) float64. Raises InputError if the window does not lie inside."""
    window.check(*sr_BCHW.shape[-2:])
    rows, columns = (slice(start, start + window.size + 1) for start in (window.y, window.x))
    part = sr_BCHW[..., rows, columns].double()
    corner = part[..., :-1, :-1]
    dx, dy = part[..., :-1, 1:] - corner, part[..., 1:, :-1] - corner
    return (dx.square() + dy.square() + EPSILON**2).sqrt().flatten(1).sum(dim=1)


def blurred(x_BCHW: Tensor, sigma: float) -> Tensor:
    """The images under a Gaussian of KERNEL_SIZE; themselves where sigma is 0. Sides of at least 5 pixels."""
    if sigma == 0:
        return x_BCHW
    reach = KERNEL_SIZE // 2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(x_BCHW)
    # One channel at a time is a batch of gray images.
    x = F.pad(x_BCHW, (reach,) * 4, mode="reflect").flatten(0, 1).unsqueeze(1)
    x = F.conv2d(F.conv2d(x, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return x.view_as(x_BCHW)


def _gradients(upscale: Callable[[Tensor], Tensor], x_BCHW: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """F of each image (B,), its gradient (B, C, H, W), and upscale's results."""
    with torch.enable_grad():
        x = x_BCHW.detach().requires_grad_()
        sr = upscale(x)
        values = detect_edges(sr, window)
        gradients = torch.autograd.grad(values.sum(), x, allow_unused=True)[0] if values.requires_grad else None
    if gradients is None:
        raise InputError(
            "no gradient passes through upscale: give the network itself, under `padded`, not an Upscaler or a runtime"
        )
    return values.detach(), gradients, sr.detach()


def _check(x_BCHW: Tensor, *, steps: int, sigma: float, batch_size: int) -> None:
    smallest = KERNEL_SIZE // 2 + 1
    if x_BCHW.ndim != 4 or len(x_BCHW) != 1 or min(x_BCHW.shape[-2:]) < smallest or not x_BCHW.is_floating_point():
        raise InputError(
            f"one float image (1, C, H, W) with sides of at least {smallest} pixels is needed, got {x_BCHW.dtype} of "
            f"shape {tuple(x_BCHW.shape)}"
        )
    if steps < 1 or batch_size < 1 or not (math.isfinite(sigma) and sigma > 0):
        raise InputError(
            f"steps {steps}, batch_size {batch_size} and sigma {sigma}: whole numbers from 1 and a sigma above 0 are "
            "accepted"
        )
