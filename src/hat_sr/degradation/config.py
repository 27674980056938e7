"""What happens to images before a network sees them, as frozen dataclasses, and the presets of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from hat_sr.errors import ConfigError

Range = tuple[float, float]
"""Smallest and largest value; drawn uniformly between them."""

Mode = Literal["area", "bilinear", "bicubic", "matlab"]
"""How an image is resized: as torch does without antialiasing, which is what was published, or by MATLAB's antialiased
bicubic."""


@dataclass(frozen=True, kw_only=True)
class PassConfig:
    """One pass: blur, then resize, then noise, then JPEG. Each is off unless its share is above 0."""

    blur: float = 0.0
    """Share of images that are blurred."""
    sinc: float = 0.0
    """Share of the blurs that are a sinc filter, which rings; the others are of `kernels`."""
    kernels: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    """Shares of Gaussian, generalized Gaussian and plateau-shaped kernels: the isotropic of each, then the anisotropic:
    isotropic, anisotropic, generalized isotropic, generalized anisotropic, plateau isotropic, plateau anisotropic."""
    kernel_size: tuple[int, int] = (7, 21)
    """Side of a kernel, odd, in pixels."""
    sigma: Range = (0.2, 3.0)
    """Of a kernel along each of its axes, in pixels of the image as it comes to the pass."""
    generalized_beta: Range = (0.5, 4.0)
    """Exponent of generalized Gaussians: below 1 for one half, above 1 for the other."""
    plateau_beta: Range = (1.0, 2.0)
    """Exponent of plateau-shaped kernels, in the same way."""
    of: Literal["hr", "lr"] = "hr"
    """Which size the factor of resizing refers to: the high-resolution or the low-resolution image's. With "lr"
    factor 1 is the size that the network takes."""
    resize: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Shares of images with a factor above 1, below 1, and 1."""
    resize_factor: Range = (0.15, 1.5)
    """Smallest and largest factor."""
    resize_modes: tuple[Mode, ...] = ("area", "bilinear", "bicubic")
    """Each as likely as any other."""
    gaussian: float = 0.0
    """Share of images with Gaussian noise."""
    gaussian_sigma: Range = (1.0, 30.0)
    """Its standard deviation, in levels of 255."""
    poisson: float = 0.0
    """Share of images with Poisson noise, that of 256 photons for white."""
    poisson_scale: Range = (0.05, 3.0)
    """Factor on the noise."""
    gray: float = 0.4
    """Share of noise that is the same in all channels."""
    jpeg: float = 0.0
    """Share of images that go through JPEG."""
    jpeg_quality: tuple[int, int] = (30, 95)
    """Quality, as libjpeg counts it."""
    fine_color: float = 0.0
    """Share of JPEGs whose colour is as fine as their brightness (4:4:4 instead of 4:2:0)."""

    def __post_init__(self) -> None:
        for name in ("blur", "sinc", "gaussian", "poisson", "gray", "jpeg", "fine_color"):
            _check_share(name, getattr(self, name))
        if self.gaussian + self.poisson > 1:
            raise ConfigError(
                f"data.degradation: gaussian {self.gaussian} and poisson {self.poisson}: an image has one kind of "
                "noise, so their sum is at most 1"
            )
        for name in ("kernels", "resize"):
            shares = getattr(self, name)
            if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
                raise ConfigError(
                    f"data.degradation: {name} {list(shares)} are shares: they must not be negative and add up to 1"
                )
        for name, least, most in (
            ("kernel_size", 1, 51),
            ("sigma", 0, 25),
            ("generalized_beta", 0.1, 10),
            ("plateau_beta", 0.1, 10),
            ("resize_factor", 0.05, 4),
            ("gaussian_sigma", 0, 255),
            ("poisson_scale", 0, 255),
            ("jpeg_quality", 1, 100),
        ):
            _check_range(name, getattr(self, name), least, most)
        if not self.resize_factor[0] <= 1 <= self.resize_factor[1]:
            raise ConfigError(
                f"data.degradation: resize_factor {list(self.resize_factor)} must reach from at most 1 to at least 1"
            )
        if not all(side % 2 for side in self.kernel_size):
            raise ConfigError(
                f"data.degradation: kernel_size {list(self.kernel_size)} must be odd: a kernel has a centre"
            )
        if self.of not in get_args(Literal["hr", "lr"]):
            raise ConfigError(f"data.degradation: of {self.of!r} is not 'hr' or 'lr'")
        _check_modes("resize_modes", self.resize_modes)


