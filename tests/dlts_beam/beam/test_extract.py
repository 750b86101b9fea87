"""The extraction stage: fused, one result per plan, results that must account for every candidate."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest

from dlts_beam.beam.extract import NAMESPACE, ExtractSamples, WriteResults, read_results, write_results
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.errors import DltsError
from dlts_beam.intervals import whole_series
from dlts_beam.plan_files import PlanFile, read_plan, write_plan
from dlts_beam.records import RecordLayout
from dlts_beam.sampling import Candidates, Tiling, plan_shards
from dlts_beam.shards import ShardResult, ShardSettings, write_shard
from dlts_beam.spec import SeriesSpec
from tests.helpers import make_series, random_cube


def setting(folder: Path, count: int = 40) -> tuple[SeriesSpec, ShardSettings, list[PlanFile]]:
    cube = random_cube(steps=3, height=20, width=30)
    series = make_series(folder / "series", cube, nodata=0)
    places = np.random.default_rng(0).choice(600, count, replace=False).astype(np.int64)
    zero = np.zeros(count, np.int64)
    points = Candidates(np.arange(count), places // 30, places % 30, zero, zero)
    layout, tiling = RecordLayout(3, 3, 2, "uint16"), Tiling(series.grid, 8, 8, 3)
    settings = ShardSettings(str(folder / "out"), tiling, layout, (whole_series(series),), 1, 1, 300.0)
    plans = plan_shards(points, (), tiling, 1, 5)
    return series, settings, [write_plan(plan, settings.folder) for plan in plans]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_plan_gives_a_shard_and_a_result(tmp_path: Path, workers: int):
    series, settings, plans = setting(tmp_path)
    path = str(tmp_path / "out" / "results.json")

    def build(pipeline: beam.Pipeline) -> object:
        results = pipeline | beam.Create([plan.path for plan in plans]) | ExtractSamples(series, settings)
        return results | WriteResults(path)

    result = run_pipeline(build, parse_options([f"--direct_num_workers={workers}"]))
    results = read_results(path, plans)
    assert [found.samples for found in results] == [plan.candidates for plan in plans]
    counters = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counted = {counter.key.metric.name: counter.committed for counter in counters}
    assert counted["samples"] == 40
    touched = sum(1 for plan in plans for _ in settings.tiling.touched(read_plan(plan.path).points))
    assert counted["windows_read"] == touched
    assert len(list((tmp_path / "out").glob("samples-*"))) == len(plans) == 5


def test_reading_cutting_and_writing_are_one_stage(tmp_path: Path):
    """Pixels must not cross a fusion break: after the reshuffle there is one DoFn that gives counts."""
    series, settings, plans = setting(tmp_path)
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([plan.path for plan in plans]) | ExtractSamples(series, settings)
    labels: list[str] = []

    class Visitor(beam.pipeline.PipelineVisitor):
        def visit_transform(self, node: object) -> None:
            labels.append(node.full_label)

    pipeline.visit(Visitor())
    after = [label for label in labels if "SpreadPlans" not in label and "Create" not in label]
    assert after == ["ExtractSamples/WriteShards"]


def result_of(plan: PlanFile, **changes: object) -> ShardResult:
    given = {"shard": plan.shard, "samples": plan.candidates, "class_counts": (plan.candidates,),
             "sha256": "0" * 64, "rejected": {}, **changes}  # fmt: skip
    return ShardResult(**given)


def test_results_come_back(tmp_path: Path):
    _, _, plans = setting(tmp_path)
    results = [result_of(plan) for plan in plans]
    path = str(tmp_path / "results.json")
    assert write_results(reversed(results), path) == path
    assert read_results(path, plans) == results


def test_results_that_miss_a_shard_or_a_sample_are_refused(tmp_path: Path):
    _, _, plans = setting(tmp_path)
    path = str(tmp_path / "results.json")
    write_results([result_of(plan) for plan in plans[1:]], path)
    with pytest.raises(DltsError, match="results of 4 shards where 5 were planned"):
        read_results(path, plans)
    write_results([result_of(plans[0]), *map(result_of, plans)], path)
    with pytest.raises(DltsError, match="results of 6 shards where 5 were planned"):
        read_results(path, plans)
    few = plans[2].candidates - 1
    write_results([result_of(plan, **({"samples": few} if plan.shard == 2 else {})) for plan in plans], path)
    with pytest.raises(DltsError, match="shard 2 accounts for"):
        read_results(path, plans)


def test_the_worker_gives_what_the_function_gives(tmp_path: Path):
    """The transform's plain twin."""
    from dlts_beam.io.raster.pixels import PixelReader

    series, settings, plans = setting(tmp_path)
    path, names = str(tmp_path / "results.json"), [plan.path for plan in plans]

    def build(pipeline: beam.Pipeline) -> object:
        return pipeline | beam.Create(names) | ExtractSamples(series, settings) | WriteResults(path)

    run_pipeline(build, parse_options(["--direct_num_workers=1"]))
    written = {file.name: file.read_bytes() for file in (tmp_path / "out").glob("samples-*")}
    with PixelReader(series) as reader:
        assert [write_shard(read_plan(name), settings, reader.read_pixels) for name in names] == read_results(
            path, plans
        )
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").glob("samples-*")} == written
