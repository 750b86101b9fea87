"""The samples folder: held and emptied before a run, completed after it; ``samples.json`` comes last."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dlts_beam import storage
from dlts_beam.accounts import FEATURE, PIXEL, Rejected
from dlts_beam.candidates import Chosen, rejected_pixels
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.labels import Label
from dlts_beam.plan_files import PLANS
from dlts_beam.quality import QUALITY_CSV, header_line, read_rows
from dlts_beam.records import RecordLayout, schema_text
from dlts_beam.samples_page import SAMPLES_HTML, Overview, samples_page
from dlts_beam.sampling import Candidates
from dlts_beam.shards import ShardResult, ShardSettings
from dlts_beam.spec.samples import (
    CLASSES_CSV,
    REJECTED_CSV,
    SAMPLES_JSON,
    SCHEMA_PBTXT,
    SamplesSpec,
    shard_name,
)
from dlts_beam.spec.series import SeriesSpec
from dlts_beam.statistics import STATISTICS_JSON, Table

# Between the two passes over the samples, and then to the launcher: gone when the command ends.
SUMMARY = "summary"
RESULTS_JSON = "results.json"  # from the workers to the launcher: gone when the command ends
_BESIDE = (CLASSES_CSV, REJECTED_CSV, SCHEMA_PBTXT, STATISTICS_JSON, QUALITY_CSV, SAMPLES_HTML)
LOCK = SAMPLES_JSON + ".lock"
_SHARD = re.compile(r"samples-\d{5}-of-\d{5}\.tfrecord\.gz")


def check_folder(folder: str) -> None:
    """Refuse a folder whose ``classes.csv`` no run has written: it would be lost.

    Raises:
        DltsError: there is such a file. Whatever a run writes, killed or not, it writes ``classes.csv`` last
            but two, so that there are shards or ``samples.json`` beside it.
    """
    names = {storage.name(entry.path) for entry in storage.list_files(folder)}
    if CLASSES_CSV in names and SAMPLES_JSON not in names and not any(map(_SHARD.fullmatch, names)):
        raise DltsError(
            f"{folder} holds a {CLASSES_CSV} that is not of a samples folder and would be overwritten:"
            " choose another folder with -o, or move the file"
        )


@contextmanager
def locked(folder: str) -> Iterator[Callable[[], None]]:
    """Hold the folder while the body runs; raises `DltsError` where another run holds it.

    Gives a function that raises where another has taken it meanwhile; see `dlts_beam.storage.exclusive`.
    """
    with storage.exclusive(storage.join(folder, LOCK), folder) as check:
        yield check


def clear_folder(folder: str) -> None:
    """Remove what an earlier run left, ``samples.json`` first: without it a folder is not complete.

    Files of other kinds stay.
    """
    storage.remove(storage.join(folder, SAMPLES_JSON))
    clear_scratch(folder)
    for entry in storage.list_files(folder):
        name = storage.name(entry.path)
        if _SHARD.fullmatch(name) or name in _BESIDE:
            storage.remove(entry.path)


def clear_leftovers(folder: str, shards: int) -> None:
    """Remove what a killed run had begun to write; only for whoever holds the folder, before work begins.

    Args:
        folder: the samples folder.
        shards: that are going to be written; leftovers of a run with another number of them stay.
    """
    names = [shard_name(shard, shards) for shard in range(shards)]
    for name in (*names, *_BESIDE, RESULTS_JSON, SAMPLES_JSON):
        storage.remove_leftovers(storage.join(folder, name))


def clear_scratch(folder: str) -> None:
    """Remove what passes between launcher and workers."""
    for name in (PLANS, SUMMARY):
        storage.remove_tree(storage.join(folder, name))
    storage.remove(storage.join(folder, RESULTS_JSON))


def account_for(
    settings: ShardSettings,
    series: SeriesSpec,
    chosen: Chosen,
    results: Sequence[ShardResult],
    labels: Sequence[Label | None],
) -> SamplesSpec:
    """Balance both ledgers, write ``rejected.csv``, and give what ``samples.json`` is going to say.

    Args:
        settings: of the shards.
        series: what they were cut from.
        chosen: what was to be cut.
        results: what became of it, one for each shard in order.
        labels: one for each feature of the vector file.

    Raises:
        DltsError: a ledger does not balance, or no sample is left.
    """
    folder, accounts = settings.folder, chosen.accounts
    for result in results:
        for reason, entries in result.rejected.items():
            accounts.reject(_rejected(reason, entries, settings.tiling.grid))
    storage.write_text(storage.join(folder, REJECTED_CSV), accounts.to_csv(labels))
    samples = sum(result.samples for result in results)
    features = accounts.ledger(FEATURE, len(labels), chosen.features_used)
    candidates = accounts.ledger(PIXEL, chosen.pixels, samples)
    if not samples:
        reasons = ", ".join(f"{count} {reason}" for reason, count in candidates.rejected.items())
        raise DltsError(
            f"no sample is left of {candidates.total} pixels: {reasons}; see {REJECTED_CSV} in {folder}"
        )
    return SamplesSpec(
        series=series.fingerprint(),
        grid=series.grid,
        steps=chosen.steps,
        bands=series.bands,
        dtype=settings.layout.dtype,
        patch=settings.layout.patch,
        classes=chosen.classes,
        class_counts=tuple(np.sum([result.class_counts for result in results], axis=0).tolist()),
        shards=len(results),
        samples=samples,
        block_size=settings.block_size,
        features=features,
        candidates=candidates,
        kept=settings.layout.kept,
        interval=settings.cuts[0].interval is not None,
        shards_sha256=tuple(result.sha256 for result in results),
    )


def show_summary(spec: SamplesSpec, folder: str) -> None:
    """Gather the scores of all samples in ``quality.csv`` and show them, with the statistics, on a page.

    Raises:
        DltsError: the scores are not those of all samples.
    """
    _gather_quality(storage.join(folder, QUALITY_CSV), storage.join(folder, SUMMARY))
    with _open_text(storage.join(folder, QUALITY_CSV)) as lines:
        overview = Overview(read_rows(lines), spec.classes.names)
    if overview.rows != spec.samples:
        raise DltsError(
            f"{overview.rows} of the {spec.samples} samples in {folder} were scored: does another run write"
            " to this folder? Run this one again, alone"
        )
    table = Table.from_json(storage.read_bytes(storage.join(folder, STATISTICS_JSON)))
    storage.write_text(storage.join(folder, SAMPLES_HTML), samples_page(spec, table, overview))


def complete_folder(spec: SamplesSpec, folder: str) -> None:
    """Write classes and schema, and last of all ``samples.json``: a folder without it is not complete."""
    storage.write_text(storage.join(folder, CLASSES_CSV), spec.classes.to_csv())
    schema = schema_text(RecordLayout.of(spec), len(spec.classes))
    storage.write_text(storage.join(folder, SCHEMA_PBTXT), schema)
    storage.write_text(storage.join(folder, SAMPLES_JSON), spec.to_json())


def _gather_quality(path: str, parts: str) -> None:
    """Put the lines of all scored parts together, in the order of shards."""
    with storage.open_atomic(path) as out:
        out.write(header_line().encode())
        for entry in storage.list_files(parts):
            if entry.path.endswith(".csv"):
                out.write(storage.read_bytes(entry.path))


@contextmanager
def _open_text(path: str) -> Iterator[io.TextIOWrapper]:
    with storage.open_read(path) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        yield text


def _rejected(reason: str, entries: Sequence[tuple[int, int, int]], grid: Grid) -> Rejected:
    feature, row, col = np.array(entries, np.int64).T
    zero = np.zeros_like(row)
    return rejected_pixels(reason, Candidates(feature, row, col, zero, zero), grid)


def class_table_text(spec: SamplesSpec) -> str:
    """Samples per class as a table for people."""
    width = max(5, *(len(name) for name in spec.classes.names))
    lines = [f"{'class':<{width}}  {'value':>6}  {'samples':>9}  {'share':>6}"]
    for row, count in zip(spec.classes.rows, spec.class_counts, strict=True):
        lines.append(f"{row.name:<{width}}  {row.value:>6}  {count:>9}  {count / spec.samples:>6.1%}")
    lines.append(f"{'all':<{width}}  {'':>6}  {spec.samples:>9}  {1:>6.1%}")
    return "\n".join(lines)
