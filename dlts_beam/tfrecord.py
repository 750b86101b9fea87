"""tf.train.Example records and TFRecord files, without TensorFlow.

Features of a record always stand in the order of their names, so equal samples give equal bytes, whichever
encoder made them: tfx-bsl where it is installed, else a plain one with the same result.
"""

from __future__ import annotations

import gzip
import importlib.util
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.records import Column

_LENGTH = 0x0A  # tag of field 1, length-delimited
_VALUE = 0x12  # tag of field 2
# From the name and values of one feature to the N entries it makes in the records' maps of features.
Encoder = Callable[[str, Column], list[bytes]]


def encode_records(columns: Mapping[str, Column], encoder: Encoder | None = None) -> list[bytes]:
    """Serialised tf.train.Examples of N records, the features of each in the order of their names.

    Args:
        columns: the features; the order does not matter.
        encoder: `encode_with_tfx_bsl` or `encode_plain`; None takes the first where it is installed.
    """
    encode = encoder or default_encoder()
    names = sorted(columns, key=lambda name: name.encode())
    parts = [encode(name, columns[name]) for name in names]
    return [_delimited(b"".join(entries)) for entries in zip(*parts, strict=True)]


def default_encoder() -> Encoder:
    """The encoder of this machine: through tfx-bsl, or the plain one where it has no wheel."""
    return encode_with_tfx_bsl if importlib.util.find_spec("tfx_bsl") else encode_plain


def encode_with_tfx_bsl(name: str, column: Column) -> list[bytes]:
    """Entries of one feature, through tfx-bsl's batch encoder.

    One feature at a time: a batch of several would come back with the features of each record in an order
    that is random by design, as that of protobuf's maps is.
    """
    import pyarrow as pa

    batch = pa.RecordBatch.from_arrays([_arrow_column(column, pa)], names=[name])
    records = _tfx_bsl_encoder().encode(batch)
    # Each is an Example whose only field is a map with one entry: take off the outermost tag and length.
    heads = {size: _read_varint(record, 1)[1] for size, record in {len(r): r for r in records}.items()}
    return [record[heads[len(record)] :] for record in records]


# The encoder keeps state while it encodes, so every thread has its own.
_OF_THREAD = threading.local()


def _tfx_bsl_encoder() -> Any:
    if not hasattr(_OF_THREAD, "encoder"):
        from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

        _OF_THREAD.encoder = RecordBatchToExamplesEncoder()
    return _OF_THREAD.encoder


def _arrow_column(column: Column, pa: Any) -> Any:
    """An Arrow list array with one value per record."""
    if isinstance(column, list):
        values = pa.array(column, pa.large_binary())
    elif column.ndim == 2:
        ends = np.arange(len(column) + 1, dtype=np.int64) * column.shape[1]
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(column))]
        values = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(column), buffers)
    else:
        values = pa.array(column)
    return pa.LargeListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int64)), values)


def encode_plain(name: str, column: Column) -> list[bytes]:
    """Entries of one feature, made by hand: the same bytes as those of tfx-bsl."""
    if isinstance(column, list):
        return _bytes_entries(name, column)
    if column.ndim == 2:
        return _bytes_entries(name, [row.tobytes() for row in column])
    if column.dtype.kind == "f":
        return [_entry(name, b"\x12\x06\n\x04" + struct.pack("<f", value)) for value in column.tolist()]
    return [_entry(name, _int_feature(value)) for value in column.tolist()]


def _bytes_entries(name: str, values: list[bytes]) -> list[bytes]:
    """Map entries of a bytes feature; values of one size share everything but the value."""
    heads: dict[int, bytes] = {}
    entries = []
    for value in values:
        if len(value) not in heads:
            whole = _entry(name, _delimited(_delimited(value)))
            heads[len(value)] = whole[: len(whole) - len(value)]
        entries.append(heads[len(value)] + value)
    return entries


def _entry(name: str, feature: bytes) -> bytes:
    """One entry of the map of features: field 1 of Features, holding name (1) and feature (2)."""
    return _delimited(_delimited(name.encode()) + bytes((_VALUE,)) + _varint(len(feature)) + feature)


def _delimited(payload: bytes) -> bytes:
    return bytes((_LENGTH,)) + _varint(len(payload)) + payload


def _int_feature(value: int) -> bytes:
    digits = _delimited(_varint(value & 0xFFFFFFFFFFFFFFFF))
    return b"\x1a" + _varint(len(digits)) + digits


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the place after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def parse_example(record: bytes) -> dict[str, bytes | int | float]:
    """The features of a record with one value each: bytes, int or float by name."""
    out: dict[str, bytes | int | float] = {}
    _, position = _read_varint(record, 1)
    while position < len(record):
        _, position = _read_varint(record, position + 1)
        size, position = _read_varint(record, position + 1)
        name = record[position : position + size].decode()
        size, position = _read_varint(record, position + size + 1)
        end = position + size
        kind = record[position]
        _, position = _read_varint(record, position + 1)
        if kind == 0x12:
            out[name] = float(struct.unpack("<f", record[position + 2 : position + 6])[0])
        elif kind == 0x1A:
            _, position = _read_varint(record, position + 1)
            number, _ = _read_varint(record, position)
            out[name] = number - (1 << 64) if number >= 1 << 63 else number
        else:
            size, position = _read_varint(record, position + 1)
            out[name] = record[position : position + size]
        position = end
    return out


def frame(record: bytes) -> bytes:
    """One record as it stands in a TFRecord file: length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _masked_crc(length), record, _masked_crc(record)))


def _masked_crc(data: bytes) -> bytes:
    crc = _crc32c()(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _crc32c() -> Callable[[bytes], int]:
    import google_crc32c

    return google_crc32c.value


def read_records(path: str) -> Iterator[bytes]:
    """The records of a gzipped TFRecord file, checksums verified.

    Raises:
        DltsError: the file is cut off or damaged.
    """
    with storage.open_read(path) as file, gzip.GzipFile(fileobj=file) as data:
        try:
            while head := data.read(12):
                (size,) = struct.unpack("<Q", head[:8])
                record = data.read(size)
                if head[8:] != _masked_crc(head[:8]) or data.read(4) != _masked_crc(record):
                    raise DltsError(f"{path} holds a damaged record: run generate-series again")
                yield record
        except (EOFError, gzip.BadGzipFile, struct.error) as error:
            raise DltsError(f"{path} is cut off or damaged: run generate-series again") from error
