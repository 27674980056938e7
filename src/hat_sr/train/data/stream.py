"""Training samples from tar shards (WebDataset), read one after the other and shuffled by a buffer."""

import math
import random
import re
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from hat_sr.degradation.config import DegradationConfig
from hat_sr.errors import ConfigError, DataError, HatError, ImageError, require
from hat_sr.image.formats import WRITABLE_SUFFIXES
from hat_sr.train.config import DataConfig, SourceConfig
from hat_sr.train.data.patches import Batch, Sample, as_batch, draw_patch
from hat_sr.train.data.reading import Picture, check_sides, read_rgb_bytes, without_warnings

SHUFFLED = 500
"""Image files that each reader holds, undecoded, and draws the next one from."""

_SCHEMES = ("http", "https", "sftp", "ftps", "scp", "gs", "hf", "ais", "htgs", "file")
"""Addresses that webdataset reads."""

_PLAIN = re.compile(r"[\w.~:/?#@!&+,;=%()*\[\]-]+", re.ASCII)
"""What may stand in one. Older versions of webdataset put it into a shell's line, between quotes."""

MOST_SHARDS = 1_000_000
"""That a pattern may name."""

MAX_UNUSABLE = 100
"""Images in turn that may be unusable before the data is given up."""


def open_stream(
    config: DataConfig, *, scale: int, seed: tuple[int, ...], batch_size: int, rank: int, num_ranks: int
) -> "ShardStream":
    """Endless batches of the shards of `config`'s source, for process `rank` of `num_ranks`.

    Raises ConfigError if there are fewer shards than readers, DataError as `list_shards` does, and MissingExtraError
    without the package webdataset.
    """
    (source,) = config.sources
    shards = list_shards(source, Path(config.root))
    num_readers = num_ranks * max(config.num_workers, 1)
    if len(shards) < num_readers:
        raise ConfigError(
            f"{source.path} has {len(shards)} shards, too few for {num_readers} readers (processes times "
            "data.num_workers): lower data.num_workers, or make smaller shards (hat-sr data prepare --shard-size)"
        )
    return ShardStream(
        shards,
        scale=scale,
        patch_size=config.patch_size,
        degradation=config.degradation,
        flats=config.flats,
        seed=seed,
        batch_size=batch_size,
        rank=rank,
        num_ranks=num_ranks,
    )


def list_shards(source: SourceConfig, root: Path) -> list[str]:
    """The shards that a pattern such as shards/{000..127}.tar names: files below `root`, or addresses with ://.

    Raises ConfigError for an address that would run a command, or of a kind that is not read; DataError if a file is
    missing, and MissingExtraError without the package webdataset.
    """
    require("webdataset", extra="train")
    pattern = source.path if _is_address(source.path) else str(root / source.path)
    shards = _expanded(pattern)
    for shard in filter(_is_address, shards):
        _check_address(shard)
    missing = [shard for shard in shards if not _is_address(shard) and not Path(shard).is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(shards)} shards do not exist, such as {', '.join(missing[:3])}")
    return shards


def read_shards(shards: Iterable[str], *, unusable: list[str]) -> Iterator[tuple[str, bytes]]:
    """Name and file of each image in the shards, in their order. What cannot be read is added to `unusable`."""
    webdataset = require("webdataset", extra="train")

    def told(error: Exception) -> bool:
        reason = str(error.args[0] if error.args else "").partition(" @ ")[0]  # webdataset adds an object after it
        unusable.append(f"{shard} cannot be read, or not to its end ({type(error).__name__}: {reason})")
        return False

    for shard in shards:
        try:
            stream = webdataset.gopen(shard) if _is_address(shard) else Path(shard).open("rb")  # noqa: SIM115
        except Exception as error:  # what an address can fail with is not known here
            told(error)
            continue
        with stream:
            files = webdataset.tariterators.tar_file_expander([{"url": shard, "stream": stream}], handler=told)
            for sample in webdataset.tariterators.group_by_keys(files, handler=told):
                name = f"{shard}/{sample['__key__']}"
                found = [key for key in sample if f".{key.rpartition('.')[2]}" in WRITABLE_SUFFIXES]
                if found:
                    yield f"{name}.{found[0]}", sample[found[0]]
                else:
                    others = ", ".join(key for key in sample if not key.startswith("__"))
                    unusable.append(f"{name} has no image among its files: {others}")


