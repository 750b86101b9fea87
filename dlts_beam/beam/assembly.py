"""Round the fused stage: which tiles are reused, where records gather, how a map is published."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import apache_beam as beam
import msgspec
import numpy as np

from dlts_beam import storage
from dlts_beam.beam.stage import TileTask
from dlts_beam.beam.write_tiles import NO_PROBABILITY
from dlts_beam.certificate import CERTIFICATE, PARTS, Certificate, TileRecord, make_certificate
from dlts_beam.errors import DltsError
from dlts_beam.grid import iter_tiles
from dlts_beam.io.raster.assemble import AUX, Mosaic, assemble
from dlts_beam.io.raster.parts import (
    Part,
    checksum,
    part_name,
    read_part,
    read_values,
    write_part,
)
from dlts_beam.model_folder import SavedModel
from dlts_beam.postprocess import LEVELS
from dlts_beam.retry import retried
from dlts_beam.spec import NUMERICS_VERSION, SeriesSpec

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

RECORDS = "records.json"
THREADS = 8


@dataclass(frozen=True)
class MapJob:
    """One map: what it is made of and where it goes.

    Attributes:
        digest: of the bytes that the engine loads.
        tasks: every tile with a wanted pixel, in order, with its key.
        outside: records of the tiles without one.
        probabilities: also write their raster.
    """

    series: SeriesSpec
    model: SavedModel
    digest: str
    engine: str
    tile_size: int
    tasks: tuple[TileTask, ...]
    output: str
    outside: tuple[TileRecord, ...] = ()
    probabilities: bool = False

    @property
    def parts(self) -> str:
        """Folder of the tiles' files while the map is not finished."""
        return self.output + PARTS

    @property
    def certificate(self) -> str:
        """Path of the certificate."""
        return self.output + CERTIFICATE

    @property
    def probabilities_output(self) -> str:
        """``map.probabilities.tif`` for ``map.tif``."""
        stem, dot, extension = self.output.rpartition(".")
        return f"{stem}.probabilities{dot}{extension}"

    @property
    def mosaics(self) -> dict[str, Mosaic]:
        """The rasters to assemble, by path; the class map comes last."""
        grid, classes = self.series.grid, self.model.spec.classes
        rasters = {self.output: Mosaic.of_map(grid, classes)}
        if self.probabilities:
            chances = Mosaic.of_probabilities(grid, classes, int(NO_PROBABILITY))
            rasters = {self.probabilities_output: chances, **rasters}
        return rasters

    @property
    def keys(self) -> dict[str, str]:
        """The key of every tile of the grid, by its name."""
        inside = {task.tile.key: task.key for task in self.tasks}
        return inside | {record.name: record.key for record in self.outside}

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Hold the rasters while the body runs; raises `DltsError` where another run holds one.

        Gives a function that raises where another has taken one meanwhile; see `dlts_beam.storage.exclusive`.
        """
        with ExitStack() as locks:
            held = [locks.enter_context(storage.exclusive(path + ".lock", path)) for path in self.mosaics]

            def check() -> None:
                for still_held in held:
                    still_held()

            yield check

    def certify(self, records: Iterable[TileRecord], files: dict[str, str]) -> Certificate:
        """The certificate of these tiles; see `make_certificate`."""
        return make_certificate(
            series=self.series,
            model=self.model.spec,
            digest=self.digest,
            engine=self.engine,
            tile_size=self.tile_size,
            tiles=list(iter_tiles(self.series.grid.height, self.series.grid.width, self.tile_size)),
            records=records,
            probability_levels=LEVELS if self.probabilities else None,
            files=files,
        )


class GatherRecords(beam.PTransform):
    """TileRecord -> one JSON file with all of them, in the folder of the parts."""

    def __init__(self, parts: str) -> None:
        super().__init__()
        self._parts = parts

    def expand(self, records: beam.PCollection[TileRecord]) -> beam.PCollection[None]:
        return (
            records
            | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Keep" >> beam.Map(_keep_records, self._parts)
        )


def _keep_records(records: list[TileRecord], parts: str) -> None:
    ordered = sorted(records, key=lambda record: record.name)
    storage.write_bytes(storage.join(parts, RECORDS), msgspec.json.encode(ordered))


def take_records(parts: str) -> list[TileRecord]:
    """The records that the pipeline gathered; the file goes, so that no later run takes them for its own."""
    path = storage.join(parts, RECORDS)
    records = msgspec.json.decode(storage.read_bytes(path), type=list[TileRecord])
    storage.remove(path)
    return records


def finished_certificate(job: MapJob) -> Certificate | None:
    """The certificate of a map that stands complete and undamaged under the job's name; None otherwise."""
    old = _old_certificate(job)
    if old is None or old.quarantined_tiles or _digests(job) != old.files:
        return None
    if {record.name: record.key for record in old.tiles} != job.keys:
        return None
    return old if job.certify(old.tiles, old.files).to_json() == old.to_json() else None


