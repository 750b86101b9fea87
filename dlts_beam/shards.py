"""One shard of samples: read its windows, cut the patches, write the file. No Beam here."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dlts_beam import storage
from dlts_beam.accounts import FEW_VALID, UNREADABLE
from dlts_beam.grid import Grid, Window
from dlts_beam.intervals import MISSING, Cut
from dlts_beam.records import RecordLayout, SampleBatch
from dlts_beam.sampling import Candidates, ShardPlan, block_ids, centres, reach_of
from dlts_beam.spec.samples import sample_id, shard_name
from dlts_beam.tensors.preparation import count_observed
from dlts_beam.tfrecord import Encoder, frame, make_encoder

BATCH = 512  # samples cut and encoded at once
COMPRESSION = 1  # the series are noisy: higher levels cost three times the time for a few per cent

# Stored values (T, H, W, B) and valid of a window inside the grid; None where it cannot be read.
ReadWindow = Callable[[Window], tuple[np.ndarray, np.ndarray] | None]


@dataclass(frozen=True)
class ShardSettings:
    """What all shards of a run share.

    Attributes:
        folder: the samples folder.
        grid: the series' grid.
        layout: of the records.
        cuts: time cuts, as `Candidates.cut` counts them.
        classes: number of classes.
        min_valid: fewest observed time steps at the centre pixel of a sample.
        block_size: side of the spatial blocks in map units.
    """

    folder: str
    grid: Grid
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
        sha256: digest of the records, before compression.
        rejected: per reason (feature, row, col) of each candidate without a sample.
    """

    shard: int
    samples: int
    class_counts: tuple[int, ...]
    sha256: str
    rejected: dict[str, list[tuple[int, int, int]]]


def write_shard(plan: ShardPlan, settings: ShardSettings, read: ReadWindow) -> ShardResult:
    """Write one shard file, whole or not at all; the same plan gives the same bytes.

    Raises:
        DltsError: the file cannot be written; and whatever ``read`` raises.
    """
    encode = make_encoder()
    digest = hashlib.sha256()
    counts = np.zeros(settings.classes, np.int64)
    rejected: dict[str, list[tuple[int, int, int]]] = {}
    path = storage.join(settings.folder, shard_name(plan.shard, plan.shards))
    # No name and no time in the header: the bytes depend on the records alone.
    with (
        storage.open_atomic(path) as file,
        gzip.GzipFile("", "wb", COMPRESSION, file, mtime=0) as packed,
    ):
        for batch in _iter_batches(plan, settings, read, rejected):
            data = b"".join([frame(record) for record in _encode(batch, settings.layout, encode)])
            digest.update(data)
            packed.write(data)
            counts += np.bincount(batch.class_id, minlength=settings.classes)
    return ShardResult(plan.shard, int(counts.sum()), tuple(counts.tolist()), digest.hexdigest(), rejected)


def _encode(batch: SampleBatch, layout: RecordLayout, encode: Encoder) -> list[bytes]:
    return encode(batch.to_columns(layout))


def _iter_batches(
    plan: ShardPlan,
    settings: ShardSettings,
    read: ReadWindow,
    rejected: dict[str, list[tuple[int, int, int]]],
) -> Iterator[SampleBatch]:
    """Samples of a shard in order, at most ``BATCH`` at once; ``rejected`` takes the rest."""
    patch = settings.layout.patch
    steps = np.array([cut.steps for cut in settings.cuts], np.int64)
    for _, start, stop in plan.windows:
        points = plan.points.take(np.arange(start, stop))
        reach = reach_of(points, patch, settings.grid)
        cube = read(reach)
        if cube is None:
            _enter(rejected, UNREADABLE, points)
            continue
        stored, valid = cube
        enough = _observed(valid, reach, points, steps) >= settings.min_valid
        _enter(rejected, FEW_VALID, points.take(~enough))
        wanted = np.flatnonzero(enough)
        for begin in range(0, len(wanted), BATCH):
            index = wanted[begin : begin + BATCH]
            chosen = points.take(index)
            series, usable = cut_patches(stored, valid, reach, chosen, steps, patch)
            kept = [[column[start + at] for at in index.tolist()] for column in plan.kept]
            yield _batch(chosen, series, usable, kept, settings)


def _enter(rejected: dict[str, list[tuple[int, int, int]]], reason: str, points: Candidates) -> None:
    if len(points):
        rows = zip(points.feature.tolist(), points.row.tolist(), points.col.tolist(), strict=True)
        rejected.setdefault(reason, []).extend(rows)


def _observed(valid: np.ndarray, reach: Window, points: Candidates, steps: np.ndarray) -> np.ndarray:
    """int (N,): observed time steps at each point, within its cut."""
    pixels: np.ndarray = valid[:, points.row - reach.row, points.col - reach.col]  # (T, N, B)
    if len(steps) == 1:
        return count_observed(pixels[steps[0]])
    nothing = np.zeros((1, len(points)), bool)  # what slots without a time step (-1) point at
    observed = np.concatenate([pixels.any(axis=2), nothing])
    return observed[steps[points.cut].T, np.arange(len(points))].sum(axis=0)


def cut_patches(
    stored: np.ndarray,
    valid: np.ndarray,
    reach: Window,
    points: Candidates,
    steps: np.ndarray,
    patch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the patch series of points out of a window.

    Args:
        stored, valid: (T, H, W, B) of the window ``reach``.
        reach: holds every patch, as far as the grid goes.
        points: N candidates.
        steps: int64 (cuts, T'), the time step of each slot, -1 for none.
        patch: side of the patch.

    Returns:
        stored and valid (N, T', P, P, B); outside the window and where a slot has no time step: 0, not valid.
    """
    offsets = np.arange(patch) - patch // 2
    rows = points.row[:, None] - reach.row + offsets
    cols = points.col[:, None] - reach.col + offsets
    at_rows, at_cols = np.clip(rows, 0, reach.height - 1), np.clip(cols, 0, reach.width - 1)
    at_steps = steps[points.cut]
    index = (at_steps[:, :, None, None], at_rows[:, None, :, None], at_cols[:, None, None, :])
    series, usable = stored[index], valid[index]
    outside = ((rows != at_rows)[:, :, None] | (cols != at_cols)[:, None, :])[:, None]
    absent = outside | (at_steps == MISSING)[:, :, None, None]
    if absent.any():
        series[absent], usable[absent] = 0, False
    return series, usable


def _batch(
    points: Candidates,
    series: np.ndarray,
    valid: np.ndarray,
    kept: Sequence[Sequence[str]],
    settings: ShardSettings,
) -> SampleBatch:
    x, y = centres(settings.grid, points.row, points.col)
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
