"""TFRecord shards: parsed in batches by tf.data, with one clear sentence for whatever is broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.records import FLOAT_FEATURES, RecordLayout, decode_days, decode_series, unpack_valid
from dlts_beam.spec import SamplesSpec
from dlts_beam.spec import samples as names

PARSE_BATCH = 512  # records parsed at once
COMPRESSION = "GZIP"


def iter_batches(
    paths: Sequence[str], shards: Sequence[str], spec: SamplesSpec
) -> Iterator[dict[str, NDArray[Any]]]:
    """Parsed records, a batch at a time, shards side by side; every feature is an array over the batch.

    Args:
        paths: local files.
        shards: what to call them in errors.
        spec: the folder's spec: it names the kept attributes.

    Raises:
        DltsError: a shard is truncated, damaged or holds something else.
    """
    wanted = [name for name in RecordLayout.of(spec).feature_names if name not in FLOAT_FEATURES]
    features = None
    records = tf.data.TFRecordDataset(list(paths), COMPRESSION, num_parallel_reads=min(4, len(paths)))
    try:
        for first in records.take(1):
            features = _features(first.numpy(), wanted, shards[0])
        if features is None:
            return
        parsed = records.batch(PARSE_BATCH).map(
            lambda batch: tf.io.parse_example(batch, features), num_parallel_calls=tf.data.AUTOTUNE
        )
        yield from parsed.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError, tf.errors.InvalidArgumentError) as error:
        raise _explain(paths, shards, features, error) from error


def check_digests(paths: Sequence[str], shards: Sequence[str], spec: SamplesSpec) -> None:
    """Hold the shards against the digests in ``samples.json``; a folder of before they were kept passes.

    Args: as of `iter_batches`.

    Raises:
        DltsError: a shard's records are not those that ``samples.json`` was written for.
    """
    if not spec.shards_sha256:
        return
    for path, shard, wanted in zip(paths, shards, spec.shards_sha256, strict=True):
        if storage.digest(path) != wanted:
            raise DltsError(
                f"{shard} is not the file that {names.SAMPLES_JSON} was written for: two runs were mixed, or"
                " a file was changed; extract the samples again, or copy the whole folder again"
            )


def decode_arrays(
    batch: Mapping[str, NDArray[Any]], spec: SamplesSpec, folder: str
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float64]]:
    """Series (n, T, P, P, B) in the folder's dtype, valid (same shape) and days (n, T) of a parsed batch.

    Raises:
        DltsError: a record's bytes do not have the spec's shape.
    """
    layout = RecordLayout.of(spec)
    size = int(np.prod(spec.shape))
    _check_sizes(batch, names.FEATURE_SERIES, layout.nbytes, spec, folder)
    _check_sizes(batch, names.FEATURE_VALID, -(-size // 8), spec, folder)
    _check_sizes(batch, names.FEATURE_DAYS, 8 * layout.steps, spec, folder)
    series = decode_series(batch[names.FEATURE_SERIES].tolist(), layout)
    valid = unpack_valid(batch[names.FEATURE_VALID].tolist(), spec.shape)
    return series, valid, decode_days(batch[names.FEATURE_DAYS].tolist(), layout)


def as_text(values: NDArray[Any]) -> NDArray[np.str_]:
    """Text of a feature that may be stored as bytes or as a number."""
    return np.array(
        [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], np.str_
    )


def empty_shards(paths: Sequence[str], shards: Sequence[str]) -> list[str]:
    """Names of the shards without any record."""
    return [
        shard for path, shard in zip(paths, shards, strict=True) if not any(True for _ in _one(path).take(1))
    ]


def _one(path: str) -> tf.data.Dataset:
    return tf.data.TFRecordDataset([path], COMPRESSION)


def _features(record: bytes, wanted: Sequence[str], shard: str) -> dict[str, tf.io.FixedLenFeature]:
    """Feature types as the first record has them."""
    try:
        example = tf.train.Example.FromString(record)
    except ValueError as error:  # protobuf's DecodeError is one
        raise DltsError(
            f"{shard} holds no tf.train.Example records: this product did not write it"
        ) from error
    found = example.features.feature
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DltsError(
            f"the records in {shard} have no feature {', '.join(missing)}: extract the samples again"
        )
    kinds = {"bytes_list": tf.string, "int64_list": tf.int64, "float_list": tf.float32}
    return {name: tf.io.FixedLenFeature([], kinds[found[name].WhichOneof("kind")]) for name in wanted}


def _check_sizes(
    batch: Mapping[str, NDArray[Any]], name: str, size: int, spec: SamplesSpec, folder: str
) -> None:
    """Every record must have ``size`` bytes of the feature."""
    for index, value in enumerate(batch[name]):
        if len(value) != size:
            record_id = as_text(batch[names.FEATURE_ID][index : index + 1])[0]
            raise DltsError(
                f"sample {record_id} in {folder} has {len(value)} bytes of {name!r} where "
                f"{names.SAMPLES_JSON} (shape {spec.shape}, {spec.dtype}) asks for {size}: "
                "the folder mixes two runs; extract the samples again"
            )


def _explain(
    paths: Sequence[str],
    shards: Sequence[str],
    features: Mapping[str, tf.io.FixedLenFeature] | None,
    error: tf.errors.OpError,
) -> DltsError:
    """Name the shard that is broken: reading in parallel does not tell."""
    for path, shard in zip(paths, shards, strict=True):
        count = 0
        try:
            for record in _one(path):
                if features is not None:
                    tf.io.parse_single_example(record, features)
                count += 1
        except (tf.errors.DataLossError, tf.errors.OutOfRangeError):
            return DltsError(
                f"{shard} is truncated or damaged after {count} good records: extract the samples again, "
                "or copy the file again"
            )
        except tf.errors.InvalidArgumentError:
            return DltsError(
                f"record {count} of {shard} is not a sample as {names.SAMPLES_JSON} describes it: "
                "extract the samples again"
            )
    return DltsError(f"the samples cannot be read: {str(error.message).partition(chr(10))[0]}")
