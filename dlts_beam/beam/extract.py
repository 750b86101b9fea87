"""Samples out of a series: one element per shard, read, cut and written in one fused stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import msgspec
import numpy as np
from apache_beam.metrics import Metrics

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.pixels import PixelReader
from dlts_beam.io.raster.reader import UnreadableSourceError
from dlts_beam.plan_files import PlanFile, read_plan
from dlts_beam.shards import ShardResult, ShardSettings, write_shard
from dlts_beam.spec.series import SeriesSpec

NAMESPACE = "generate-series"


class ExtractSamples(beam.PTransform):
    """Paths of plan files -> `ShardResult` of each; every plan's shard file has then been written.

    Only paths and results (counts) travel between stages, never pixels.
    """

    def __init__(self, series: SeriesSpec, settings: ShardSettings, skip_unreadable: bool = False) -> None:
        """With ``skip_unreadable``, pixels of unreadable images are rejected; else they end the run."""
        super().__init__()
        self._series = series
        self._settings = settings
        self._skip_unreadable = skip_unreadable

    def expand(self, plans: beam.PCollection[str]) -> beam.PCollection[ShardResult]:
        """Spread the plans over the workers and write each shard."""
        write = WriteShards(self._series, self._settings, self._skip_unreadable)
        return plans | "SpreadPlans" >> beam.Reshuffle() | "WriteShards" >> beam.ParDo(write)


class WriteShards(beam.DoFn):
    """Reads each window of a plan once, cuts its samples and writes the shard file."""

    def __init__(self, series: SeriesSpec, settings: ShardSettings, skip_unreadable: bool) -> None:
        super().__init__()
        self._series = series
        self._settings = settings
        self._skip_unreadable = skip_unreadable
        self._samples = Metrics.counter(NAMESPACE, "samples")
        self._windows = Metrics.counter(NAMESPACE, "windows_read")

    def setup(self) -> None:
        """Make the reader; files are opened when they are first needed."""
        self._reader = PixelReader(self._series)

    def process(self, path: str) -> Iterator[ShardResult]:
        """Write the shard of one plan file."""
        result = write_shard(read_plan(path), self._settings, self._read)
        self._samples.inc(result.samples)
        yield result

    def teardown(self) -> None:
        """Close the files."""
        self._reader.close()

    def _read(self, window: Window, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        self._windows.inc()
        try:
            return self._reader.read_pixels(window, pixels)
        except UnreadableSourceError:
            if self._skip_unreadable:
                return None
            raise


class WriteResults(beam.PTransform):
    """Results -> one JSON file that the launcher reads, whatever the runner."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, results: beam.PCollection[ShardResult]) -> beam.PCollection[str]:
        """Gather the results and write them."""
        gathered = results | "GatherResults" >> beam.combiners.ToList()
        return gathered | "WriteResults" >> beam.Map(write_results, self._path)


def write_results(results: Iterable[ShardResult], path: str) -> str:
    """Write results in the order of shards; gives the path."""
    ordered = sorted(results, key=lambda result: result.shard)
    storage.write_bytes(path, msgspec.json.encode(ordered))
    return path


def read_results(path: str, plans: Sequence[PlanFile]) -> list[ShardResult]:
    """Read what `write_results` wrote; raises as `check_results`."""
    return check_results(msgspec.json.decode(storage.read_bytes(path), type=list[ShardResult]), plans)


def check_results(results: list[ShardResult], plans: Sequence[PlanFile]) -> list[ShardResult]:
    """The results, in the order of plans.

    Raises:
        DltsError: they do not tell of every plan exactly once, with all of its candidates.
    """
    if [result.shard for result in results] != [plan.shard for plan in plans]:
        raise DltsError(
            f"the run gave results of {len(results)} shards where {len(plans)} were planned: run it again"
        )
    for plan, result in zip(plans, results, strict=True):
        accounted = result.samples + sum(len(entries) for entries in result.rejected.values())
        if accounted != plan.candidates:
            raise DltsError(
                f"shard {plan.shard} accounts for {accounted} of its {plan.candidates} candidates"
            )
    return results
