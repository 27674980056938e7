"""What a server allows, and the error for what it does not."""

from dataclasses import dataclass, fields
from pathlib import Path

from hat_sr.errors import ConfigError, HatError
from hat_sr.inference.device import Precision
from hat_sr.model.zoo import AUTO

TOKEN_VARIABLE = "HAT_SR_TOKEN"
"""The environment variable that holds the token if no option does."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A server's. Raises ConfigError for a limit that is not above 0, and for an empty token or no model."""

    folder: Path
    """Where the queue and the pictures lie; no other server may use it at the same time."""
    models: tuple[str, ...] = (AUTO,)
    """HATs on offer, by name, file or hf:// name, the first where none is asked for; AUTO stands for those in the
    package, of which each picture gets the one that suits it."""
    token: str | None = None
    """What every request has to know; None lets everybody in."""
    max_bytes: int = 64 << 20
    """Of a request."""
    max_pixels: int = 16_000_000
    """Of a picture that comes, by its header."""
    max_result_pixels: int = 64_000_000
    """Of what the network makes of it: about 60 bytes of memory for each."""
    direct_pixels: int = 512 * 512
    """Of a picture that is answered in the same request."""
    max_queue: int = 50
    """Pictures that wait or are worked on."""
    max_seconds: float = 1800
    """From when a picture's turn comes until its result is there."""
    direct_seconds: float = 120
    """From a request until its answer, waiting included, where the result is the answer."""
    file_seconds: float = 20
    """To read or write one image file."""
    keep_seconds: float = 3600
    """How long what is finished stays there."""
    keep_bytes: int = 16 << 30
    """Of files of what is finished, above which the oldest ones are deleted before their time."""
    precision: Precision = "auto"
    device: str = "auto"
    memory: int | None = None
    """These three are `Upscaler`'s."""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.startswith(("max_", "direct_"))):
            self._check(name)
        self._check("file_seconds")
        self._check("keep_seconds")
        self._check("keep_bytes")
        if self.token is not None and not self.token.strip():
            raise ConfigError("the token is empty: give one of some length, or none at all")
        if not self.models:
            raise ConfigError("no model: name one at least")

    def _check(self, name: str) -> None:
        value = getattr(self, name)
        if not value > 0:
            raise ConfigError(f"{name} {value}: a number above 0 is accepted")


class RefusedError(HatError):
    """What a server answers instead of a result: a sentence for people, and the status that says so in HTTP."""

    def __init__(self, status: int, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""
