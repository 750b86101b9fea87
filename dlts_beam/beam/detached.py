"""Jobs that nobody waits for, such as those of Dataflow templates: a last step does the launcher's work.

Maps and samples come out as they do where a launcher waits, by the same functions.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from dlts_beam import storage
from dlts_beam.beam.assembly import finished_certificate, publish, reuse_tiles
from dlts_beam.beam.classify import ClassifyTiles
from dlts_beam.beam.dataflow import is_dry_run
from dlts_beam.beam.extract import ExtractSamples, check_results
from dlts_beam.beam.inputs import check_stock
from dlts_beam.beam.map_plan import MapPlan
from dlts_beam.beam.map_run import check_places, record_run
from dlts_beam.beam.runner import run_pipeline
from dlts_beam.beam.statistics import ScoreSamples, SummariseShards, merge_summaries
from dlts_beam.beam.tile_lists import ReadTileLists, tile_list_paths, write_tile_lists
from dlts_beam.candidates import Chosen
from dlts_beam.certificate import TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.labels import Label
from dlts_beam.plan_files import PLANS, PlanFile
from dlts_beam.samples_folder import account_for, clear_scratch, complete_folder, show_summary
from dlts_beam.shards import ShardResult, ShardSettings
from dlts_beam.spec import SamplesSpec, SeriesSpec, shard_name

JOB = "job.pickle"  # among the plans: what the last step of step 2 has to know


def submit_map(planned: MapPlan, options: PipelineOptions) -> int:
    """Submit step 4 with the publishing of its map as the last step; gives the number of tiles to compute.

    Raises:
        DltsError: whatever the user can put right; another run that writes the same output.
    """
    job, started = planned.job, time.time()
    good = check_places(planned, options)
    with job.locked():
        done = finished_certificate(job) is not None
        have = {task.tile.key for task in job.tasks} if done else {r.name for r in reuse_tiles(job)}
    todo = [task for task in job.tasks if task.tile.key not in have]

    # A dry run changes nothing: its job names the lists that a run would write.
    lists = tile_list_paths(job.parts, todo) if is_dry_run(options) else write_tile_lists(job.parts, todo)

    def build(pipeline: beam.Pipeline) -> None:
        tasks = pipeline | "ReadTileLists" >> ReadTileLists(lists)
        records = tasks | "ClassifyTiles" >> ClassifyTiles(planned.settings)
        _ = records | "FinishMap" >> FinishMap(planned, started, good)

    run_pipeline(build, options)
    return len(todo)


class FinishMap(beam.PTransform):
    """TileRecord -> None: publishes the map when the last tile is written."""

    def __init__(self, planned: MapPlan, started: float, good: frozenset[int]) -> None:
        super().__init__()
        self._planned = planned
        self._started = started
        self._good = good

    def expand(self, records: beam.PCollection[TileRecord]) -> beam.PCollection[None]:
        """Gather the records and publish."""
        gathered = records | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
        return gathered | "Publish" >> beam.Map(finish_map, self._planned, self._started, self._good)


def finish_map(
    records: Sequence[TileRecord], planned: MapPlan, started: float, good: frozenset[int]
) -> None:
    """Publish the map with its certificate and the record of the run; does nothing the second time.

    No lock was held while the tiles were computed, so each is read again and its key and checksum compared.

    Args:
        records: of the tiles computed.
        planned: the map.
        started: when the run began, in seconds since 1970.
        good: what `take_stock` gave then.

    Raises:
        DltsError: a tile is not there, or is another run's; an image has changed.
    """
    job, seconds = planned.job, {"total": time.time() - started}
    with job.locked() as check_locks:
        if finished_certificate(job) is None:
            broken = [record for record in records if record.quarantined is not None]
            verified = reuse_tiles(job)
            check_locks()
            known = {record.name for record in [*broken, *verified]}
            missing = [task.tile.key for task in job.tasks if task.tile.key not in known]
            if missing:
                raise DltsError(
                    f"{len(missing)} of {len(job.tasks)} tiles, such as {missing[0]}, are not in {job.parts}"
                    " as they were written: does another run write this map? Run this one again, alone"
                )
            check_stock(job.series, planned.bands, planned.request.quarantine, good)
            publish(job, [*verified, *broken], check_locks)
            record_run(planned, list(records), len(job.tasks) - len(records), seconds, started)
        check_locks()  # the parts may be another run's by now
        storage.remove_tree(job.parts)


@dataclass(frozen=True)
class SamplesJob:
    """What the last step of step 2 has to know.

    Attributes:
        settings: of the shards.
        series: what they are cut from.
        chosen: what is to be cut.
        labels: one for each feature of the vector file.
        plans: one for each shard.
        summary: also summarise and score the samples.
    """

    settings: ShardSettings
    series: SeriesSpec
    chosen: Chosen
    labels: Sequence[Label | None]
    plans: Sequence[PlanFile]
    summary: bool


def submit_samples(job: SamplesJob, options: PipelineOptions, skip_unreadable: bool) -> None:
    """Submit step 2 with the accounts, the summary and ``samples.json`` as the last step.

    Raises:
        DltsError: whatever the user can put right.
    """
    path = storage.join(job.settings.folder, PLANS, JOB)
    if not is_dry_run(options):
        storage.write_bytes(path, pickle.dumps(job))

    def build(pipeline: beam.Pipeline) -> None:
        plans = pipeline | "Plans" >> beam.Create([plan.path for plan in job.plans])
        results = plans | "ExtractSamples" >> ExtractSamples(job.series, job.settings, skip_unreadable)
        _ = results | "FinishSamples" >> FinishSamples(path)

    run_pipeline(build, options)


class FinishSamples(beam.PTransform):
    """ShardResult -> None: completes the samples folder when the last shard is written."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def expand(self, results: beam.PCollection[ShardResult]) -> beam.PCollection[None]:
        """Gather the results and complete the folder."""
        gathered = results | "Gather" >> beam.combiners.ToList()
        return gathered | "Complete" >> beam.Map(finish_samples, self._path)


def finish_samples(results: Iterable[ShardResult], path: str) -> None:
    """Balance the accounts and complete the folder; does nothing the second time.

    Raises:
        DltsError: the results are not those of all plans, or do not balance.
    """
    if not storage.exists(path):
        return  # the scratch is what goes last
    job: SamplesJob = pickle.loads(storage.read_bytes(path))
    folder = job.settings.folder
    ordered = check_results(sorted(results, key=lambda result: result.shard), job.plans)
    spec = account_for(job.settings, job.series, job.chosen, ordered, job.labels)
    if job.summary:
        summarise(spec, folder)
        show_summary(spec, folder)
    complete_folder(spec, folder)
    clear_scratch(folder)


def summarise(spec: SamplesSpec, folder: str) -> None:
    """What `SummariseSamples` does, in one process."""
    reading = SummariseShards(spec, folder)
    paths = [storage.join(folder, shard_name(number, spec.shards)) for number in range(spec.shards)]
    pieces = [piece for shard in enumerate(paths) for piece in reading.process(shard)]
    scorer = merge_summaries(pieces, spec, folder)
    scoring = ScoreSamples(spec)
    for piece in pieces:
        for centres in piece.centres:
            list(scoring.process(centres, scorer))
