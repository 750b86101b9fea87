"""What the samples are like: statistics and a quality score each, from the TFRecords just written."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from dlts_beam import storage
from dlts_beam.centres import Centres, iter_centres
from dlts_beam.quality import REFERENCES, Scorer, csv_lines
from dlts_beam.samples_folder import SUMMARY
from dlts_beam.spec.samples import SamplesSpec
from dlts_beam.statistics import STATISTICS_JSON, Summary

NAMESPACE = "generate-series"
_MARGIN = 1.25  # a draw gives about the number wanted: enough of them to leave some out


class Piece(NamedTuple):
    """Scratch files of one shard: the pickled `Summary` of its samples, and their centres, batch by batch."""

    summary: str
    centres: tuple[str, ...]


class SummariseSamples(beam.PTransform):
    """Numbers and paths of shards (int, str) -> paths of files with lines of ``quality.csv``.

    Writes ``statistics.json``. Two passes: moments and quantiles of all samples; then every sample against
    its neighbours. Only names of scratch files travel between stages, and to the second pass an even
    draw of centre pixels.
    """

    def __init__(self, spec: SamplesSpec, folder: str) -> None:
        super().__init__()
        self._spec = spec
        self._folder = folder

    def expand(self, shards: beam.PCollection[tuple[int, str]]) -> beam.PCollection[str]:
        """Summarise each shard, merge, score."""
        pieces = (
            shards
            | "SpreadShards" >> beam.Reshuffle()
            | "SummariseShards" >> beam.ParDo(SummariseShards(self._spec, self._folder))
        )
        scorer = (
            pieces
            | "GatherSummaries" >> beam.combiners.ToList()
            | "MergeSummaries" >> beam.Map(merge_summaries, self._spec, self._folder)
        )
        return (
            pieces
            | "PathsOfCentres" >> beam.FlatMap(_paths)
            | "SpreadCentres" >> beam.Reshuffle()
            | "ScoreSamples" >> beam.ParDo(ScoreSamples(self._spec), beam.pvalue.AsSingleton(scorer))
        )


class SummariseShards(beam.DoFn):
    """Reads a shard through tfx-bsl into Arrow and summarises it, batch by batch in its order."""

    def __init__(self, spec: SamplesSpec, folder: str) -> None:
        super().__init__()
        self._spec = spec
        self._folder = folder
        self._summarised = Metrics.counter(NAMESPACE, "samples_summarised")

    def process(self, shard: tuple[int, str]) -> Iterator[Piece]:
        """Summarise one shard."""
        number, path = shard
        summary = empty_summary(self._spec)
        paths = []
        for batch, centres in enumerate(iter_centres(path, self._spec)):
            summary.add(centres, int(REFERENCES * _MARGIN))
            scratch = storage.join(self._folder, SUMMARY, f"centres-{number:05d}-{batch:05d}.npz")
            storage.write_bytes(scratch, centres.to_bytes())
            paths.append(scratch)
            self._summarised.inc(len(centres))
        summary.compact()
        scratch = storage.join(self._folder, SUMMARY, f"shard-{number:05d}.pickle")
        storage.write_bytes(scratch, pickle.dumps(summary))
        yield Piece(scratch, tuple(paths))


def empty_summary(spec: SamplesSpec) -> Summary:
    """A summary of no samples yet."""
    steps, _, _, bands = spec.shape
    return Summary(spec.class_counts, steps, bands)


def merge_summaries(pieces: Iterable[Piece], spec: SamplesSpec, folder: str) -> Scorer:
    """Write ``statistics.json`` of all samples; gives what scores them."""
    whole = empty_summary(spec)
    for path in sorted(piece.summary for piece in pieces):
        whole.merge(pickle.loads(storage.read_bytes(path)))
    storage.write_text(storage.join(folder, STATISTICS_JSON), whole.to_table(spec).to_json())
    return Scorer.of(whole.references(REFERENCES), whole.moments)


def _paths(piece: Piece) -> tuple[str, ...]:
    return piece.centres


class ScoreSamples(beam.DoFn):
    """A file of centres and the scorer -> a file with their lines of ``quality.csv``."""

    def __init__(self, spec: SamplesSpec) -> None:
        super().__init__()
        self._spec = spec

    def process(self, path: str, scorer: Scorer) -> Iterator[str]:
        """Score the samples of one file."""
        centres = Centres.from_bytes(storage.read_bytes(path))
        lines = csv_lines(centres, scorer.score(centres), self._spec.grid, self._spec.classes.names)
        scored = path.removesuffix(".npz") + ".csv"
        storage.write_text(scored, lines)
        yield scored
