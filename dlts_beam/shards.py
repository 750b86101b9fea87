"""One shard of samples: read its windows, cut the patches, write the file. No Beam here."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from dlts_beam import storage
from dlts_beam.accounts import FEW_VALID, UNREADABLE
from dlts_beam.grid import Window
from dlts_beam.intervals import MISSING, Cut
from dlts_beam.records import RecordLayout, SampleBatch
from dlts_beam.sampling import Candidates, ShardPlan, Tiling, Touched, block_ids, centres
from dlts_beam.spec.samples import sample_id, shard_name
from dlts_beam.tfrecord import encode_records, frame

BATCH = 512  # samples cut and encoded at once
COMPRESSION = 1  # the series are noisy: higher levels cost three times the time for a few per cent

# From a window in the grid and M flat positions in it (row by row) to stored values (M, T, B) and valid;
# None where the window cannot be read.
ReadPixels = Callable[[Window, np.ndarray], tuple[np.ndarray, np.ndarray] | None]
Rejections = dict[str, list[tuple[int, int, int]]]


@dataclass(frozen=True)
class ShardSettings:
    """What all shards of a run share.

    Attributes:
        folder: the samples folder.
        tiling: windows of the series' grid.
        layout: of the records.
        cuts: time cuts, as `Candidates.cut` counts them.
        classes: number of classes.
        min_valid: fewest observed time steps at the centre pixel of a sample.
        block_size: side of the spatial blocks in map units.
    """

    folder: str
    tiling: Tiling
    layout: RecordLayout
    cuts: tuple[Cut, ...]
    classes: int
    min_valid: int
    block_size: float


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard's candidates.

    Attributes:
        shard: its number.
        samples: records written.
        class_counts: of the records, by class id.
        sha256: digest of the shard file.
        rejected: per reason (feature, row, col) of each candidate without a sample.
    """

    shard: int
    samples: int
    class_counts: tuple[int, ...]
    sha256: str
    rejected: Rejections


def write_shard(plan: ShardPlan, settings: ShardSettings, read: ReadPixels) -> ShardResult:
    """Write one shard file, whole or not at all; the same plan gives the same bytes.

    Raises:
        DltsError: the file cannot be written; and whatever ``read`` raises.
    """
    counts = np.zeros(settings.classes, np.int64)
    rejected: Rejections = {}
    path = storage.join(settings.folder, shard_name(plan.shard, plan.shards))
    with storage.open_atomic(path) as file:
        digested = _Digested(file)
        # No name and no time in the header: the bytes depend on the records alone.
        with gzip.GzipFile("", "wb", COMPRESSION, digested, mtime=0) as packed:
            for batch in _iter_batches(plan, settings, read, rejected):
                columns = batch.to_columns(settings.layout)
                packed.write(b"".join([frame(record) for record in encode_records(columns)]))
                counts += np.bincount(batch.class_id, minlength=settings.classes)
    sha256 = digested.sha256.hexdigest()
    return ShardResult(plan.shard, int(counts.sum()), tuple(counts.tolist()), sha256, rejected)


class _Digested:
    """A file to write to, with the digest of all that was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and digest."""
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand on what the file holds back."""
        self._file.flush()


def _iter_batches(
    plan: ShardPlan, settings: ShardSettings, read: ReadPixels, rejected: Rejections
) -> Iterator[SampleBatch]:
    """Samples of a shard in order, about ``BATCH`` at once; ``rejected`` takes the rest.

    Each window is read once. Patches that touch several windows wait, half done, until the last of them.
    Windows with few samples share a batch: encoding ten costs nearly as much as encoding a hundred.
    """
    points, middle = plan.points, settings.layout.patch // 2
    steps = np.array([cut.steps for cut in settings.cuts], np.int64)
    waiting = Waiting(len(points), settings.layout)
    unreadable = np.zeros(len(points), bool)
    held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for touched in settings.tiling.touched(points):
        places = PatchPlaces.of(points, touched, settings.layout.patch)
        cube = read(touched.window, places.wanted)
        if cube is None:
            unreadable[touched.members] = True
            cube = places.nothing(int(steps.max()) + 1, settings.layout)
        complete = (touched.members >= touched.start) & (touched.members < touched.stop)
        for index in _chunks(np.flatnonzero(~complete)):
            members = touched.members[index]
            waiting.add(members, *cut_patches(*cube, places, index, steps[points.cut[members]]))
        for index in _chunks(np.flatnonzero(complete)):
            members = touched.members[index]
            series, valid = cut_patches(*cube, places, index, steps[points.cut[members]])
            waiting.merge(members, series, valid)
            observed = valid[:, :, middle, middle].any(axis=2).sum(axis=1)
            lost = unreadable[members]
            few = ~lost & (observed < settings.min_valid)
            _enter(rejected, UNREADABLE, points.take(members[lost]))
            _enter(rejected, FEW_VALID, points.take(members[few]))
            good = ~lost & ~few
            held.append((members[good], series[good], valid[good]))
            if sum(len(part[0]) for part in held) >= BATCH:
                yield _batch(plan, held, settings)
                held = []
    if any(len(part[0]) for part in held):
        yield _batch(plan, held, settings)


def _chunks(index: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(index), BATCH):
        yield index[begin : begin + BATCH]


def _enter(rejected: Rejections, reason: str, points: Candidates) -> None:
    if len(points):
        rows = zip(points.feature.tolist(), points.row.tolist(), points.col.tolist(), strict=True)
        rejected.setdefault(reason, []).extend(rows)


@dataclass(frozen=True)
class PatchPlaces:
    """Where the pixels of some patches stand among the wanted pixels of a window.

    Attributes:
        wanted: int64 (M,), ascending flat positions in the window of the pixels that any patch needs.
        at: int64 (n, P, P), positions in ``wanted``; any where ``inside`` is False.
        inside: bool (n, P, P), True where the pixel of the patch lies in the window.
    """

    wanted: np.ndarray
    at: np.ndarray
    inside: np.ndarray

    @classmethod
    def of(cls, points: Candidates, touched: Touched, patch: int) -> PatchPlaces:
        """The places for the members of a window."""
        window, offsets = touched.window, np.arange(patch) - patch // 2
        rows = points.row[touched.members][:, None] - window.row + offsets
        cols = points.col[touched.members][:, None] - window.col + offsets
        row_inside, col_inside = (rows >= 0) & (rows < window.height), (cols >= 0) & (cols < window.width)
        inside = row_inside[:, :, None] & col_inside[:, None, :]
        flat = rows[:, :, None] * window.width + cols[:, None, :]
        needed = np.zeros(window.pixels, bool)
        needed[flat[inside]] = True
        number = np.cumsum(needed) - 1
        return cls(np.flatnonzero(needed), number[np.where(inside, flat, 0)].clip(0), inside)

    def nothing(self, steps: int, layout: RecordLayout) -> tuple[np.ndarray, np.ndarray]:
        """A cube without any valid value, for a window that could not be read."""
        shape = (len(self.wanted), steps, layout.bands)
        return np.zeros(shape, layout.dtype), np.zeros(shape, bool)


def cut_patches(
    stored: np.ndarray, valid: np.ndarray, places: PatchPlaces, index: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut patch series out of the wanted pixels of a window.

    Args:
        stored, valid: (M, T, B) of the wanted pixels.
        places: of all patches of the window.
        index: int64 (n,), which of them to cut.
        steps: int64 (n, T'), the time step of each slot, -1 for none.

    Returns:
        stored and valid (n, T', P, P, B); outside the window and where a slot has no time step: 0, not valid.
    """
    at, inside = places.at[index], places.inside[index]
    series, usable = (_cut(cube, at, steps) for cube in (stored, valid))
    absent = ~inside[:, None] | (steps == MISSING)[:, :, None, None]
    if absent.any():
        series[absent], usable[absent] = 0, False
    return series, usable


