"""Memory limits of containers and services: control groups of Linux, version 1 and 2, one in another."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OWN, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class _Version:
    """Names of files, and of what of the usage the system gives up when memory is short."""

    limits: tuple[str, ...]
    usage: str
    reclaimable: str


_V1 = _Version(limits=("memory.limit_in_bytes",), usage="memory.usage_in_bytes", reclaimable="total_inactive_file")
_V2 = _Version(limits=("memory.max", "memory.high"), usage="memory.current", reclaimable="inactive_file")


def limited_memory() -> int | None:
    """Bytes that this process and others of its group may have; None without a limit, and elsewhere than on Linux."""
    return min((limit for limit, _ in _limits()), default=None)


def free_memory() -> int | None:
    """Bytes of those that are left, files in the cache counted as free; None as for `limited_memory`."""
    return min((max(limit - used, 0) for limit, used in _limits()), default=None)


def _limits() -> Iterator[tuple[int, int]]:
    """The limit and the usage of each group that has a limit: the process's own, and those around it."""
    for folder, version in _groups():
        limits = [limit for name in version.limits if (limit := _number(folder / name)) is not None]
        used = _number(folder / version.usage)
        if limits and used is not None:
            yield min(limits), used - _reclaimable(folder / "memory.stat", version.reclaimable)


def _groups() -> Iterator[tuple[Path, _Version]]:
    for line in _read(_OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, version = (_ROOT / "memory", _V1) if controllers else (_ROOT, _V2)
        # In a container the path may be the host's, of which only the part below the container's group is there.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts), -1, -1):
            yield root.joinpath(*parts[:length]), version


def _number(path: Path) -> int | None:
    """None for "max", which is no limit, and where there is no such file."""
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _reclaimable(path: Path, name: str) -> int:
    values = dict(line.split(" ", 1) for line in _read(path).splitlines() if " " in line)
    return int(values.get(name, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