@dataclass(frozen=True, kw_only=True)
class DegradationConfig:
    """How a low-resolution image is made of a high-resolution one: passes in turn, then the size that is wanted."""

    passes: tuple[PassConfig, ...]
    last_modes: tuple[Mode, ...] = ("matlab",)
    """How the image is resized after the passes, unless it has the size already; each as likely as any other."""
    last_sinc: float = 0.0
    """Share of images that go through a sinc filter after that."""
    jpeg_last: float = 0.5
    """Share of images whose last pass's JPEG comes after that instead of before."""
    mild: float = 0.0
    """Share of images that are degraded by the preset "mild" instead."""
    clean: float = 0.0
    """Share of images that are made smaller by MATLAB's bicubic and nothing else."""
    sharpen: bool = False
    """Sharpen the high-resolution image first (unsharp mask, as published for sharper results): it is the target."""

    def __post_init__(self) -> None:
        if not self.passes:
            raise ConfigError("data.degradation has no passes: take a preset, such as preset = 'real', or write passes")
        for name in ("last_sinc", "jpeg_last", "mild", "clean"):
            _check_share(name, getattr(self, name))
        if self.mild + self.clean > 1:
            raise ConfigError(
                f"data.degradation: mild {self.mild} and clean {self.clean} are shares: their sum is at most 1"
            )
        _check_modes("last_modes", self.last_modes)


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ConfigError(f"data.degradation: {name} {share} is a share: 0 to 1")


def _check_range(name: str, drawn: Range, least: float, most: float) -> None:
    low, high = drawn
    if not least <= low <= high <= most:
        raise ConfigError(
            f"data.degradation: {name} [{low}, {high}] must be two numbers from {least} to {most}, the smaller one "
            "first"
        )


def _check_modes(name: str, modes: tuple[Mode, ...]) -> None:
    if not modes or not set(modes) <= set(get_args(Mode)):
        raise ConfigError(f"data.degradation: {name} {list(modes)} must be some of {', '.join(get_args(Mode))}")


_SECOND_ORDER = (
    PassConfig(
        blur=1.0,
        sinc=0.1,
        resize=(0.2, 0.7, 0.1),
        gaussian=0.5,
        poisson=0.5,
        jpeg=1.0,
    ),
    PassConfig(
        blur=0.8,
        sinc=0.1,
        sigma=(0.2, 1.5),
        of="lr",
        resize=(0.3, 0.4, 0.3),
        resize_factor=(0.3, 1.2),
        gaussian=0.5,
        gaussian_sigma=(1.0, 25.0),
        poisson=0.5,
        poisson_scale=(0.05, 2.5),
        jpeg=1.0,
    ),
)

PRESETS: dict[str, DegradationConfig] = {
    "real": DegradationConfig(passes=_SECOND_ORDER, last_modes=("area", "bilinear", "bicubic"), last_sinc=0.8),
    "mild": DegradationConfig(
        passes=(
            PassConfig(of="lr", resize_modes=("matlab",)),
            PassConfig(
                of="lr",
                blur=1.0,
                kernels=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
                sigma=(0.0, 0.6),
                gaussian=1.0,
                gaussian_sigma=(0.0, 3.0),
                gray=0.0,
                jpeg=1.0,
                jpeg_quality=(50, 95),
                fine_color=0.25,
            ),
        )
    ),
}
""""real" is the second-order degradation of Real-ESRGAN (Wang et al., arXiv 2107.10833). "mild" is bicubic, a slight
blur and slight noise in low-resolution pixels, and JPEG."""


def expanded(content: object) -> object:
    """A recipe's `degradation`, with its preset written out: "real", or a table whose `preset` the other keys change.

    Anything else is returned as it is. Raises ConfigError for an unknown preset.
    """
    table = {"preset": content} if isinstance(content, str) else content
    if not isinstance(table, Mapping) or "preset" not in table:
        return content
    name = table["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"data.degradation: preset {name!r} is not one of {', '.join(PRESETS)}")
    preset = json.loads(json.dumps(asdict(PRESETS[name])))
    return {**preset, **{key: value for key, value in table.items() if key != "preset"}}
