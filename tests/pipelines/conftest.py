"""What several tests of commands share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes import Scene, random_scene


@dataclass(frozen=True)
class RealScene:
    """A real scene and a model that was trained for it: folders of steps 1 and 3."""

    series: Path
    model: Path


def run_dlts(*arguments: str, module: str = "pipelines.cli") -> None:
    """Run a command of ours to its end, in a process of its own."""
    subprocess.run(
        [sys.executable, "-m", module, *arguments], check=True, capture_output=True, env=real_environment()
    )


def real_environment() -> dict[str, str]:
    """The environment of commands in processes of their own."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.getcwd()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A made-up scene whose sides are no multiple of any tile; modules that need another one have it."""
    return random_scene(tmp_path / "series", 37, 53)


@pytest.fixture(scope="session")
def real_scene(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RealScene:
    """The scene of ``bahia_cbers4_2019`` and a small ``conv_bilstm``, trained on its samples."""
    data, folder = real_data / "bahia_cbers4_2019", tmp_path_factory.mktemp("bahia")
    sizes, bands = {"filters": 8, "units": 8, "dense1": 16, "dense2": 8}, ("-b", "1", "2")
    (folder / "sizes.json").write_text(json.dumps(sizes))
    mosaic, samples, model, series = (str(folder / name) for name in ("mosaic", "samples", "model", "scene"))
    run_dlts("generate-img-series", "-i", str(data / "mosaic" / "images"), *bands, "-o", mosaic)
    points = str(data / "mosaic" / "points.gpkg")
    run_dlts("generate-series", "-i", mosaic, "-s", points, "-o", samples, "--no-summary")
    run_dlts(
        "train-model", "-i", samples, "-o", model, "-e", "2", "-b", "64", "-l", "0.01",
        "--model", "conv_bilstm", "--model-config", str(folder / "sizes.json"), "--no-random-forest",
    )  # fmt: skip
    run_dlts("generate-img-series", "-i", str(data / "scene" / "images"), *bands, "-o", series)
    return RealScene(Path(series), Path(model))