class ShardStream(IterableDataset[Batch | HatError]):
    """Endless batches. Each worker of each process reads a share of the shards, another one in every round.

    An error is returned: raised in a worker process it would arrive as a traceback.
    """

    def __init__(
        self,
        shards: list[str],
        *,
        scale: int,
        patch_size: int,
        degradation: DegradationConfig | None,
        flats: float,
        seed: tuple[int, ...],
        batch_size: int,
        rank: int,
        num_ranks: int,
    ) -> None:
        self.shards = shards
        self.scale = scale
        self.patch_size = patch_size
        self.degradation = degradation
        self.flats = flats
        self.seed = seed
        self.batch_size = batch_size
        self.rank = rank
        self.num_ranks = num_ranks

    def __iter__(self) -> Iterator[Batch | HatError]:
        """The batches of this worker process."""
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        reader = self.rank * workers + (worker.id if worker else 0)
        samples = self._samples(reader, self.num_ranks * workers)
        try:
            while True:
                yield as_batch([next(samples) for _ in range(self.batch_size)])
        except HatError as error:
            yield error

    def _samples(self, reader: int, num_readers: int) -> Iterator[Sample]:
        # Numbers after the seed keep what is drawn here apart from the order of the shards, which all readers share.
        draw = np.random.default_rng((*self.seed, reader, 1))
        shuffle = require("webdataset", extra="train").shuffle(
            SHUFFLED, initial=SHUFFLED, rng=random.Random(int(draw.integers(2**62)))
        )
        skipped: list[str] = []
        in_turn = 0
        for name, data in shuffle(self._files(reader, num_readers, skipped)):
            try:
                with without_warnings():
                    picture = Picture(read_rgb_bytes(data, name))
                check_sides(picture, name, smallest=self.patch_size * self.scale)
            except ImageError as error:
                skipped.append(str(error))
                in_turn += 1
                if in_turn == MAX_UNUSABLE:
                    raise DataError(
                        f"{in_turn} images in turn could not be used: hat-sr data check lists all that cannot; "
                        f"the last one: {error}"
                    ) from error
                continue
            in_turn = 0
            lr, hr, _ = draw_patch(
                picture,
                draw,
                patch_size=self.patch_size,
                scale=self.scale,
                degradation=self.degradation,
                flats=self.flats,
            )
            yield Sample(lr, hr, name, tuple(skipped))
            skipped.clear()

    def _files(self, reader: int, num_readers: int, unusable: list[str]) -> Iterator[tuple[str, bytes]]:
        for number in count():
            order = np.random.default_rng((*self.seed, number)).permutation(len(self.shards))
            mine = [self.shards[int(shard)] for shard in order[reader::num_readers]]
            num_files = 0
            for file in read_shards(mine, unusable=unusable):
                num_files += 1
                yield file
            if not num_files:
                raise DataError(f"no image could be read from {', '.join(mine[:3])}: {'; '.join(unusable[:3])}")


def _expanded(pattern: str) -> list[str]:
    """The names that a pattern with braces stands for. Raises ConfigError for one that stands for too many."""
    ends = [(int(first), int(last)) for first, last in re.findall(r"\{(-?\d{1,18})\.\.(-?\d{1,18})", pattern)]
    if re.search(r"\d{19}", pattern) or math.prod(abs(last - first) + 1 for first, last in ends) > MOST_SHARDS:
        raise ConfigError(f"the pattern of shards {pattern} names more than {MOST_SHARDS:,}")
    try:
        return list(require("braceexpand", extra="train").braceexpand(pattern))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the pattern of shards {pattern} is not of the form shards/{{000..127}}.tar") from error


def _is_address(shard: str) -> bool:
    return "://" in shard or shard.startswith("pipe:")


def _check_address(shard: str) -> None:
    """Raise ConfigError unless webdataset reads it without a shell: it runs what stands behind `pipe:`."""
    scheme, _, rest = shard.partition("://")
    if scheme not in _SCHEMES or not _PLAIN.fullmatch(rest):
        raise ConfigError(
            f"the shard {shard!r} is not read: a recipe may name files and addresses that begin with "
            f"{', '.join(f'{name}://' for name in _SCHEMES)}, without blanks and quotes, and no command (pipe:)"
        )