def reuse_tiles(job: MapJob) -> list[TileRecord]:
    """Records of the tiles that need not be computed: verified parts, or verified pixels of an older map.

    Tiles of an older map become parts again, since the map is assembled from parts.
    """
    old = _old_certificate(job)
    known = {record.name: record for record in old.tiles} if old is not None else {}
    # One listing in place of a question for each tile: a request each, on gs://.
    there = {storage.name(entry.path) for entry in storage.list_files(job.parts)}

    def reuse(task: TileTask) -> TileRecord | None:
        record = None
        if part_name(task.tile) in there:
            record = retried(lambda: read_part(job.parts, task.tile, task.key, job.probabilities))
        if record is None:
            record = known.get(task.tile.key)
            if record is None or record.key != task.key or not _restore(job, record):
                return None
        return record if job.probabilities else replace(record, probabilities=None)

    return [record for record in in_threads(reuse, job.tasks) if record is not None]


def publish(job: MapJob, records: Sequence[TileRecord], check_locks: Callable[[], None]) -> Certificate:
    """Assemble the rasters, then write the certificate; a kill in between leaves the parts to go on from.

    The certificate vouches for what was built here, never for what lies under the names meanwhile.

    Args:
        records: of all tasks.
        check_locks: what `MapJob.locked` gave; called before each thing that cannot be undone.

    Raises:
        DltsError: tiles are missing, something cannot be written, or another run has taken a lock.
    """
    everything = [*records, *job.outside]
    job.certify(everything, {})  # before anything is replaced

    def withdraw() -> None:
        """An older map's certificate must not stand beside pixels of this one, nor its probabilities."""
        _remove_stale_probabilities(job, everything)
        storage.remove(job.certificate)

    digests: dict[str, str] = {}
    for path, mosaic in job.mosaics.items():
        build = partial(assemble, job.parts, mosaic, records, path, when_built=withdraw, check=check_locks)
        digests |= retried(build)
    certificate = job.certify(everything, digests)

    def certify() -> None:
        check_locks()
        storage.write_text(job.certificate, certificate.to_json())

    retried(certify)
    return certificate


def _remove_stale_probabilities(job: MapJob, records: Sequence[TileRecord]) -> None:
    """Those of an older run under this name go where this run writes none and its map is another.

    Args:
        records: of all tiles, those outside the area too.
    """
    old, output = _old_certificate(job), job.probabilities_output
    if job.probabilities or old is None or not storage.exists(output) or _same_map(job, old, records):
        return
    if old.probability_levels is None:
        # Of a run before that one, or the user's: nothing tells.
        told = f"{output} was there before and is not of this map"
    else:
        told = f"removed {output}, which belongs to the map that {job.output} was before"
        for path in (output, output + AUX):
            storage.remove(path)
    print(f"note: {told}; add --probabilities to have it of this map", file=sys.stderr, flush=True)


def _same_map(job: MapJob, old: Certificate, records: Sequence[TileRecord]) -> bool:
    """Whether an older map, which still stands, is made of the same and has the same pixels, however cut."""
    if {record.name: record.key for record in old.tiles} == job.keys:
        return True
    made = (job.series.grid, job.series.fingerprint(), job.digest, job.model.spec.digest(), job.engine)
    if made != (old.grid, old.series, old.model, old.model_spec, old.engine):
        return False
    return old.numerics_version == NUMERICS_VERSION and all(in_threads(partial(_has_tile, job), records))


def _has_tile(job: MapJob, record: TileRecord) -> bool:
    """Whether the pixels of a tile stand already under the map's name."""
    try:
        values = read_values(job.output, record.tile)[0]
    except DltsError:
        return False
    if record.quarantined is not None:
        return bool((values == job.model.spec.classes.nodata).all())
    return checksum(values) == record.checksum


def _restore(job: MapJob, record: TileRecord) -> bool:
    """Write a tile's part from an older map, if its pixels are still those of the certificate."""
    if record.quarantined is not None:
        return False
    chances = None
    try:
        values = read_values(job.output, record.tile)[0]
        if checksum(values) != record.checksum:
            return False
        if job.probabilities:
            chances = np.moveaxis(read_values(job.probabilities_output, record.tile), 0, -1)
            if checksum(chances) != record.probabilities:
                return False
    except DltsError:
        return False  # the older map is gone or damaged: the tile is computed
    nodata = job.model.spec.classes.nodata
    write_part(job.parts, record, Part(values, chances), job.series.grid, nodata)
    return True


def _old_certificate(job: MapJob) -> Certificate | None:
    if not storage.exists(job.certificate) or not storage.exists(job.output):
        return None
    try:
        return Certificate.from_json(storage.read_bytes(job.certificate), job.certificate)
    except DltsError:
        return None  # of another version, or damaged: nothing is reused from that map


def _digests(job: MapJob) -> dict[str, str]:
    """SHA-256 of each raster and its side file, by name."""
    digests = {}
    for path in job.mosaics:
        for name in (path, path + AUX):
            if storage.exists(name):
                digests[storage.name(name)] = storage.digest(name)
    return digests


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Results in order, a few items at once: for work that waits for a disk or a network."""
    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(work, items)