def _cut(cube: np.ndarray, at: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n, T', P, P, B) out of (M, T, B): whole series are copied, time steps are picked from the copies."""
    picked = np.take(cube, at, axis=0)
    if steps.shape[1] != cube.shape[1] or (steps != np.arange(cube.shape[1])).any():
        picked = np.take_along_axis(picked, steps[:, None, None, :, None], axis=3)
    return np.ascontiguousarray(np.moveaxis(picked, 3, 1))


class Waiting:
    """Patches that touch several windows, while some of these are still to be read."""

    def __init__(self, members: int, layout: RecordLayout) -> None:
        self._slot = np.full(members, -1, np.int64)
        self._free: list[int] = []
        self._series = np.zeros((0, *layout.shape), layout.dtype)
        self._valid = np.zeros((0, *layout.shape), bool)

    def add(self, members: np.ndarray, series: np.ndarray, valid: np.ndarray) -> None:
        """Add what one window gives: (n, T, P, P, B), 0 and not valid where it gives nothing."""
        new = members[self._slot[members] < 0]
        self._grow(len(new) - len(self._free))
        self._slot[new] = [self._free.pop() for _ in range(len(new))]
        slots = self._slot[members]
        # Windows do not overlap: what one of them gives, no other does.
        self._series[slots] += series
        self._valid[slots] |= valid

    def merge(self, members: np.ndarray, series: np.ndarray, valid: np.ndarray) -> None:
        """Complete, in place, what the last window gives by what the others gave before."""
        index = np.flatnonzero(self._slot[members] >= 0)
        slots = self._slot[members[index]]
        series[index] += self._series[slots]
        valid[index] |= self._valid[slots]
        self._series[slots], self._valid[slots] = 0, False
        self._free.extend(slots.tolist())
        self._slot[members[index]] = -1

    def _grow(self, more: int) -> None:
        if more <= 0:
            return
        more = max(more, len(self._series))
        self._free.extend(range(len(self._series) + more - 1, len(self._series) - 1, -1))
        for name in ("_series", "_valid"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros((more, *old.shape[1:]), old.dtype)]))


def _batch(
    plan: ShardPlan, held: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], settings: ShardSettings
) -> SampleBatch:
    """One batch of parts, each the positions of candidates, their series and what of these is valid."""
    chosen, series, valid = (np.concatenate(column) for column in zip(*held, strict=True))
    kept = [[column[at] for at in chosen.tolist()] for column in plan.kept]
    points = plan.points.take(chosen)
    x, y = centres(settings.tiling.grid, points.row, points.col)
    intervals = [settings.cuts[cut].interval for cut in points.cut.tolist()]
    ids = [sample_id(*place) for place in zip(x.tolist(), y.tolist(), intervals, strict=True)]
    days = np.array([cut.days for cut in settings.cuts], np.float64)[points.cut]
    return SampleBatch(
        series=series,
        valid=valid,
        days=days,
        class_id=points.class_id,
        row=points.row,
        col=points.col,
        feature=points.feature,
        x=x,
        y=y,
        ids=ids,
        blocks=block_ids(x, y, settings.block_size),
        kept=kept,
    )
