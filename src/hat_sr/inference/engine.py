"""What `Upscaler` runs: a HAT in torch, in bands of rows, or an exported one in its runtime."""

import hashlib
import logging
from typing import Protocol

import torch
from torch import Tensor

from hat_sr.checkpoints.checkpoint import METADATA_KEY, read_description
from hat_sr.errors import ConfigError, WeightsError
from hat_sr.inference.device import Precision, find_device, find_dtype, prepared
from hat_sr.inference.memory import forward_bytes, largest_band, largest_square, memory_budget, session_bytes
from hat_sr.model.banded import Report, forward_in_bands
from hat_sr.model.config import HATConfig
from hat_sr.model.hat import HAT
from hat_sr.runtime.session import Session, check_claim

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """A network for images whose sides are multiples of its window_size, and what memory they take."""

    config: HATConfig
    device: torch.device
    dtype: torch.dtype
    """What the network's body computes in."""
    has_bands: bool
    """Whether it can work on a part of the rows at a time."""

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """Enlarge (B, in_chans, H, W) float32 in [0, 1] on any device, where the result is, too.

        report: as for `forward_in_bands`; an engine that has no bands calls it once.
        """

    def compute_in(self, dtype: torch.dtype) -> None:
        """Take this for the network's body from here on. Raises ConfigError if that cannot be."""

    def fingerprint(self) -> str:
        """Hash of network, config and runtime."""

    def budget(self) -> int:
        """Bytes of memory to plan with now."""

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """Rows to work on at once for an image of this size within `budget` bytes; None if none fit."""

    def largest_square(self, budget: int) -> int:
        """Side of the largest square image within `budget` bytes; 0 if none fits."""


class TorchEngine:
    """A HAT in torch. If a result in low precision is not finite, it and all later ones are computed in fp32."""

    has_bands = True

    def __init__(self, model: HAT, *, device: str | torch.device, precision: Precision) -> None:
        self.config = model.config
        self.device = find_device(device)
        self.dtype = find_dtype(precision, self.device)
        self._source = model
        self._model = prepared(model, self.device, self.dtype)

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """See Engine."""
        out = forward_in_bands(self._model, x.to(self.device), num_rows=band_rows, report=report).to(x)
        if self.dtype == torch.float32 or out.isfinite().all():
            return out
        logger.warning("the result in %s is not finite: computing in fp32 from here on", self.dtype)
        self.compute_in(torch.float32)
        return self.forward(x, band_rows=band_rows, report=report)

    def compute_in(self, dtype: torch.dtype) -> None:
        """See Engine."""
        self.dtype = dtype
        self._model = prepared(self._source, self.device, dtype)

    def fingerprint(self) -> str:
        """See Engine."""
        digest = hashlib.sha256(repr(self.config).encode())
        for tensor in self._source.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def budget(self) -> int:
        """See Engine."""
        return memory_budget(self.device)

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """See Engine."""
        return largest_band(self.config, self.dtype, height, width, budget)

    def largest_square(self, budget: int) -> int:
        """See Engine."""
        rows = self.config.window_size
        return largest_square(rows, budget, lambda side: forward_bytes(self.config, self.dtype, side, side, rows))


class SessionEngine:
    """An exported HAT, on the CPU, all rows at once.

    Raises ConfigError for another device, or a low precision that is not the session's; WeightsError if its file does
    not say what it is, or if a small image shows that it is something else.
    """

    has_bands = False

    def __init__(self, session: Session, *, device: str | torch.device, precision: Precision) -> None:
        if str(device) not in ("auto", "cpu"):
            raise ConfigError(f"device {str(device)!r}: {session.name} runs on the CPU; leave it out")
        if precision not in ("auto", "fp32", session.precision):  # fp32 is what stands there if nothing was asked for
            raise ConfigError(f"precision {precision!r}: {session.name} was opened in {session.precision}: open it so")
        if METADATA_KEY not in session.metadata:
            raise WeightsError(
                f"{session.name}: it does not say what network it is: export it with hat_sr, which writes that into it"
            )
        try:
            self.config, _ = read_description(session.metadata[METADATA_KEY])
        except WeightsError as error:
            raise WeightsError(f"{session.name}: {error}") from error
        config = self.config
        check_claim(session, scale=config.upscale, in_chans=config.in_chans, multiple=config.window_size)
        self.device = torch.device("cpu")
        self.dtype = torch.bfloat16 if session.precision == "bf16" else torch.float32
        self._session = session
        self._largest_budget = 0

    def forward(self, x: Tensor, *, band_rows: int, report: Report = lambda part: None) -> Tensor:
        """See Engine."""
        out = self._session.run(x.to(self.device)).to(x)
        report(1.0)
        return out

    def compute_in(self, dtype: torch.dtype) -> None:
        """See Engine."""
        if dtype != self.dtype:
            raise ConfigError(f"{self._session.name} was opened in {self._session.precision}: open it in another one")

    def fingerprint(self) -> str:
        """See Engine."""
        return f"{self._session.fingerprint}, {self._session.runtime}, {self._session.precision}"

    def budget(self) -> int:
        """See Engine."""
        # A runtime keeps memory for its next pass, which the system does not count as free.
        self._largest_budget = max(self._largest_budget, memory_budget(self.device))
        return self._largest_budget

    def band_rows(self, height: int, width: int, budget: int) -> int | None:
        """See Engine."""
        fits = self._bytes(height, width) <= budget
        return height + -height % self.config.window_size if fits else None

    def largest_square(self, budget: int) -> int:
        """See Engine."""
        return largest_square(self.config.window_size, budget, lambda side: self._bytes(side, side))

    def _bytes(self, height: int, width: int) -> int:
        return session_bytes(self.config, self._session.runtime, self._session.precision, height, width)


def engine_for(model: HAT | Session, *, device: str | torch.device, precision: Precision) -> Engine:
    """What runs this network. Raises as `SessionEngine` does, and ConfigError for a device that is not there."""
    if isinstance(model, Session):
        return SessionEngine(model, device=device, precision=precision)
    return TorchEngine(model, device=device, precision=precision)
