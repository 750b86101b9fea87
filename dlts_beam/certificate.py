"""What a map is made of: content keys of tiles, the certificate of a map, the record of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Tile, Window
from dlts_beam.spec import NUMERICS_VERSION, ClassTable, JsonSpec, ModelSpec, SeriesSpec, Source, digest_of

CERTIFICATE = ".json"
RUN_RECORD = ".run.json"
PARTS = ".parts"


@dataclass(frozen=True)
class TileRecord:
    """One finished tile.

    Attributes:
        name: its position, ``r00000c00000``.
        window: its pixels on the grid.
        key: digest of all that decides its content.
        checksum: SHA-256 of its map values as raw bytes (empty for a quarantined tile).
        counts: classified pixels per class id.
        nodata: pixels without a class.
        probabilities: SHA-256 of its quantised probabilities, where they were asked for.
        quarantined: why there is no map here; its pixels are nodata.
    """

    name: str
    window: Window
    key: str
    checksum: str
    counts: tuple[int, ...]
    nodata: int
    probabilities: str | None = None
    quarantined: str | None = None

    @property
    def classified(self) -> int:
        """Pixels that got a class."""
        return sum(self.counts)

    @property
    def tile(self) -> Tile:
        """The tile by position."""
        return Tile(int(self.name[1:6]), int(self.name[7:12]), self.window)


@dataclass(frozen=True)
class Certificate(JsonSpec):
    """``<output>.json``: what the map holds, tile by tile. The same map has the same certificate.

    Attributes:
        grid: of the series and so of the map.
        tile_size: side of the tiles.
        series: fingerprint of the series (the interval that was classified).
        model: digest of the serving model's bytes.
        model_spec: digest of ``model.json``.
        engine, numerics_version: what computed it.
        classes, nodata, dtype: pixel values of the map.
        probability_levels: the number that stands for probability 1 in the probabilities raster.
        tiles: in the order of rows and columns; every tile of the grid.
        classified, nodata_pixels, quarantined_pixels: pixels in all; they sum to the grid.
        class_pixels: pixels per class name.
        files: SHA-256 of each raster file by name.
    """

    KIND: ClassVar[str] = "certificate"
    VERSION: ClassVar[int] = 1

    grid: Grid
    tile_size: int
    series: str
    model: str
    model_spec: str
    engine: str
    numerics_version: int
    classes: ClassTable
    nodata: int
    dtype: str
    probability_levels: int | None
    tiles: tuple[TileRecord, ...]
    classified: int
    nodata_pixels: int
    quarantined_pixels: int
    quarantined_tiles: int
    class_pixels: dict[str, int]
    files: dict[str, str]
    version: int = 1


@dataclass(frozen=True)
class RunRecord(JsonSpec):
    """``<output>.run.json``: what this run did.

    expected = written + reused + quarantined; ``outside`` counts the tiles without a wanted pixel, which
    nobody computes.
    """

    KIND: ClassVar[str] = "run record"
    VERSION: ClassVar[int] = 1

    expected: int
    written: int
    reused: int
    quarantined: int
    outside: int
    seconds: dict[str, float]
    started: str
    settings: dict[str, Any]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    quarantine: dict[str, str] = field(default_factory=dict)
    version: int = 1


class TileKeys:
    """Content keys of tiles: digests of grid, tile, inputs, reading, preparation, model, numerics version.

    Only the files that can touch a tile count, by fingerprint and place: paths do not, so a series
    that was moved keeps its keys.
    """

    def __init__(self, series: SeriesSpec, model: ModelSpec, digest: str, engine: str) -> None:
        """Prepare the part that all tiles share.

        Args:
            digest: of the bytes that the engine loads.
        """
        names = [band.name for band in series.bands]
        positions = [names.index(name) for name in model.preparation.bands]
        self._common = digest_of(
            {
                "grid": series.grid,
                "days": [step.time or step.number for step in series.steps],
                "bands": [series.bands[position] for position in positions],
                "reading": series.reading,
                "preparation": model.preparation,
                "serving": model.serving,
                "classes": [(row.id, row.value) for row in model.classes.rows],
                "model": digest,
                "engine": engine,
                "numerics": [NUMERICS_VERSION, model.numerics_version],
            }
        )
        masks = series.mask_sources
        # Of each time step, its bands and its mask: the numbers of the files, and the bands in them.
        self._layers = [
            [
                *(_columns(series.sources[step][position]) for position in positions),
                _columns(masks[step] if masks else ()),
            ]
            for step in range(len(series.steps))
        ]
        self._files = series.files
        boxes = [(file.row, file.col, file.row + file.height, file.col + file.width) for file in series.files]
        self._boxes = np.array(boxes, np.int64).reshape(-1, 4)
        rule = series.reading.mask
        self._reach = model.serving.halo + (rule.dilate if rule is not None else 0)
        self._inputs: dict[bytes, str] = {}
        self._rows: tuple[int, int] | None = None
        self._row_files = np.empty(0, np.int64)

    def key(self, tile: Tile, area: str | None = None) -> str:
        """SHA-256 (hex) for one tile; ``area`` is the digest of its wanted pixels, None for all."""
        return digest_of([self._common, tile.window, self._inputs_of(tile.window.grow(self._reach)), area])

    def _inputs_of(self, window: Window) -> str:
        touching = self._touching(window)
        # Most tiles are touched by the same files, so their digest is made once.
        known = self._inputs.get(touching.tobytes())
        if known is None:
            touched = np.zeros(len(self._files), bool)
            touched[touching] = True
            known = self._inputs[touching.tobytes()] = digest_of(
                [[self._touched(layer, touched) for layer in layers] for layers in self._layers]
            )
        return known

    def _touching(self, window: Window) -> np.ndarray:
        """Numbers of the files that touch a window, in order. Tiles come row by row, and so do the files."""
        boxes = self._boxes
        if self._rows != (window.row, window.height):
            rows = (boxes[:, 0] < window.row + window.height) & (boxes[:, 2] > window.row)
            self._rows, self._row_files = (window.row, window.height), np.flatnonzero(rows)
        boxes = boxes[self._row_files]
        return self._row_files[(boxes[:, 1] < window.col + window.width) & (boxes[:, 3] > window.col)]

    def _touched(self, layer: tuple[np.ndarray, np.ndarray], touched: np.ndarray) -> list[list[Any]]:
        files, indexes = layer
        chosen = touched[files]
        pairs = zip(files[chosen].tolist(), indexes[chosen].tolist(), strict=True)
        return [self._source(file, index) for file, index in pairs]

    def _source(self, number: int, index: int) -> list[Any]:
        return [*self._files[number].identity, index]


def _columns(sources: Sequence[Source]) -> tuple[np.ndarray, np.ndarray]:
    """int64 (n,): the files' numbers, and the bands in them."""
    pairs = np.array([(source.file, source.index) for source in sources], np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def make_certificate(
    *,
    series: SeriesSpec,
    model: ModelSpec,
    digest: str,
    engine: str,
    tile_size: int,
    tiles: Sequence[Tile],
    records: Iterable[TileRecord],
    probability_levels: int | None,
    files: dict[str, str],
) -> Certificate:
    """Check that every tile is there and its pixels add up, and certify it.

    Raises:
        DltsError: a tile is missing, is there twice with different content, or does not add up.
    """
    found: dict[str, TileRecord] = {}
    for record in records:
        if found.setdefault(record.name, record) != record:
            raise DltsError(
                f"tile {record.name} was made twice with different results: the map is not trusted"
            )
    missing = [tile.key for tile in tiles if tile.key not in found]
    if missing:
        raise DltsError(
            f"{len(missing)} of {len(tiles)} tiles are missing, first {missing[0]}: run the command again"
        )
    ordered = tuple(found[tile.key] for tile in tiles)
    for record in ordered:
        if record.window.pixels != record.classified + record.nodata:
            raise DltsError(f"the pixels of tile {record.name} do not add up: the map is not trusted")
    classes = model.classes
    counts = np.array([record.counts for record in ordered], np.int64).sum(axis=0)
    broken = [record for record in ordered if record.quarantined is not None]
    return Certificate(
        grid=series.grid,
        tile_size=tile_size,
        series=series.fingerprint(),
        model=digest,
        model_spec=model.digest(),
        engine=engine,
        numerics_version=NUMERICS_VERSION,
        classes=classes,
        nodata=classes.nodata,
        dtype=classes.map_dtype,
        probability_levels=probability_levels,
        tiles=ordered,
        classified=sum(record.classified for record in ordered),
        nodata_pixels=sum(record.nodata for record in ordered if record.quarantined is None),
        quarantined_pixels=sum(record.window.pixels for record in broken),
        quarantined_tiles=len(broken),
        class_pixels={name: int(count) for name, count in zip(classes.names, counts, strict=True)},
        files=files,
    )
