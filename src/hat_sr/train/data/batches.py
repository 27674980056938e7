"""The batches of a training: which patch of which image is sample k, and the processes that prepare them."""

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hat_sr.degradation.config import DegradationConfig
from hat_sr.errors import ConfigError, DataError, HatError, ImageError
from hat_sr.train.config import DataConfig
from hat_sr.train.data.patches import Batch, Sample, as_batch, draw_patch
from hat_sr.train.data.reading import without_warnings
from hat_sr.train.data.sources import JoinedSource, KeptSource, Source, open_source, read_usable
from hat_sr.train.data.stream import open_stream
from hat_sr.train.data.workers import start_worker, waiting_for_workers, watch_workers, without_reader_threads

__all__ = ["Batch", "Batches", "PatchDataset", "open_data"]

logger = logging.getLogger(__name__)

MAX_DRAWS = 100
"""Images drawn for one sample before the data is given up as unusable."""

PREFETCHED = 4
"""Batches that each worker process keeps ready: images take unequally long to read."""


def open_data(
    config: DataConfig,
    *,
    scale: int,
    seed: int,
    first_step: int,
    total_steps: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> "Batches":
    """Open the data of process `rank` of `num_ranks`: its batches of the steps from `first_step` on.

    Sample number k is a pure function of the seed and k. Step n has the samples n·B … n·B + B − 1, B the batch size,
    and rank r the r-th share of them, so that all shares in order are the batch of a single process. A webdataset is
    the exception, and says so. Images in memory that cannot be used are reported here and never drawn; without
    `config.in_memory` they are found when drawn.

    Raises ConfigError if the batch cannot be shared, MissingExtraError for a package that is needed, and DataError for
    data that is missing, not as the recipe says, or of which nothing can be used.
    """
    if config.batch_size % num_ranks:
        raise ConfigError(
            f"data.batch_size {config.batch_size} cannot be shared by {num_ranks} processes: make it a multiple"
        )
    num_samples = config.batch_size // num_ranks
    dataset: Dataset[Batch | HatError]
    steps = range(first_step, total_steps)
    if config.streamed:
        if config.in_memory:
            raise ConfigError("data.in_memory: a webdataset is read as a stream and cannot be kept in memory")
        dataset = open_stream(
            config,
            scale=scale,
            seed=(seed, first_step),
            batch_size=num_samples,
            rank=rank,
            num_ranks=num_ranks,
        )
        if rank == 0:
            logger.warning(
                "a webdataset is read as a stream: which samples come depends on data.num_workers and the number of "
                "processes, and a training that goes on from a checkpoint draws others"
            )
    else:
        dataset = _Steps(
            open_patches(config, scale=scale, seed=seed, report=rank == 0),
            batch_size=config.batch_size,
            offset=rank * num_samples,
            num_samples=num_samples,
        )
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=None if config.streamed else steps,
        collate_fn=_as_it_is,
        num_workers=config.num_workers,
        prefetch_factor=PREFETCHED if config.num_workers else None,
        worker_init_fn=start_worker,
        # Without one of its own, the loader would draw from the generator of drop path each time a training goes on.
        generator=torch.Generator().manual_seed(seed),
    )
    return Batches(loader, num_steps=len(steps))


def open_patches(config: DataConfig, *, scale: int, seed: int, report: bool = True) -> "PatchDataset":
    """The samples of a training by number; what cannot be used is logged if `report`. Raises as `open_data`."""
    if config.streamed:
        raise ConfigError("data.sources: a webdataset is read as a stream, its patches have no numbers")
    source = _open_sources(config, scale=scale, report=report)
    return PatchDataset(
        source,
        scale=scale,
        patch_size=config.patch_size,
        seed=seed,
        degradation=config.degradation,
        flats=config.flats,
    )


