"""Every phase of the benchmark of scale does its work, on a small grid and in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import scale

SIDE = 1700


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scale")
    scale.make(place, SIDE)
    return place


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("series", {"files": 2400, "sources": 9600}),
        ("plan", {"tiles": 16}),
        ("listing", {"to_read_gb": 1687}),
        ("graph", {"lists": 1}),
        ("certificate", {}),
        ("mosaic", {"pixels": SIDE * SIDE}),
        ("dataflow", {}),
    ],
)
def test_a_phase_does_its_work(name: str, expected: dict[str, int], folder: Path) -> None:
    found = scale.measure(scale.PHASES[name], folder)
    assert {key: found[key] for key in expected} == expected
    assert found["seconds"] < scale.SECONDS_LIMIT
    if name == "dataflow":
        assert 0 < found["job_mb"] * 1e6 < scale.JOB_LIMIT


def test_all_parts_are_found_again(folder: Path) -> None:
    scale._some_parts(folder, 0, 2)
    assert scale.measure(scale.resume_phase, folder)["reused"] == 8
    scale._some_parts(folder, 1, 2)
    assert scale.measure(scale.resume_phase, folder)["reused"] == 16


def test_limits_that_were_passed_are_told() -> None:
    found = {"seconds": 3.0, "processor": 2.0, "peak_mb": 300, "job_mb": 0.2}
    assert scale.line("dataflow", found).endswith("peak 300 MB: ok (job_mb 0.2)")
    for wrong in ({"seconds": 61.0}, {"peak_mb": 1001}, {"job_mb": 10.5}):
        assert ": MISSED (" in scale.line("dataflow", {**found, **wrong})


def test_a_phase_in_a_process_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = scale.in_process("series", folder)
    assert found["files"] == 2400
    scale.main(["--in-process", "series", "--folder", str(folder)])
    assert json.loads(capsys.readouterr().out)["sources"] == 9600
