"""The layout of one sample record, on both sides: arrays to features when written, back when read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlts_beam.spec.samples import (
    FEATURE_BLOCK,
    FEATURE_CLASS,
    FEATURE_COL,
    FEATURE_DAYS,
    FEATURE_ID,
    FEATURE_KEPT,
    FEATURE_NUMBER,
    FEATURE_ROW,
    FEATURE_SERIES,
    FEATURE_VALID,
    FEATURE_X,
    FEATURE_Y,
    SamplesSpec,
)

# One feature of many records: int64 (N,), float32 (N,), uint8 (N, size) for bytes of one size, or N bytes.
Column = np.ndarray | list[bytes]
INT_FEATURES = (FEATURE_CLASS, FEATURE_COL, FEATURE_NUMBER, FEATURE_ROW)
FLOAT_FEATURES = (FEATURE_X, FEATURE_Y)


@dataclass(frozen=True)
class RecordLayout:
    """Shape and data type of the series in a record, and the attributes kept with it."""

    steps: int
    patch: int
    bands: int
    dtype: str
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: SamplesSpec) -> RecordLayout:
        """The layout of the records in a samples folder."""
        return cls(len(spec.steps), spec.patch, len(spec.bands), spec.dtype, spec.kept)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, P, P, B) of one sample."""
        return self.steps, self.patch, self.patch, self.bands

    @property
    def stored_dtype(self) -> np.dtype:
        """The little-endian data type of the stored series."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def nbytes(self) -> int:
        """Bytes of one stored series, its valid bits left out."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def feature_names(self) -> tuple[str, ...]:
        """All features of a record, sorted."""
        bytes_features = (FEATURE_SERIES, FEATURE_VALID, FEATURE_DAYS, FEATURE_ID, FEATURE_BLOCK)
        kept = tuple(FEATURE_KEPT + name for name in self.kept)
        return tuple(sorted(bytes_features + INT_FEATURES + FLOAT_FEATURES + kept))


@dataclass(frozen=True)
class SampleBatch:
    """N samples, ready to be encoded.

    Attributes:
        series: (N, T, P, P, B) stored values, 0 where not valid.
        valid: bool, same shape.
        days: float64 (N, T).
        class_id, row, col, feature: int64 (N,); feature is the number in the vector file, from 0.
        x, y: float64 (N,), the centre of the pixel.
        ids, blocks: N texts each.
        kept: per kept attribute N texts.
    """

    series: np.ndarray
    valid: np.ndarray
    days: np.ndarray
    class_id: np.ndarray
    row: np.ndarray
    col: np.ndarray
    feature: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ids: Sequence[str]
    blocks: Sequence[str]
    kept: Sequence[Sequence[str]] = ()

    def to_columns(self, layout: RecordLayout) -> dict[str, Column]:
        """The features of the batch by name.

        Raises:
            ValueError: the arrays do not have the shape or data type of the layout.
        """
        if self.series.shape[1:] != layout.shape or self.series.dtype != np.dtype(layout.dtype):
            raise ValueError(
                f"series must be {layout.shape} {layout.dtype};"
                f" got {self.series.shape[1:]} {self.series.dtype}"
            )
        columns: dict[str, Column] = {
            FEATURE_SERIES: _as_bytes(self.series, layout.stored_dtype),
            FEATURE_VALID: pack_valid(self.valid),
            FEATURE_DAYS: _as_bytes(self.days, np.dtype("<f8")),
            FEATURE_CLASS: self.class_id.astype(np.int64),
            FEATURE_ROW: self.row.astype(np.int64),
            FEATURE_COL: self.col.astype(np.int64),
            FEATURE_NUMBER: self.feature.astype(np.int64),
            FEATURE_X: self.x.astype(np.float32),
            FEATURE_Y: self.y.astype(np.float32),
            FEATURE_ID: [text.encode() for text in self.ids],
            FEATURE_BLOCK: [text.encode() for text in self.blocks],
        }
        for name, texts in zip(layout.kept, self.kept, strict=True):
            columns[FEATURE_KEPT + name] = [text.encode() for text in texts]
        return columns


def _as_bytes(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """uint8 (N, size): the little-endian bytes of each row of (N, ...)."""
    flat = np.ascontiguousarray(array, dtype).reshape(len(array), -1)
    return flat.view(np.uint8)


def pack_valid(valid: np.ndarray) -> np.ndarray:
    """uint8 (N, ceil(size / 8)): the bits of bool (N, ...), first one highest."""
    return np.packbits(valid.reshape(len(valid), -1), axis=1)


def unpack_valid(packed: Sequence[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Bool (N, *shape) from the bytes of N records: the inverse of `pack_valid`."""
    size = int(np.prod(shape))
    bits = np.frombuffer(b"".join(packed), np.uint8).reshape(len(packed), -(-size // 8))
    return np.unpackbits(bits, axis=1, count=size).reshape(len(packed), *shape).astype(bool)


def decode_series(series: Sequence[bytes], layout: RecordLayout) -> np.ndarray:
    """(N, T, P, P, B) in the stored data type, from the ``series`` bytes of N records."""
    flat = np.frombuffer(b"".join(series), layout.stored_dtype)
    return flat.reshape(len(series), *layout.shape).astype(layout.dtype)


def decode_days(days: Sequence[bytes], layout: RecordLayout) -> np.ndarray:
    """float64 (N, T), from the ``days`` bytes of N records."""
    return np.frombuffer(b"".join(days), "<f8").reshape(len(days), layout.steps).astype(np.float64)


def schema_text(layout: RecordLayout, classes: int) -> str:
    """``schema.pbtxt``: the features of a record as a TensorFlow Metadata schema in text form."""
    entries = []
    for name in layout.feature_names:
        kind = "INT" if name in INT_FEATURES else "FLOAT" if name in FLOAT_FEATURES else "BYTES"
        lines = [f'  name: "{_escape(name)}"', f"  type: {kind}"]
        if name == FEATURE_CLASS:
            lines.append(f"  int_domain {{\n    min: 0\n    max: {max(classes - 1, 0)}\n  }}")
        lines.append("  presence {\n    min_fraction: 1.0\n    min_count: 1\n  }")
        lines.append("  shape {\n    dim {\n      size: 1\n    }\n  }")
        entries.append("feature {\n" + "\n".join(lines) + "\n}\n")
    return "".join(entries)


def _escape(text: str) -> str:
    """A name inside the quotes of a text-format protobuf."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
