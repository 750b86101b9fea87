"""From samples folders to numpy arrays: TFRecords are parsed in parallel, in batches, never one by one.

Samples are small, so the arrays nearly always fit in memory; one that would be larger than the limit becomes
a memory-mapped scratch file instead, and all that follows works on it in the same way, with the same results.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.records import INT_FEATURES
from dlts_beam.spec import SamplesSpec, shard_name
from dlts_beam.spec import samples as names
from trainer.shards import as_text, check_digests, decode_arrays, empty_shards, iter_batches

MEMORY_LIMIT = 2 * 2**30  # bytes of one array; larger ones are mapped from a scratch file


@dataclass(frozen=True, eq=False)
class Part:
    """The records of one samples folder, in the order in which they were read.

    Attributes:
        folder: where they come from.
        spec: the folder's ``samples.json``; its patch is 1 where only centres were kept.
        place: int64 (n,), the place of each record among all samples; -1 where it was left out.
        stored: (n, T, P, P, B) in the folder's dtype.
        valid: bool, same shape.
        days: float64 (n, T).
        rows, cols: int64 (n,), the pixel on the folder's grid.
    """

    folder: str
    spec: SamplesSpec
    place: NDArray[np.int64]
    stored: NDArray[Any]
    valid: NDArray[np.bool_]
    days: NDArray[np.float64]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """All samples of one or more folders, ordered by id: the shards' layout leaves no trace.

    Attributes:
        spec: the first folder's spec; in what the trainer relies on the others agree with it.
        ids: text (n,).
        class_ids: int64 (n,).
        x, y: float64 (n,), the pixel's centre in map units.
        blocks: text (n,), the spatial block, of its own folder's size.
        features: int64 (n,), number of the point or polygon in its vector file.
        kept: text (n,) for each kept attribute.
        folders: int64 (n,), which part a sample belongs to.
        parts: the series themselves.
    """

    spec: SamplesSpec
    ids: NDArray[np.str_]
    class_ids: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    blocks: NDArray[np.str_]
    features: NDArray[np.int64]
    kept: dict[str, NDArray[np.str_]]
    folders: NDArray[np.int64]
    parts: tuple[Part, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def days(self) -> NDArray[np.float64]:
        """float64 (n, T): every sample's own days, in the order of the ids."""
        days = np.empty((len(self), len(self.spec.steps)))
        for part in self.parts:
            used = part.place >= 0
            days[part.place[used]] = part.days[used]
        return days

    def choose(self, chosen: NDArray[np.bool_]) -> Samples:
        """Only the samples where ``chosen``, bool (n,), is True."""
        place = np.where(chosen, np.cumsum(chosen) - 1, -1)
        return replace(
            self,
            ids=self.ids[chosen],
            class_ids=self.class_ids[chosen],
            x=self.x[chosen],
            y=self.y[chosen],
            blocks=self.blocks[chosen],
            features=self.features[chosen],
            kept={name: values[chosen] for name, values in self.kept.items()},
            folders=self.folders[chosen],
            parts=tuple(
                replace(part, place=np.where(part.place >= 0, place[part.place], -1)) for part in self.parts
            ),
        )


def read_spec(folder: str) -> SamplesSpec:
    """The spec of a samples folder.

    Raises:
        DltsError: there is none, or it is not one of ours.
    """
    path = storage.join(folder, names.SAMPLES_JSON)
    if not storage.exists(path):
        raise DltsError(
            f"{folder} is not a samples folder (there is no {names.SAMPLES_JSON} in it): "
            "give the folder that generate-series wrote"
        )
    return SamplesSpec.from_json(storage.read_text(path), path)


