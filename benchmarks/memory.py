"""Peak memory of a worker of step 4, and files that it keeps open.

    python -m benchmarks.memory [--only growth worker files] [--size 1024]

growth: the peak on a scene, and on one 16 times larger in area; it must grow by less than 10 %. The smaller
scene decodes to 192 MiB, enough to fill GDAL's block cache, which is capped at 128.
worker: ``conv_bilstm`` of the default sizes with windows of 256 x 256 pixels; less than 0.6 GB.
files: a series of 500 files where a process may open 256.

Each run is the command itself in a process of its own with one worker; its peak is the system's own figure
(the launcher is in it, since workers are threads). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._scene import BANDS, STEPS, STORAGE_BLOCK

GROWTH_LIMIT, WORKER_LIMIT = 1.1, 600e6
FILES, OPEN_FILES = 500, 256
WINDOW = 256
Figures = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; limits that were passed are printed as missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="side of the smaller scene in pixels")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found: Figures = {}
    with tempfile.TemporaryDirectory(prefix="dlts-bench-") as scratch:
        for part in options.only:
            found |= PARTS[part](Path(scratch) / part, options.size)
    print(json.dumps(found))


def growth(folder: Path, size: int) -> Figures:
    """The peaks on both scenes, with a small model."""
    peaks = []
    for side in (size, 4 * size):
        place = folder / str(side)
        make("simple", place, side)
        peaks.append(classify(place, "model"))
        print(f"{side} x {side} pixels: peak {peaks[-1] / 2**20:.0f} MiB", flush=True)
    grown = peaks[1] / peaks[0]
    print(f"growth {grown:.3f} (less than {GROWTH_LIMIT}: {verdict(grown < GROWTH_LIMIT)})")
    return {"growth": round(grown, 3), "peaks_mib": [round(peak / 2**20) for peak in peaks]}


def worker(folder: Path, size: int) -> Figures:
    """The peak of a worker on a scene of 2 x 2 windows."""
    make("parent", folder, 2 * WINDOW)
    peak = classify(folder, "conv_bilstm")
    print(f"conv_bilstm, windows of {WINDOW}: peak {peak / 1e6:.0f} MB (less than {WORKER_LIMIT / 1e6:.0f}:"
          f" {verdict(peak < WORKER_LIMIT)})", flush=True)  # fmt: skip
    return {"worker_mb": round(peak / 1e6)}


def files(folder: Path, size: int) -> Figures:
    """Whether a series of many files is classified where few may be open."""
    make("many", folder, 64)
    try:
        peak = classify(folder, "model", open_files=OPEN_FILES)
    except subprocess.CalledProcessError:
        print(f"{FILES} files where {OPEN_FILES} may be open: MISSED")
        return {"many_files": False}
    print(f"{FILES} files where {OPEN_FILES} may be open: ok, peak {peak / 2**20:.0f} MiB")
    return {"many_files": True}


PARTS: dict[str, Callable[[Path, int], Figures]] = {"growth": growth, "worker": worker, "files": files}


def verdict(met: bool) -> str:
    return "ok" if met else "MISSED"


def classify(folder: Path, model: str, open_files: int | None = None) -> int:
    """Run step 4; gives its peak in bytes.

    Raises:
        CalledProcessError: it failed.
    """
    flags = ["-i", folder / "series", "-m", folder / model, "-o", folder / "map.tif", "--tile", WINDOW]
    flags += ["--memory", "600MB", "--direct_num_workers", 1]
    command = [sys.executable, "-m", "pipelines.classify_img_series", *map(str, flags)]
    return run(command, open_files)


def run(command: list[str], open_files: int | None = None) -> int:
    """Run a command; gives its peak in bytes."""

    def limit() -> None:
        if open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=limit) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def make(what: str, folder: Path, size: int) -> None:
    """Make a scene and a model in a process of its own: this one's memory must not pass for a worker's."""
    script = f"from pathlib import Path; from benchmarks import memory as m; m.MAKERS[{what!r}]"
    run([sys.executable, "-c", f"{script}(Path({str(folder)!r}), {size})"])


def make_simple(folder: Path, size: int) -> None:
    """A made-up scene, cloudy everywhere, and a small model of the tests."""
    from tests.fakes import make_model, write_scene

    generator = np.random.default_rng(0)
    cube = np.empty((STEPS, size, size, BANDS), np.uint16)
    for image in cube:
        fields = generator.integers(1, 4000, (-(-size // 8), -(-size // 8), BANDS), np.uint16)
        image[:] = fields.repeat(8, 0).repeat(8, 1)[:size, :size]
        image[generator.random((size, size)) < 0.2] = 0
    scene = write_scene(folder / "series", cube, block=STORAGE_BLOCK)
    make_model(folder / "model", scene.spec, patch=3, batch=4096)


def make_parent(folder: Path, size: int) -> None:
    """The scene and the ``conv_bilstm`` of the benchmarks."""
    from benchmarks._scene import make_models, make_scene

    make_scene(folder / "series", size)
    make_models(folder, ["conv_bilstm"])


def make_many(folder: Path, size: int) -> None:
    """One file for each of many dates, and a small model of the tests."""
    from tests.fakes import make_model, write_scene

    cube = np.random.default_rng(0).integers(1, 4000, (FILES, size, size, 1), np.uint16)
    scene = write_scene(folder / "series", cube)
    make_model(folder / "model", scene.spec)


MAKERS = {"simple": make_simple, "parent": make_parent, "many": make_many}

if __name__ == "__main__":
    main()