def _open_sources(config: DataConfig, *, scale: int, report: bool) -> Source:
    sources: list[Source] = [open_source(source, Path(config.root), scale=scale) for source in config.sources]
    if not config.in_memory:
        joined = JoinedSource(sources)
        if report:
            logger.info("%d images, read when they are drawn", len(joined))
        return joined
    kept = [KeptSource(source, smallest=config.patch_size * scale) for source in sources]
    if report:
        for message in (message for source in kept for message in source.unusable):
            logger.warning("left out: %s", message)
        megapixels = sum(picture.hr[0].numel() for source in kept for picture in source.pictures) / 1e6
        logger.info("%d images, %.0f megapixels", sum(map(len, kept)), megapixels)
    return JoinedSource(kept)


class PatchDataset(Dataset[Sample]):
    """Samples by number: a pure function of the seed and the number.

    Drawn are the image (each as likely as any other), place, degradation, flip and rotation. An image that turns out
    to be unusable is named in the sample, and another one drawn in the same way.
    """

    def __init__(
        self,
        source: Source,
        *,
        scale: int,
        patch_size: int,
        seed: int,
        degradation: DegradationConfig | None = None,
        flats: float = 0.0,
    ) -> None:
        self.source = source
        self.scale = scale
        self.patch_size = patch_size
        self.degradation = degradation
        self.flats = flats
        self.seed = seed
        # Not read again each time they are drawn: what is drawn instead does not depend on it.
        self._unusable: dict[int, str] = {}

    def __getitem__(self, index: int) -> Sample:
        """Make sample `index`. Raises DataError if MAX_DRAWS images in turn could not be used."""
        skipped: list[str] = []
        for attempt in range(MAX_DRAWS):
            random = np.random.default_rng((self.seed, index, attempt) if attempt else (self.seed, index))
            number = int(random.integers(len(self.source)))
            if number not in self._unusable:
                try:
                    picture = read_usable(self.source, number, smallest=self.patch_size * self.scale)
                except ImageError as error:
                    self._unusable[number] = str(error)
            if number in self._unusable:
                skipped.append(self._unusable[number])
                continue
            lr, hr, teacher = draw_patch(
                picture,
                random,
                patch_size=self.patch_size,
                scale=self.scale,
                degradation=self.degradation,
                flats=self.flats,
            )
            return Sample(lr, hr, self.source.name(number), tuple(skipped), teacher)
        raise DataError(
            f"{MAX_DRAWS} images drawn in turn from {self.source.where} could not be used: hat-sr data check lists "
            f"all that cannot; the last one: {skipped[-1]}"
        )


class _Steps(Dataset[Batch | HatError]):
    """One process's batch of step n.

    An error is returned: raised in a worker process it would arrive as a traceback.
    """

    def __init__(self, samples: PatchDataset, *, batch_size: int, offset: int, num_samples: int) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.offset = offset
        self.num_samples = num_samples

    def __getitem__(self, step: int) -> Batch | HatError:
        first = step * self.batch_size + self.offset
        try:
            with without_warnings():
                return as_batch([self.samples[index] for index in range(first, first + self.num_samples)])
        except HatError as error:
            return error


class Batches:
    """The batches of a training's steps, in order. Reports each image that could not be used, once."""

    def __init__(self, loader: DataLoader[Batch | HatError], *, num_steps: int) -> None:
        self.loader = loader
        self.num_steps = num_steps
        self._told: set[str] = set()

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[Batch]:
        """Raises DataError when the data cannot be used, or a worker process ended."""
        if not self.num_steps:
            return
        with without_reader_threads():  # here worker processes start
            items = islice(self.loader, self.num_steps)
        watch = watch_workers() if self.loader.num_workers else None
        try:
            while True:
                with waiting_for_workers(watch) if self.loader.num_workers else nullcontext():
                    item = next(items, None)
                if item is None:
                    return
                if isinstance(item, HatError):
                    raise item
                self._report(item.skipped)
                yield item
        finally:
            del items  # ends the worker processes, even while the traceback of an error holds this frame

    def _report(self, messages: tuple[str, ...]) -> None:
        for message in messages:
            if message not in self._told:
                self._told.add(message)
                logger.warning("left out: %s", message)


def _as_it_is(batch: Any) -> Any:
    """Keep the loader from collating."""
    return batch
