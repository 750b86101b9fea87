"""Statistics of samples per class, time step and band: exact moments, and quantiles from sketches.

They inform people; the normalisation of a model is the trainer's own. Parts are merged in a fixed order, so
the same shards give the same bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from dlts_beam.centres import Centres
from dlts_beam.spec.samples import SamplesSpec

STATISTICS_JSON = "statistics.json"
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
PARTS = 20  # a sketch gives the quantiles at k / 20
SKETCHED = 32_768  # samples that go into the sketches: beyond, the draw's error is below the sketch's own
EPSILON = 0.005  # error of a sketch's quantiles, as a share of the samples; small sets are exact
DIGITS = 7  # significant ones in the file, those of float32
BY_SKETCH = "tfx-bsl QuantilesSketch"
BY_NUMPY = "numpy, exactly, over an even draw of the samples"


@dataclass
class Moments:
    """Counts, means and sums of squared deviations, minima and maxima: arrays of one shape."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Moments:
        """Of no values."""
        zero = np.zeros(shape)
        return cls(np.zeros(shape, np.int64), zero, zero, np.full(shape, np.inf), np.full(shape, -np.inf))

    @classmethod
    def of(cls, values: np.ndarray, valid: np.ndarray) -> Moments:
        """Over the first axis of values (N, ...), where valid."""
        exact = values.astype(np.float64)
        count = valid.sum(axis=0)
        mean = exact.sum(axis=0, where=valid) / np.maximum(count, 1)
        squares = ((exact - mean) ** 2).sum(axis=0, where=valid)
        low = exact.min(axis=0, where=valid, initial=np.inf)
        return cls(count, mean, squares, low, exact.max(axis=0, where=valid, initial=-np.inf))

    def merge(self, other: Moments) -> Moments:
        """Of the values of both (Chan, Golub and LeVeque)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.count * share
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Moments(count, self.mean + apart * share, squares, low, high)

    def over(self, *axes: int) -> Moments:
        """Of all values along some axes together."""
        count = self.count.sum(axis=axes, keepdims=True)
        mean = (self.mean * self.count).sum(axis=axes, keepdims=True) / np.maximum(count, 1)
        squares = (self.squares + self.count * (self.mean - mean) ** 2).sum(axis=axes)
        low, high = self.low.min(axis=axes), self.high.max(axis=axes)
        return Moments(count.squeeze(axes), mean.squeeze(axes), squares, low, high)

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations (of the sample, n - 1); 0 where there are fewer than two values."""
        return np.sqrt(self.squares / np.maximum(self.count - 1, 1))


