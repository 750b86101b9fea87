"""Defect 9 of dl-time-series: nothing tied a model to its data, and what it knew of itself was a pickle."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dlts_beam.spec import ModelSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main

PICKLE_NAMES = (".pkl", ".pickle", ".npy", ".joblib")


def test_a_model_knows_its_data_and_holds_no_pickle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake((12, 12))
    fake.spec = replace(fake.spec, series="c0ffee" + "0" * 58)
    write_fake(tmp_path / "s", fake)
    (tmp_path / "c.json").write_text('{"units": 4}')
    flags = ["--model", "lstm", "-e", "1", "--model-config", str(tmp_path / "c.json")]
    assert main(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), *flags]) == 0

    spec = ModelSpec.from_json((tmp_path / "m" / "model.json").read_text())
    assert spec.samples.series == fake.spec.series
    assert spec.samples.grid == fake.spec.grid
    assert spec.steps == fake.spec.steps
    assert [band.name for band in spec.bands] == ["b1", "b2"]
    assert json.loads((tmp_path / "m" / "model.json").read_text())["settings"]["epochs"] == 1

    for path in (tmp_path / "m").rglob("*"):
        if path.is_file():
            # A pickle of protocol 2 or later begins so; older ones cannot hold arrays sensibly.
            assert not path.read_bytes().startswith(b"\x80\x02"), path
            assert path.suffix not in PICKLE_NAMES
    with zipfile.ZipFile(tmp_path / "m" / "loss_model.keras") as archive:
        assert {Path(name).suffix for name in archive.namelist()} <= {".json", ".h5"}

    other = make_fake((12, 12))
    other.spec = replace(
        other.spec, bands=tuple(replace(band, name=f"swir{band.number}") for band in other.spec.bands)
    )
    write_fake(tmp_path / "other", other)
    assert main(["-i", str(tmp_path / "other"), "-o", str(tmp_path / "m"), "-n"]) == 1
    assert "no band b1, b2" in capsys.readouterr().err