def check_agreement(specs: Sequence[SamplesSpec], folders: Sequence[str]) -> None:
    """Several folders train one model only where classes, bands, time steps and patch agree.

    Raises:
        DltsError: what differs, and between which folders.
    """
    for spec, folder in zip(specs[1:], folders[1:], strict=True):
        for what, ours, first in (
            ("classes", spec.classes.names, specs[0].classes.names),
            ("map values", spec.classes.values, specs[0].classes.values),
            ("bands", tuple(b.name for b in spec.bands), tuple(b.name for b in specs[0].bands)),
            ("number of time steps", len(spec.steps), len(specs[0].steps)),
            ("patch", spec.patch, specs[0].patch),
        ):
            if ours != first:
                raise DltsError(
                    f"the samples in {folder} and in {folders[0]} cannot train one model: their {what} "
                    f"differ ({_shown(ours)} and {_shown(first)}); extract them again so that they agree"
                )


def read_samples(folders: Sequence[str], centre: bool = False, limit: int = MEMORY_LIMIT) -> Samples:
    """Read all samples of the folders.

    Args:
        folders: samples folders, local or gs://.
        centre: keep the centre pixel of each patch only (for pixel models).
        limit: bytes above which an array is mapped from a scratch file.

    Raises:
        DltsError: a folder, shard or record is missing, broken or disagrees with the spec.
    """
    specs = [read_spec(folder) for folder in folders]
    check_agreement(specs, folders)
    records = [_read_folder(*pair, centre, limit) for pair in zip(folders, specs, strict=True)]
    ids = np.concatenate([record.ids for record in records])
    which = np.concatenate([np.full(len(record.ids), k) for k, record in enumerate(records)])
    order = np.lexsort((which, ids))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    starts = np.cumsum([0, *(len(record.ids) for record in records)])
    _refuse_twins(ids[order], which[order], folders)
    kept = [name for name in specs[0].kept if all(name in spec.kept for spec in specs)]

    def together(values: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(values)[order]

    return Samples(
        spec=specs[0],
        ids=ids[order],
        class_ids=together([record.numbers[names.FEATURE_CLASS] for record in records]),
        x=together([record.xy[:, 0] for record in records]),
        y=together([record.xy[:, 1] for record in records]),
        blocks=together([record.texts[names.FEATURE_BLOCK] for record in records]),
        features=together([record.numbers[names.FEATURE_NUMBER] for record in records]),
        kept={
            name: together([record.texts[names.FEATURE_KEPT + name] for record in records]) for name in kept
        },
        folders=which[order],
        parts=tuple(
            Part(
                folder=folder,
                spec=record.spec,
                place=place[start:end],
                stored=record.stored,
                valid=record.valid,
                days=record.days,
                rows=record.numbers[names.FEATURE_ROW],
                cols=record.numbers[names.FEATURE_COL],
            )
            for folder, record, start, end in zip(folders, records, starts[:-1], starts[1:], strict=True)
        ),
    )


def allocate(shape: Sequence[int], dtype: Any, limit: int) -> NDArray[Any]:
    """A new array: in memory up to ``limit`` bytes, else mapped from a scratch file that goes with it."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= limit:
        return np.empty(tuple(shape), dtype)
    with tempfile.TemporaryFile(prefix="dlts-samples-") as file:
        try:
            return np.memmap(file, dtype, "w+", shape=tuple(shape))  # keeps its own handle of the file
        except OSError as error:
            raise storage.explain_os_error(error, tempfile.gettempdir(), "write to") from error


@dataclass(frozen=True, eq=False)
class _Records:
    """One folder as read."""

    spec: SamplesSpec
    ids: NDArray[np.str_]
    stored: NDArray[Any]
    valid: NDArray[np.bool_]
    days: NDArray[np.float64]
    xy: NDArray[np.float64]
    numbers: dict[str, NDArray[np.int64]]
    texts: dict[str, NDArray[np.str_]]


def _read_folder(folder: str, spec: SamplesSpec, centre: bool, limit: int) -> _Records:
    if not spec.samples:
        raise DltsError(
            f"{folder} holds no samples: {names.REJECTED_CSV} in it says what became of the points"
        )
    steps, patch, _, bands = spec.shape
    kept_patch = 1 if centre else patch
    shape = (spec.samples, steps, kept_patch, kept_patch, bands)
    stored, valid = allocate(shape, spec.dtype, limit), allocate(shape, np.bool_, limit)
    days = np.empty((spec.samples, steps))
    columns: dict[str, list[NDArray[Any]]] = {}
    done = 0
    with ExitStack() as stack:
        shards = [storage.join(folder, shard_name(k, spec.shards)) for k in range(spec.shards)]
        for shard in shards:
            if not storage.exists(shard):
                raise DltsError(f"{shard} is missing: extract the samples again, or copy the whole folder")
        near = stack.enter_context(storage.local_copies(folder, [storage.name(shard) for shard in shards]))
        local = [storage.join(near, storage.name(shard)) for shard in shards]
        for batch in iter_batches(local, shards, spec):
            count = len(batch[names.FEATURE_CLASS])
            if done + count > spec.samples:
                raise _miscounted(folder, spec, local, shards)
            rows = slice(done, done + count)
            series, bits, own_days = decode_arrays(batch, spec, folder)
            middle = slice(patch // 2, patch // 2 + 1) if centre else slice(None)
            stored[rows], valid[rows] = series[:, :, middle, middle], bits[:, :, middle, middle]
            days[rows] = own_days
            for name, values in batch.items():
                if name not in (names.FEATURE_SERIES, names.FEATURE_VALID, names.FEATURE_DAYS):
                    columns.setdefault(name, []).append(values)
            done += count
        if done != spec.samples:
            raise _miscounted(folder, spec, local, shards)
        check_digests(local, shards, spec)
    whole = {name: np.concatenate(values) for name, values in columns.items()}
    class_ids = whole[names.FEATURE_CLASS].astype(np.int64)
    counts = tuple(int(c) for c in np.bincount(np.clip(class_ids, 0, None), minlength=len(spec.classes)))
    if class_ids.min() < 0 or counts != spec.class_counts:
        raise DltsError(
            f"the records in {folder} have {counts} samples per class, but {names.SAMPLES_JSON} says "
            f"{spec.class_counts}: the folder mixes two runs; extract the samples again"
        )
    texts = [names.FEATURE_BLOCK, *(names.FEATURE_KEPT + name for name in spec.kept)]
    return _Records(
        spec=replace(spec, patch=kept_patch),
        ids=as_text(whole[names.FEATURE_ID]),
        stored=stored,
        valid=valid,
        days=days,
        xy=_centres(spec, whole[names.FEATURE_ROW], whole[names.FEATURE_COL]),
        numbers={name: whole[name].astype(np.int64) for name in INT_FEATURES},
        texts={name: as_text(whole[name]) for name in texts},
    )


def _centres(spec: SamplesSpec, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 (n, 2): map coordinates of the pixels' centres. The records hold them too, as single floats."""
    a, b, c, d, e, f = spec.grid.transform
    across, down = cols + 0.5, rows + 0.5
    return np.stack([a * across + b * down + c, d * across + e * down + f], axis=1)


def _miscounted(folder: str, spec: SamplesSpec, paths: Sequence[str], shards: Sequence[str]) -> DltsError:
    empty = empty_shards(paths, shards)
    hint = f" ({', '.join(storage.name(shard) for shard in empty)} without any record)" if empty else ""
    return DltsError(
        f"{names.SAMPLES_JSON} in {folder} counts {spec.samples} samples, but the shards hold another number"
        f"{hint}: the extraction was cut short or two runs were mixed; extract the samples again"
    )


def _refuse_twins(ids: NDArray[np.str_], which: NDArray[np.int64], folders: Sequence[str]) -> None:
    """One sample read twice would stand on two sides of a split."""
    same = (ids[1:] == ids[:-1]) & (which[1:] == which[:-1])
    if same.any():
        first = int(np.flatnonzero(same)[0])
        raise DltsError(f"sample {ids[first]} is twice in {folders[which[first]]}: extract the samples again")
    for one, other in itertools.combinations((folder.rstrip("/") for folder in folders), 2):
        if storage.same_file(one, other):
            raise DltsError(f"-i gives one samples folder twice ({one}, {other}): name each one once")


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
