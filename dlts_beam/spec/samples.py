"""``samples.json`` and the features of one sample record: what step 2 writes and the trainer reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

from dlts_beam.grid import Grid
from dlts_beam.spec.classes import ClassTable
from dlts_beam.spec.codec import JsonSpec
from dlts_beam.spec.series import Band, TimeStep

# Features of one tf.train.Example. Arrays are raw little-endian bytes: ``series`` in the sample
# dtype with shape (T, P, P, B), ``valid`` as packed bits (numpy.packbits, big bit order) of the
# same shape, ``days`` as float64 (T,).
FEATURE_SERIES = "series"
FEATURE_VALID = "valid"
FEATURE_DAYS = "days"
FEATURE_CLASS = "class_id"
FEATURE_ID = "id"
FEATURE_ROW = "row"
FEATURE_COL = "col"
FEATURE_X = "x"
FEATURE_Y = "y"
FEATURE_BLOCK = "block"
FEATURE_NUMBER = "feature"  # number of the feature in the vector file, from 0: keeps a polygon together
FEATURE_KEPT = "kept/"  # + attribute name: bytes (text)

SAMPLES_JSON = "samples.json"
CLASSES_CSV = "classes.csv"
REJECTED_CSV = "rejected.csv"
SCHEMA_PBTXT = "schema.pbtxt"


def shard_name(shard: int, shards: int) -> str:
    """File name of one shard, Beam's and TensorFlow's usual form."""
    return f"samples-{shard:05d}-of-{shards:05d}.tfrecord.gz"


def sample_id(x: float, y: float, interval: tuple[str, str] | None = None) -> str:
    """Stable identity of a sample: its pixel's centre in map units and its time interval.

    The same pixel of the same grid has the same id whatever the extent of the series; 16 hex
    digits of a SHA-256 (64 bits: a clash among a million samples has a chance of 3e-8).
    """
    # Six decimals tell 10 m pixels of a grid in degrees apart, and are coarser than the rounding
    # errors of metres; adding 0.0 makes -0.0 and 0.0 one place.
    text = f"{round(x, 6) + 0.0:.6f},{round(y, 6) + 0.0:.6f}"
    if interval is not None:
        text += f",{interval[0]},{interval[1]}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Ledger:
    """In = used + rejected (per reason). Features of the vector file, or candidate pixels.

    Raises:
        ValueError: the sums differ: something was lost.
    """

    total: int
    used: int
    rejected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.total != self.used + sum(self.rejected.values()):
            raise ValueError(f"{self.total} in, but {self.used} used and {self.rejected} rejected")


@dataclass(frozen=True)
class SamplesSpec(JsonSpec):
    """All that the trainer must know of a samples folder.

    Attributes:
        series: fingerprint of the series the samples were cut from.
        grid: its grid (patch positions outside it are known from row and col).
        steps: the nominal time steps; each sample carries its own days.
        dtype: data type of the stored series (the bands' common one).
        bands: as in the series; values are stored raw: scale and offset are still to be applied.
        patch: odd side of the patch in pixels.
        classes: ids, values, names, colours.
        class_counts: samples per class id.
        shards: number of TFRecord files.
        samples: number of records in all.
        block_size: side of the spatial blocks in map units.
        kept: names of the attributes that travel with each sample.
        interval: True where every sample has its own interval of a longer series.
        shards_sha256: digest of each shard file, in order; none in folders of before it was kept.
        features, candidates: the two ledgers.
    """

    KIND: ClassVar[str] = "samples spec"
    VERSION: ClassVar[int] = 1

    series: str
    grid: Grid
    steps: tuple[TimeStep, ...]
    bands: tuple[Band, ...]
    dtype: str
    patch: int
    classes: ClassTable
    class_counts: tuple[int, ...]
    shards: int
    samples: int
    block_size: float
    features: Ledger
    candidates: Ledger
    kept: tuple[str, ...] = ()
    interval: bool = False
    shards_sha256: tuple[str, ...] = ()
    version: int = 1

    def __post_init__(self) -> None:
        if self.patch < 1 or self.patch % 2 == 0:
            raise ValueError(f"patch must be odd, so that a pixel sits in the middle; got {self.patch}")
        if len(self.class_counts) != len(self.classes):
            raise ValueError(f"class_counts must name every class; got {len(self.class_counts)}")
        if sum(self.class_counts) != self.samples:
            raise ValueError(f"class_counts {self.class_counts} do not sum to the {self.samples} samples")
        if self.shards_sha256 and len(self.shards_sha256) != self.shards:
            found = len(self.shards_sha256)
            raise ValueError(f"shards_sha256 must have one for each of {self.shards}; got {found}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, P, P, B) of one sample."""
        return len(self.steps), self.patch, self.patch, len(self.bands)
