"""Records: what is packed comes back, and the schema tells of every feature."""

from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.records import (
    RecordLayout,
    SampleBatch,
    decode_days,
    decode_series,
    pack_valid,
    schema_text,
    unpack_valid,
)

LAYOUT = RecordLayout(steps=3, patch=3, bands=2, dtype="int16", kept=("farm", 'a "quoted" name'))


def make_batch(count: int = 4, dtype: str = "int16", layout: RecordLayout = LAYOUT) -> SampleBatch:
    rng = np.random.default_rng(0)
    whole = np.arange(count, dtype=np.int64)
    return SampleBatch(
        series=rng.integers(-500, 500, (count, *layout.shape)).astype(dtype),
        valid=rng.random((count, *layout.shape)) < 0.7,
        days=np.cumsum(rng.random((count, layout.steps)), axis=1),
        class_id=whole % 3,
        row=whole + 7,
        col=whole * 300,
        feature=whole[::-1].copy(),
        x=whole + 0.5,
        y=-whole - 0.5,
        ids=[f"{n:016x}" for n in whole],
        blocks=[f"{n}_-3" for n in whole],
        kept=[[f"farm {n}" for n in whole], ["ä" * int(n) for n in whole]],
    )


def test_arrays_come_back():
    batch = make_batch()
    columns = batch.to_columns(LAYOUT)
    series = [row.tobytes() for row in columns["series"]]
    np.testing.assert_array_equal(decode_series(series, LAYOUT), batch.series)
    valid = [row.tobytes() for row in columns["valid"]]
    np.testing.assert_array_equal(unpack_valid(valid, LAYOUT.shape), batch.valid)
    days = [row.tobytes() for row in columns["days"]]
    np.testing.assert_array_equal(decode_days(days, LAYOUT), batch.days)


@pytest.mark.parametrize("shape", [(1,), (3, 3, 2), (8,), (4, 5, 5, 3)])
def test_valid_bits_come_back_for_any_number_of_them(shape: tuple[int, ...]):
    valid = np.random.default_rng(1).random((5, *shape)) < 0.5
    packed = [row.tobytes() for row in pack_valid(valid)]
    assert {len(row) for row in packed} == {-(-int(np.prod(shape)) // 8)}
    np.testing.assert_array_equal(unpack_valid(packed, shape), valid)


def test_stored_bytes_are_little_endian_whatever_the_machine():
    layout = RecordLayout(1, 1, 1, "uint16")
    batch = make_batch(1, "uint16", layout)
    batch.series[:] = 0x0102
    assert SampleBatch(**{**vars(batch), "kept": ()}).to_columns(layout)["series"].tobytes() == b"\x02\x01"


def test_a_batch_of_another_shape_or_dtype_is_refused():
    with pytest.raises(ValueError, match="series must be"):
        make_batch(dtype="int32").to_columns(LAYOUT)
    with pytest.raises(ValueError, match="series must be"):
        make_batch().to_columns(RecordLayout(2, 3, 2, "int16", LAYOUT.kept))


def test_schema_is_one_that_tensorflow_metadata_reads():
    schema_pb2 = pytest.importorskip("tensorflow_metadata.proto.v0.schema_pb2")
    from google.protobuf import text_format

    schema = text_format.Parse(schema_text(LAYOUT, 5), schema_pb2.Schema())
    assert tuple(sorted(feature.name for feature in schema.feature)) == LAYOUT.feature_names
    by_name = {feature.name: feature for feature in schema.feature}
    assert by_name["series"].type == schema_pb2.BYTES
    assert by_name["x"].type == schema_pb2.FLOAT
    assert (by_name["class_id"].int_domain.min, by_name["class_id"].int_domain.max) == (0, 4)
    assert set(make_batch().to_columns(LAYOUT)) == set(by_name)