class Summary:
    """What is known of some samples; parts of them merge.

    Attributes:
        moments: of shape (K, T, B).
        sketches: one `QuantilesSketch` for each class, T x B streams; None where tfx-bsl is missing.
        sketched: bool (K, T, B): streams of the sketches that hold a value.
        drawn: an even draw, for neighbours (and for quantiles where there are no sketches).
    """

    def __init__(self, class_counts: Sequence[int], steps: int, bands: int) -> None:
        """Of no samples yet; ``class_counts`` says how many there are in all."""
        self.shape, self.samples = (len(class_counts), steps, bands), sum(class_counts)
        self.moments = Moments.none(self.shape)
        self.sketched = np.zeros(self.shape, bool)
        self.drawn: list[Centres] = []
        self.sketches: list[Any] | None = None
        if importlib.util.find_spec("tfx_bsl"):
            from tfx_bsl.sketches import QuantilesSketch

            most = [max(1, min(count, SKETCHED)) for count in class_counts]
            self.sketches = [QuantilesSketch(EPSILON, count, steps * bands) for count in most]

    def add(self, centres: Centres, draw: int) -> None:
        """Take samples in, about ``draw`` of all samples into ``drawn``."""
        sketched = centres.drawn(SKETCHED, self.samples)
        found = [Moments.none(self.shape[1:]) for _ in range(self.shape[0])]
        for class_id in np.unique(centres.class_id).tolist():
            own = centres.class_id == class_id
            found[class_id] = Moments.of(centres.values[own], centres.valid[own])
            if self.sketches is not None:
                self._sketch(class_id, centres, own & sketched)
        names = ("count", "mean", "squares", "low", "high")
        self.moments = self.moments.merge(
            Moments(*(np.stack([getattr(one, name) for one in found]) for name in names))
        )
        self.drawn.append(centres.take(centres.drawn(draw, self.samples)))

    def _sketch(self, class_id: int, centres: Centres, chosen: np.ndarray) -> None:
        import pyarrow as pa

        if self.sketches is not None and chosen.any():
            values, missing = centres.values[chosen].ravel(), ~centres.valid[chosen].ravel()
            self.sketched[class_id] |= centres.valid[chosen].any(axis=0)
            self.sketches[class_id].AddValues(pa.array(values.astype(np.float64), mask=missing))

    def merge(self, other: Summary) -> None:
        """Take in what another one knows."""
        self.moments = self.moments.merge(other.moments)
        self.drawn += other.drawn
        self.sketched |= other.sketched
        if self.sketches is not None and other.sketches is not None:
            for mine, theirs in zip(self.sketches, other.sketches, strict=True):
                mine.Merge(theirs)

    def compact(self) -> None:
        """Make it small before it travels."""
        for sketch in self.sketches or []:
            sketch.Compact()

    def references(self, most: int) -> Centres:
        """The ``most`` drawn samples with the lowest ids (digests), in their order."""
        drawn = Centres.concatenate(self.drawn)
        return drawn.take(np.argsort(drawn.ids, kind="stable")[:most])

    def quantiles(self) -> np.ndarray:
        """float64 (K, T, B, levels), NaN where nothing was observed."""
        out = np.full((*self.shape, len(LEVELS)), np.nan)
        drawn = Centres.concatenate(self.drawn)
        for class_id in range(self.shape[0]):
            if self.sketches is not None:
                places = [round(level * PARTS) for level in LEVELS]
                # One list for each stream that was given any value, in order.
                found = self.sketches[class_id].GetQuantiles(PARTS).to_pylist()
                out[class_id][self.sketched[class_id]] = np.reshape(found, (-1, PARTS + 1))[:, places]
            else:
                own = drawn.class_id == class_id
                out[class_id] = _quantiles(drawn.values[own], drawn.valid[own])
        out[self.moments.count == 0] = np.nan
        return out

    def to_table(self, spec: SamplesSpec) -> Table:
        """The figures as they are written."""
        by = BY_NUMPY if self.sketches is None else BY_SKETCH
        quantiles, sd = self.quantiles(), self.moments.sd
        classes = []
        for row, samples in zip(spec.classes.rows, spec.class_counts, strict=True):
            of_bands = [
                _figures(band.name, self.moments, sd, quantiles, (row.id, slice(None), number))
                for number, band in enumerate(spec.bands)
            ]
            classes.append(ClassFigures(row.name, row.value, samples, of_bands))
        return Table([step.label for step in spec.steps], list(LEVELS), by, classes)


class BandFigures(msgspec.Struct):
    """One class in one band: a list over time steps each; null where nothing was observed."""

    band: str
    count: list[int]
    mean: list[float | None]
    sd: list[float | None]
    min: list[float | None]
    max: list[float | None]
    quantiles: list[list[float | None]]


class ClassFigures(msgspec.Struct):
    """One class."""

    name: str
    value: int
    samples: int
    bands: list[BandFigures]


class Table(msgspec.Struct):
    """``statistics.json``: per class and band, per time step; values after scale and offset.

    ``quantiles`` holds one list per level; ``quantiles_by`` says how they were found.
    """

    steps: list[str]
    levels: list[float]
    quantiles_by: str
    classes: list[ClassFigures]
    version: int = 1

    def to_json(self) -> str:
        """As text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Table:
        """The inverse of `to_json`."""
        return msgspec.json.decode(text, type=cls)


def _figures(
    band: str, moments: Moments, sd: np.ndarray, quantiles: np.ndarray, at: tuple[Any, ...]
) -> BandFigures:
    count = moments.count[at]
    seen = count > 0
    return BandFigures(
        band=band,
        count=count.tolist(),
        mean=_rounded(moments.mean[at], seen),
        sd=_rounded(sd[at], seen),
        min=_rounded(moments.low[at], seen),
        max=_rounded(moments.high[at], seen),
        quantiles=[_rounded(level, seen) for level in quantiles[at].T],
    )


def _rounded(values: np.ndarray, seen: np.ndarray) -> list[float | None]:
    pairs: Sequence[tuple[float, bool]] = list(zip(values.tolist(), seen.tolist(), strict=True))
    return [float(f"{value:.{DIGITS}g}") if ok else None for value, ok in pairs]


def _quantiles(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """float64 (T, B, levels) of values (N, T, B): the lowest value that reaches each share."""
    ordered = np.sort(np.where(valid, values, np.inf).astype(np.float64), axis=0)
    count = valid.sum(axis=0)
    out = np.full((*values.shape[1:], len(LEVELS)), np.nan)
    if not len(values):
        return out
    for number, level in enumerate(LEVELS):
        place = np.clip(np.ceil(level * count).astype(np.int64) - 1, 0, len(values) - 1)
        out[..., number] = np.take_along_axis(ordered, place[None], axis=0)[0]
    return out
