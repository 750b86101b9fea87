"""What real series hold: gaps, few samples, long series, clouds and dirty bands that nobody masked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.helpers import Fake, make_fake, write_fake
from trainer.__main__ import main

CONFIG = '{"ltae_width": 16, "ltae_units": 32, "mlp_units": 32}'


def with_gaps(fake: Fake) -> Fake:
    """26 % of the values are missing and hold nonsense; some samples were never seen at all."""
    generator = np.random.default_rng(1)
    fake.valid &= generator.random(fake.valid.shape[:2])[:, :, None, None, None] >= 0.26
    fake.valid[:2] = False
    fake.stored[~fake.valid] = -32768
    return fake


def with_clouds(fake: Fake) -> Fake:
    """A sixth of the dates are bright in all bands; one band is dirty besides."""
    generator = np.random.default_rng(1)
    clouds = generator.random(fake.stored.shape[:2]) < 0.17
    fake.stored[clouds] = 8000
    dirty = generator.random(fake.stored.shape[:2]) < 0.03
    fake.stored[..., 1][dirty] = generator.choice([-32768, 32767], int(dirty.sum()))[:, None, None]
    return fake


@pytest.mark.parametrize(
    ("fake", "least"),
    [
        (with_gaps(make_fake((20, 20, 20), steps=12)), 0.8),
        (with_clouds(make_fake((60, 60), steps=24)), 0.7),
        (make_fake((20, 20), steps=150, bands=1), 0.8),
    ],
    ids=["gaps and 20 samples a class", "clouds and a dirty band", "150 time steps of one band"],
)
def test_training_copes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any, fake: Fake, least: float
) -> None:
    write_fake(tmp_path / "s", fake)
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "auto", "--members", "1"]
    assert main([*flags, "--min-updates", "300", "-t", "0.3", "--model-config", CONFIG]) == 0
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert found["overall_accuracy"]["value"] >= least
    out, report = capsys.readouterr().out, (tmp_path / "m" / "report.html").read_text()
    cloudy = "clouds" in request.node.callspec.id
    assert ("look as if clouds were left in" in out) == cloudy
    assert ("look as if clouds were left in" in report) == cloudy
    gaps = "gaps" in request.node.callspec.id
    assert ("2 samples are observed at fewer than 1 time steps" in out) == gaps
