"""Everything a training depends on, as frozen dataclasses read from a TOML recipe."""

import math
from dataclasses import dataclass, field
from typing import Literal

from hat_sr.errors import ConfigError
from hat_sr.model.config import HATConfig


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """One folder of high-resolution images, searched recursively."""

    path: str
    """Below `DataConfig.root`."""
    shrink: float = 1.0
    """Each image is made smaller by this factor (camera JPEGs: 2 or more, their pixels are interpolated)."""
    max_width: int | None = None
    """Images still wider after `shrink` are made smaller by a further 4/3."""
    exclude: tuple[str, ...] = ()
    """File names left out: those used as examples or fixtures."""

    def __post_init__(self) -> None:
        if not 1 <= self.shrink < math.inf:
            raise ConfigError(f"shrink {self.shrink} of {self.path} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and how samples are cut."""

    folders: tuple[FolderConfig, ...]
    root: str = "."
    """Folder that the folders' paths start from."""
    patch_size: int = 64
    """Side of a low-resolution patch, in pixels: a multiple of window_size."""
    batch_size: int = 32
    num_workers: int = 0
    """Processes that prepare samples; 0 prepares them in the training process. The samples are the same."""

    def __post_init__(self) -> None:
        if not self.folders:
            raise ConfigError("data.folders is empty: name at least one folder of images")
        for name, least in (("patch_size", 1), ("batch_size", 1), ("num_workers", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"data.{name} {getattr(self, name)} must be at least {least}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Adam, its learning rate over the steps, and the average of the weights."""

    total_steps: int
    learning_rate: float = 2e-4
    """Peak."""
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Literal["steps", "cosine"] = "steps"
    """"steps" halves the rate at each milestone; "cosine" lets it fall to 0 at total_steps."""
    milestones: tuple[int, ...] = ()
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from 0."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all weights together; None leaves it as it is."""
    ema_decay: float = 0.999
    """How much of the averaged weights each step keeps."""

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise ConfigError(f"optim.total_steps {self.total_steps} must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"optim.learning_rate {self.learning_rate} must be above 0")
        if self.warmup_steps < 0:
            raise ConfigError(f"optim.warmup_steps {self.warmup_steps} must not be negative")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"optim.clip_norm {self.clip_norm} must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optim.ema_decay {self.ema_decay} must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How often the loop reports, validates and saves, in steps."""

    report_every: int = 100
    save_every: int = 500
    validate_every: int = 2000
    validation_folder: str | None = None
    """A benchmark folder, scored with the averaged weights; None validates on nothing."""

    def __post_init__(self) -> None:
        for name in ("report_every", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"log.{name} {getattr(self, name)} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training, whole."""

    model: HATConfig
    data: DataConfig
    optim: OptimConfig
    log: LogConfig = field(default_factory=LogConfig)
    start: Literal["published", "interpolator"] = "published"
    """"published" draws weights as the paper's code does; "interpolator" starts near bicubic interpolation."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16" runs the network under autocast; weights and optimizer stay fp32."""
    seed: int = 0
    provenance: dict[str, str] = field(default_factory=dict)
    """What the file of weights says of them: title, data, licence, and whatever else."""

    def __post_init__(self) -> None:
        if self.model.in_chans != 3:
            raise ConfigError(f"model.in_chans {self.model.in_chans}: training data is RGB, which takes 3")
        if self.data.patch_size % self.model.window_size:
            raise ConfigError(
                f"data.patch_size {self.data.patch_size} must be a multiple of model.window_size "
                f"{self.model.window_size}"
            )
