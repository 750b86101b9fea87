"""Peak memory of a worker of step 4 on a scene, and on one 16 times larger in area.

    python -m benchmarks.memory [--size 768]

Each run is a process of its own with one worker; its peak is the system's own figure. The smaller scene is
large enough to fill GDAL's block cache, which is capped. The growth must stay
under 10 %. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STEPS, BANDS = 24, 4
LIMIT = 1.1


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both scenes; gives 1 where the growth is too large."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=768, help="side of the smaller scene in pixels")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--memory", default="600MB")
    options = parser.parse_args(argv)
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="dlts-bench-") as scratch:
        for size in (options.size, 4 * options.size):
            folder = Path(scratch) / str(size)
            # In a process of its own too: this one's memory must not pass for a worker's.
            run([sys.executable, "-c", MAKE, str(folder), str(size)])
            flags = ["-i", folder / "series", "-m", folder / "model", "-o", folder / "map.tif"]
            flags += ["--tile", options.tile, "--memory", options.memory, "--direct_num_workers", 1]
            peaks[size] = run([sys.executable, "-m", "pipelines.classify_img_series", *map(str, flags)])
            print(f"{size} x {size} pixels: peak {peaks[size] / 2**20:.0f} MiB", flush=True)
    small, large = peaks.values()
    growth = large / small
    verdict = "ok" if growth <= LIMIT else "MISSED"
    print(f"growth {growth:.3f} (at most {LIMIT}: {verdict})")
    print(
        json.dumps({"peaks_mib": {k: round(v / 2**20) for k, v in peaks.items()}, "growth": round(growth, 3)})
    )
    return 0 if growth <= LIMIT else 1


def run(command: list[str]) -> int:
    """Run a command; gives its peak in bytes."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(usage.ru_maxrss) * unit


MAKE = """
import sys
from pathlib import Path
from benchmarks.memory import make
make(Path(sys.argv[1]), int(sys.argv[2]))
"""


def make(folder: Path, size: int) -> None:
    """A made-up scene and a model of the tests."""
    from tests.fakes import make_model, write_scene

    generator = np.random.default_rng(0)
    cube = generator.integers(1, 4000, (STEPS, size // 8, size // 8, BANDS)).astype(np.uint16)
    cube = cube.repeat(8, 1).repeat(8, 2)
    cube[generator.random(cube.shape[:3]) < 0.2] = 0
    scene = write_scene(folder / "series", cube, block=256)
    make_model(folder / "model", scene.spec, patch=3, batch=4096)


if __name__ == "__main__":
    sys.exit(main())
