"""Step 4 against the naive way, a plain loop, the machine's matrix product and a raw read.

    python -m benchmarks.classify [--size 512] [--pairs 3] [--only vs_naive vs_plain_loop …]

A made-up scene of 24 dates x 4 bands in tiled deflate GeoTIFFs, half of it under 30 % cloud; models of the
parent's sizes with random weights, ``auto`` as ``--model auto`` trains it (networks and trees), ``pair`` one
pair of its networks. The naive way is a plain re-implementation with the same weights: 256 x 256
blocks, a patch tensor per pixel, ``model.predict``, TensorFlow's default settings. Every contestant runs
in a process of its own; each round runs all that are needed once, one after the other, and every ratio is
made within a round. Timed is what comes after set-up: from the first tile to the finished map. Ratios of
processor seconds stand beside those of the clock: they say the same on an idle machine, and less nonsense
on a busy one. ``read_vs_raw`` takes but a fifth of a second on 512 x 512 pixels, and the first window's
memory is much of that: ``--only read_vs_raw --size 1024 --pairs 9`` says more. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Side(NamedTuple):
    """A contestant: what it does, with which model, with how many workers."""

    kind: str
    model: str
    workers: int


@dataclass(frozen=True)
class Figure:
    """A ratio: seconds of ``above`` by seconds of ``below``.

    Attributes:
        least: what it must reach.
        goal: what it should reach; None where there is no other.
    """

    above: Side
    below: Side
    least: float
    goal: float | None = None


OURS = Side("ours", "conv_bilstm", 2)
ALONE = Side("ours", "conv_bilstm", 1)
NAIVE = Side("naive", "conv_bilstm", 2)
FIGURES = {
    "read_vs_raw": Figure(Side("raw", "auto", 1), Side("read", "auto", 1), 0.8),
    "lstm64_vs_naive": Figure(Side("naive", "lstm64", 2), Side("ours", "lstm64", 2), 6),
    "lstm256_vs_naive": Figure(Side("naive", "lstm256", 2), Side("ours", "lstm256", 2), 3),
    "auto_vs_naive": Figure(NAIVE, Side("ours", "auto", 2), 50, 100),
    "pair_vs_naive": Figure(NAIVE, Side("ours", "pair", 2), 50, 100),
    "vs_naive": Figure(NAIVE, OURS, 4, 5),
    "two_workers": Figure(ALONE, OURS, 1.8),
    "two_processes": Figure(ALONE, Side("processes", "conv_bilstm", 2), 1.8),
    "gemm_fraction": Figure(Side("gemm", "conv_bilstm", 1), ALONE, 0.7),
    "vs_plain_loop": Figure(Side("plain", "conv_bilstm", 1), ALONE, 0.95),
}
Timings = dict[Side, list[dict[str, float]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; goals that were missed are printed as missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="side of the scene in pixels")
    parser.add_argument("--pairs", type=int, default=3, help="rounds")
    parser.add_argument("--tile", type=int, help="side of a tile (default: as step 4 chooses it)")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME",
                        help=f"of {', '.join(FIGURES)}")  # fmt: skip
    options = parser.parse_args(argv)
    from benchmarks._scene import make_models, make_scene
    from dlts_beam.plan import default_tile

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tile = options.tile or default_tile(options.size, options.size)
    machine = describe_machine()
    print(f"{options.size} x {options.size} pixels, tiles of {tile}; {json.dumps(machine)}")
    with tempfile.TemporaryDirectory(prefix="dlts-bench-") as scratch:
        folder = Path(scratch)
        make_scene(folder / "series", options.size)
        sides = sides_of(options.only)
        make_models(folder, sorted({side.model for side in sides}))
        timings = run_rounds(sides, options.pairs, folder, tile)
    report = {name: judge(name, timings) for name in options.only}
    missed = [name for name, figure in report.items() if not figure["met"]]
    result: dict[str, Any] = {name: figure["ratio"] for name, figure in report.items()}
    result |= {"missed": missed, "size": options.size, "tile": tile, "machine": machine, "figures": report}
    print(json.dumps(result))


def sides_of(names: Sequence[str]) -> list[Side]:
    """The contestants of some figures, each once, neighbours where one figure compares them."""
    sides: list[Side] = []
    for name in FIGURES:
        if name in names:
            sides += [side for side in (FIGURES[name].above, FIGURES[name].below) if side not in sides]
    return sides


def run_rounds(sides: Sequence[Side], rounds: int, folder: Path, tile: int) -> Timings:
    """All contestants one after the other, several times; every raw timing is printed."""
    timings: Timings = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            timing = run_alone(side, folder, tile)
            timings[side].append(timing)
            load = os.getloadavg()[0]
            print(
                f"round {number + 1}  {side.kind:9s} {side.model:11s} {side.workers} workers "
                f" start-up {timing['startup']:6.2f} s  work {timing['seconds']:8.3f} s"
                f"  processor {timing['cpu']:8.3f} s  load {load:.1f}",
                flush=True,
            )
    return timings


def run_alone(side: Side, folder: Path, tile: int) -> dict[str, float]:
    """Time one contestant in a fresh process."""
    what = [side.kind, side.model, str(side.workers), str(folder), str(tile)]
    command = [sys.executable, "-m", "benchmarks._contestants", *what]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    timing: dict[str, float] = json.loads(told.splitlines()[-1])
    return timing


def judge(name: str, timings: Timings) -> dict[str, Any]:
    """The median of the rounds' ratios, held against the goal."""
    figure = FIGURES[name]
    pairs = list(zip(timings[figure.above], timings[figure.below], strict=True))
    ratio, cpu = (
        statistics.median(above[clock] / below[clock] for above, below in pairs)
        for clock in ("seconds", "cpu")
    )
    met = ratio >= figure.least
    verdict = "ok" if met else "MISSED"
    if met and figure.goal is not None:
        reached = "reached" if ratio >= figure.goal else "MISSED"
        verdict += f", goal {figure.goal:g} {reached}"
    seconds = [[round(side["seconds"], 3) for side in pair] for pair in pairs]
    print(f"{name:17s} {ratio:8.2f}  (at least {figure.least:g}: {verdict})  by processor time {cpu:.2f}")
    shown = {"ratio": round(ratio, 3), "by_cpu": round(cpu, 3), "least": figure.least, "met": met}
    if figure.goal is not None:
        shown |= {"goal": figure.goal, "goal_met": ratio >= figure.goal}
    startup = [[round(side["startup"], 3) for side in pair] for pair in pairs]
    return {**shown, "seconds": seconds, "startup": startup}


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    from importlib.metadata import version

    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        **{name: version(name) for name in ("tensorflow", "onnxruntime", "apache-beam")},
    }


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
