"""Defect 7 of the parent: a broken image gave a series with fewer dates and no error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.generate_img_series import main
from tests.images import write_image

DAYS = ("20160101", "20160117", "20160202")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_broken_image_is_an_error_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], keep: int
):
    for day in DAYS:
        write_image(tmp_path / "i" / f"{day}.tif", np.full((40, 50), 7, np.uint8))
    broken = tmp_path / "i" / "20160117.tif"
    broken.write_bytes(broken.read_bytes()[:keep])
    flags = ["-i", str(tmp_path / "i"), "-o", str(tmp_path / "series"), "--direct_running_mode=in_memory"]
    assert main(flags) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: 1 image is unreadable or cut short: 20160117.tif (")
    assert told.count("\n") == 1
    assert not (tmp_path / "series" / "series.json").exists()
