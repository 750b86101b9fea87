"""Step 1 as a transform, without the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest

from dlts_beam import storage
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.beam import series
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.beam.series import ReadHeader, WriteSeries
from dlts_beam.errors import DltsError
from dlts_beam.io.raster.headers import read_header
from dlts_beam.io.raster.vrt import write_vrts
from dlts_beam.spec.series import Reading, SeriesSpec
from tests.images import plan, write_image


def run(folder: Path, output: Path, mode: str):
    entries = storage.list_files(folder)

    def build(pipeline: beam.Pipeline) -> None:
        files = pipeline | beam.Create(entries)
        files | WriteSeries(str(output), SeriesSettings(root=str(folder)))

    options = parse_options([f"--direct_running_mode={mode}", "--direct_num_workers=2"])
    return run_pipeline(build, options)


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading"])
def test_the_pipeline_gives_what_the_check_alone_gives(tmp_path: Path, mode: str):
    for number in range(1, 13):
        write_image(tmp_path / "i" / f"x_2016_{number}.tif", np.full((3, 4), number, np.uint8))
    result = run(tmp_path / "i", tmp_path / "o", mode)
    spec = SeriesSpec.from_json((tmp_path / "o" / "series.json").read_bytes())
    assert spec == plan(tmp_path / "i")
    assert [step.time for step in spec.steps] == [f"2016-{number:02d}-01" for number in range(1, 13)]
    query = result.metrics().query(beam.metrics.MetricsFilter().with_name("images"))
    assert [counter.committed for counter in query["counters"]] == [12]


def test_all_problems_come_back_in_one_sentence(tmp_path: Path):
    for day in (12, 13, 14):
        write_image(tmp_path / "i" / f"201808{day}.tif", np.ones((30, 40), np.uint8))
    for day in (12, 14):
        path = tmp_path / "i" / f"201808{day}.tif"
        path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(
        DltsError, match=r"^2 images are unreadable or cut short: 20180812.tif .*, 20180814.tif "
    ):
        run(tmp_path / "i", tmp_path / "o", "multi_threading")
    assert not (tmp_path / "o").exists()


def test_a_series_that_cannot_be_written_leaves_the_one_that_is_there(tmp_path: Path):
    write_image(tmp_path / "i" / "20180812.tif", np.ones((3, 4), np.uint8))
    settings = SeriesSettings(root=str(tmp_path / "i"))
    records = [read_header(entry) for entry in storage.list_files(tmp_path / "i")]
    WriteSeries(str(tmp_path / "o"), settings)._check_and_write(records)
    before = {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()}
    endless = replace(settings, reading=Reading(0, float("inf")))
    with pytest.raises(ValueError, match="JSON"):
        WriteSeries(str(tmp_path / "o"), endless)._check_and_write(records)
    assert {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()} == before


def test_a_second_run_is_kept_out_while_the_first_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_image(tmp_path / "i" / "20180812.tif", np.ones((3, 4), np.uint8))
    settings = SeriesSettings(root=str(tmp_path / "i"))
    records = [read_header(entry) for entry in storage.list_files(tmp_path / "i")]
    writing = WriteSeries(str(tmp_path / "o"), settings)
    told: list[str] = []

    def write_with_another(spec: SeriesSpec, folder: str) -> None:
        if not told:
            with pytest.raises(DltsError) as refusal:
                writing._check_and_write(records)
            told.append(str(refusal.value))
        write_vrts(spec, folder)

    monkeypatch.setattr(series, "write_vrts", write_with_another)
    writing._check_and_write(records)
    assert told[0].startswith(f"{tmp_path / 'o'} is being written by another run (process ")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["series.json", "ts_b1.vrt"]


def test_reading_a_header_raises_nothing(tmp_path: Path):
    (tmp_path / "20180812.tif").write_bytes(b"II*\0")
    (entry,) = storage.list_files(tmp_path)
    (record,) = ReadHeader().process(entry)
    assert record.is_image
    gone = storage.FileEntry(str(tmp_path / "gone.tif"), 1, "1")
    (record,) = ReadHeader(hash_content=True).process(gone)
    assert record.is_image
