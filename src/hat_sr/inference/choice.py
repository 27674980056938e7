"""Which networks a picture goes through: by how much larger it becomes, and whether it is clean."""

from collections.abc import Callable
from pathlib import Path

from hat_sr.checkpoints.named import AUTO, FOR_PHOTOS, bundled_by_factor, bundled_for
from hat_sr.image.decode import Header
from hat_sr.image.noise import NOISY, noise_in_file
from hat_sr.inference.device import PRECISION_NAMES
from hat_sr.inference.sizing import chain
from hat_sr.inference.upscaler import Upscaler


class Choice:
    """Chooses for one picture after the other, and opens each network once; at once the one that it takes first.

    model: what `open_named` opens, the same for all, or AUTO: those in the package that suit the picture. scale: the
    factor that is looked for first. say: told why it is not the usual network. Raises as `open_named`.
    """

    def __init__(
        self,
        model: str,
        scale: float,
        *,
        open_named: Callable[[str], Upscaler],
        say: Callable[[str], None],
    ) -> None:
        self._is_auto = model == AUTO
        self._open_named, self._say = open_named, say
        self._opened: dict[str, Upscaler] = {}
        self._usual = bundled_for(scale) if self._is_auto else model
        self._used: set[str] = set()
        self._told_of_loss = False
        self.usual = self._network(self._usual)

    def __str__(self) -> str:
        """The networks that were used, and the precision they run in."""
        names = self._used or {self._usual}
        used = {name: one for name, one in self._opened.items() if name in names}
        return " and ".join(f"{name} in {PRECISION_NAMES[one.dtype]}" for name, one in used.items())

    def fingerprint(self, factor: float | None) -> str:
        """What the choice depends on, and of all networks that it can take for `factor`; None is any."""
        if not self._is_auto:
            return self.usual.fingerprint()
        names = [*bundled_by_factor().values(), FOR_PHOTOS]
        if factor is not None:
            names = [name for degraded in (False, True) for name in self._chain(factor, degraded=degraded)]
        fingerprints = [self._network(name).fingerprint() for name in dict.fromkeys(names)]
        return f"{', '.join(fingerprints)}; noise from {NOISY:g}"

    def networks(self, source: Path, header: Header, factor: float, *, page: int | None = None) -> list[Upscaler]:
        """What makes this picture larger by `factor`, one after the other. Raises ImageError if it cannot be read.

        Says why where it is not the usual one: of noise for each picture, of loss once.
        """
        noise = noise_in_file(source, page=page) if self._is_auto and not header.lossy else 0.0
        degraded = self._is_auto and (header.lossy or noise >= NOISY)
        names = self._chain(factor, degraded=degraded)
        if noise >= NOISY:
            where = source if page is None else f"{source}, page {page + 1}"
            self._say(
                f"{where}: noise of about {noise:.0f} of 255 levels was found, so {names[0]} is used; "
                f"--model {self._chain(factor, degraded=False)[0]} takes the network for clean pictures"
            )
        elif degraded and not self._told_of_loss:
            self._say(f"{source} is compressed with loss: {names[0]} is used for such files; --model names another")
            self._told_of_loss = True
        self._used.update(names)
        return [self._network(name) for name in names]

    def _chain(self, factor: float, *, degraded: bool) -> list[str]:
        """The names of the networks for a picture that becomes larger by `factor`."""
        if not self._is_auto:
            return [self._usual] * len(chain(factor, first=[self.usual.scale], then=[self.usual.scale]))
        then = bundled_by_factor()
        first = {self._network(FOR_PHOTOS).scale: FOR_PHOTOS} if degraded else then
        head, *rest = chain(factor, first=first, then=then)
        return [first[head], *(then[one] for one in rest)]

    def _network(self, name: str) -> Upscaler:
        if name not in self._opened:
            self._opened[name] = self._open_named(name)
        return self._opened[name]
