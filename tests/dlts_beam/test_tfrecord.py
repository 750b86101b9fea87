"""Records as bytes: both encoders agree to the byte, and TensorFlow's own classes read them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.tfrecord import (
    default_encoder,
    encode_plain,
    encode_records,
    encode_with_tfx_bsl,
    frame,
    parse_example,
    read_records,
)
from tests.dlts_beam.test_records import LAYOUT, make_batch

WIDE = {
    "b": np.array([0, 1, -1, 127, 128, 2**62, -(2**62)], np.int64),
    "a": np.array([0, 1.5, -1.5, 3e38, 1e-38, np.inf, 2], np.float32),
    "ä": [b"", b"x", b"y" * 127, b"y" * 128, b"z" * 20_000, bytes(range(256)), b"\x00"],
    "n" * 200: np.arange(7 * 300, dtype=np.uint8).reshape(7, 300),
}


@pytest.fixture(params=["wide", "samples"])
def columns(request) -> dict:
    return WIDE if request.param == "wide" else make_batch(9).to_columns(LAYOUT)


def test_both_encoders_give_the_same_bytes(columns: dict):
    pytest.importorskip("tfx_bsl")
    assert encode_records(columns, encode_with_tfx_bsl) == encode_records(columns, encode_plain)
    assert default_encoder() is encode_with_tfx_bsl


def test_the_bytes_are_those_of_tensorflow(columns: dict):
    tf = pytest.importorskip("tensorflow")
    for record in encode_records(columns):
        assert tf.train.Example.FromString(record).SerializeToString(deterministic=True) == record


def test_the_order_of_columns_does_not_matter(columns: dict):
    turned = {name: columns[name] for name in reversed(list(columns))}
    assert encode_records(turned) == encode_records(columns)


def test_features_come_back(columns: dict):
    for n, record in enumerate(encode_records(columns)):
        parsed = parse_example(record)
        assert list(parsed) == sorted(columns, key=lambda name: name.encode())
        for name, column in columns.items():
            value = column[n]
            assert parsed[name] == (value.tobytes() if np.ndim(value) else value)


def test_framing_is_beams_and_tensorflows(tmp_path: Path):
    tfrecordio = pytest.importorskip("apache_beam.io.tfrecordio")
    records = [b"", b"one", b"x" * 5000]
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"".join(frame(record) for record in records)))
    assert list(read_records(str(tmp_path / "a.gz"))) == records
    with gzip.open(tmp_path / "a.gz") as file:
        assert [tfrecordio._TFRecordUtil.read_record(file) for _ in records] == records


@pytest.mark.parametrize("damage", ["cut", "flip", "not gzip"])
def test_damaged_files_are_named(tmp_path: Path, damage: str):
    data = frame(b"x" * 100) + frame(b"y" * 100)
    if damage == "flip":
        data = data[:150] + b"!" + data[151:]
    packed = gzip.compress(data)
    path = tmp_path / "samples.gz"
    path.write_bytes({"cut": packed[:-12], "flip": packed, "not gzip": data}[damage])
    with pytest.raises(DltsError, match=r"samples\.gz .*generate-series again"):
        list(read_records(str(path)))
