"""A long series where few files may be open at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.fakes import expected_map, make_model, read_map, write_scene

STEPS, SIDE, OPEN_FILES = 500, 12, 256


def test_500_files_where_256_may_be_open(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(1, 2000, (STEPS, SIDE, SIDE, 1), np.uint16)
    scene = write_scene(tmp_path / "series", stored)
    model = make_model(tmp_path / "model", scene.spec)
    command = [sys.executable, "-m", "pipelines.classify_img_series", "--direct_num_workers", "2"]
    command += ["-i", str(scene.folder), "-m", str(model), "-o", str(tmp_path / "map.tif")]
    limited = ["sh", "-c", f'ulimit -n {OPEN_FILES} && exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_map(tmp_path / "map.tif"), expected_map(stored, scene.spec.days, 1))
