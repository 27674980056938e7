"""The networks on offer, of which one is in memory at a time."""

import logging
from collections.abc import Callable

from hat_sr.checkpoints.named import AUTO, DEFAULT_SCALE, bundled_for, bundled_names, label
from hat_sr.errors import ConfigError
from hat_sr.inference.upscaler import Upscaler
from hat_sr.serve.settings import RefusedError, ServerSettings

logger = logging.getLogger(__name__)


class Networks:
    """Upscalers by name. For one thread at a time, but for what says otherwise.

    Every network is loaded once, so that one that cannot be is noticed at the start. Raises as
    `Upscaler`, and ConfigError if two have one name.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        sources: list[str] = []
        for source in settings.models:
            sources += bundled_names() if source == AUTO else [source]
        self.sources = {label(source): source for source in sources}
        """By the names that clients use, which hide where files lie."""
        if len(self.sources) < len(sources):
            raise ConfigError(f"models {', '.join(sources)}: each needs another name, folder and suffix left aside")
        self._name = ""
        self._upscaler: Upscaler | None = None
        self.scales: dict[str, int] = {name: self.upscaler(name).scale for name in self.sources}
        self.default = AUTO if settings.models[0] == AUTO else label(settings.models[0])
        self.upscaler(bundled_for(DEFAULT_SCALE) if self.default == AUTO else self.default)

    @property
    def names(self) -> list[str]:
        """What a client may ask for, the default first; from any thread."""
        others = [*([AUTO] if AUTO in self._settings.models else []), *self.sources]
        return [self.default, *(name for name in others if name != self.default)]

    def choose(self, name: str | None, scale: float | None, *, is_degraded: Callable[[], bool]) -> tuple[str, float]:
        """The name of the network for a picture, and the factor; from any thread.

        is_degraded: whether the picture was compressed with loss or is noisy; asked if it matters.
        Raises RefusedError (422) for a name that is not on offer, or a factor that the network does not reach at once,
        and what is_degraded raises.
        """
        name = name or self.default
        if name not in self.names:
            raise RefusedError(422, f"model {name!r} is not on offer: {', '.join(self.names)} are")
        if name == AUTO:
            name = bundled_for(DEFAULT_SCALE if scale is None else scale, degraded=is_degraded())
        largest = self.scales[name]
        scale = largest if scale is None else scale
        if not 1 <= scale <= largest:
            raise RefusedError(422, f"scale {scale:g} is not between 1 and {largest}, which {name} enlarges by")
        return name, float(scale)

    def upscaler(self, name: str) -> Upscaler:
        """The network of that name, loaded if another was in memory.

        Raises RefusedError (410) for one that an earlier server had on offer, and this one has not.
        """
        if name not in self.sources:
            raise RefusedError(410, f"the network {name} is not on offer any more: send the picture again")
        if self._upscaler is None or name != self._name:
            self._upscaler = None  # so that there are never two
            settings = self._settings
            self._upscaler = Upscaler(
                self.sources[name], precision=settings.precision, device=settings.device, memory=settings.memory
            )
            self._name = name
            logger.info("%s is loaded", name)
        return self._upscaler
