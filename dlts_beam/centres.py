"""The series of samples' centre pixels, read back from the TFRecords that step 2 has written."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from dlts_beam.records import RecordLayout, decode_days, decode_series, schema_text, unpack_valid
from dlts_beam.spec import samples as names
from dlts_beam.spec.samples import SamplesSpec
from dlts_beam.spec.series import Reading
from dlts_beam.tensors.reading import apply_reading
from dlts_beam.tfrecord import parse_example, read_records

BATCH = 2048  # records decoded at once
_BYTES = (names.FEATURE_SERIES, names.FEATURE_VALID, names.FEATURE_DAYS, names.FEATURE_ID)
_INTS = (names.FEATURE_CLASS, names.FEATURE_NUMBER, names.FEATURE_ROW, names.FEATURE_COL)
# N records to their features: N bytes, or int64 (N,).
Decode = Callable[[Sequence[bytes]], dict[str, Any]]


@dataclass(frozen=True)
class Centres:
    """N samples at their centre pixels.

    Attributes:
        ids: bytes (N,), 16 hex digits each.
        class_id, feature, row, col: int64 (N,); feature is the number in the vector file.
        values: float32 (N, T, B), scale and offset applied, 0 where not valid.
        valid: bool, same shape.
        days: float64 (N, T).
    """

    ids: np.ndarray
    class_id: np.ndarray
    feature: np.ndarray
    row: np.ndarray
    col: np.ndarray
    values: np.ndarray
    valid: np.ndarray
    days: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: np.ndarray) -> Centres:
        """Those at the given positions (or where a bool array is True)."""
        return Centres(*(getattr(self, field.name)[index] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Centres]) -> Centres:
        """One after the other; there must be at least one."""
        return cls(*(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls)))

    def to_bytes(self) -> bytes:
        """As the bytes of an npz file."""
        content = io.BytesIO()
        np.savez(content, **{field.name: getattr(self, field.name) for field in fields(self)})
        return content.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Centres:
        """The inverse of `to_bytes`."""
        with np.load(io.BytesIO(data)) as content:
            return cls(**{field.name: content[field.name] for field in fields(cls)})

    def drawn(self, wanted: int, of: int) -> np.ndarray:
        """Bool (N,): an even draw of about ``wanted`` out of ``of`` samples, all of them where that suffices.

        The ids are digests, so those below a bound are a fair draw, the same on any shard layout.
        """
        if wanted >= of:
            return np.ones(len(self), bool)
        bound = f"{min(2**64 - 1, 2**64 * wanted // of):016x}".encode()
        return self.ids <= np.bytes_(bound)


def iter_centres(path: str, spec: SamplesSpec, decode: Decode | None = None) -> Iterator[Centres]:
    """The samples of one shard file in its order, at most ``BATCH`` at once.

    Args:
        path: the TFRecord file.
        spec: of the samples.
        decode: `decode_with_tfx_bsl` or `decode_plain`; None takes the first where it is installed.

    Raises:
        DltsError: the file is cut off or damaged.
    """
    layout, middle = RecordLayout.of(spec), spec.patch // 2
    decode = decode or default_decode(layout, len(spec.classes))
    stream = read_records(path)
    while records := list(islice(stream, BATCH)):
        found = decode(records)
        stored = decode_series(found[names.FEATURE_SERIES], layout)[:, :, middle, middle]
        valid = unpack_valid(found[names.FEATURE_VALID], layout.shape)[:, :, middle, middle]
        values, valid = apply_reading(np.ascontiguousarray(stored), valid, spec.bands, Reading())
        yield Centres(
            ids=np.array(found[names.FEATURE_ID], "S16"),
            class_id=found[names.FEATURE_CLASS],
            feature=found[names.FEATURE_NUMBER],
            row=found[names.FEATURE_ROW],
            col=found[names.FEATURE_COL],
            values=values,
            valid=valid,
            days=decode_days(found[names.FEATURE_DAYS], layout),
        )


def default_decode(layout: RecordLayout, classes: int) -> Decode:
    """Through tfx-bsl into Arrow, or plainly on machines without a wheel of it."""
    if importlib.util.find_spec("tfx_bsl"):
        # One decoder for each call: it keeps its state between batches and must not be shared by threads.
        return partial(decode_with_tfx_bsl, decoder=tfx_bsl_decoder(layout, classes))
    return decode_plain


def decode_with_tfx_bsl(records: Sequence[bytes], decoder: Any) -> dict[str, Any]:
    """One Arrow record batch of N records, through the decoder that TFXIO itself uses.

    The decoder alone: `tfx_bsl.tfxio` loads TensorFlow with it, 0.8 GB and many seconds in every worker.
    """
    batch = decoder.DecodeBatch(list(records))
    flat = {name: batch.column(name).flatten() for name in batch.schema.names}
    out: dict[str, Any] = {name: flat[name].to_pylist() for name in _BYTES}
    return out | {name: flat[name].to_numpy() for name in _INTS}


def tfx_bsl_decoder(layout: RecordLayout, classes: int) -> Any:
    """A decoder of the wanted features alone, made from the schema that lies beside the records."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    whole = text_format.Parse(schema_text(layout, classes), schema_pb2.Schema())
    wanted = schema_pb2.Schema(feature=[entry for entry in whole.feature if entry.name in _BYTES + _INTS])
    return ExamplesToRecordBatchDecoder(wanted.SerializeToString())


def decode_plain(records: Sequence[bytes]) -> dict[str, Any]:
    """The same without tfx-bsl."""
    parsed = [parse_example(record) for record in records]
    out: dict[str, Any] = {name: [record[name] for record in parsed] for name in _BYTES}
    return out | {name: np.array([record[name] for record in parsed], np.int64) for name in _INTS}
