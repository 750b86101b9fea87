"""``dlts demo``: all four steps on a synthetic deforestation scene, scored against its truth."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.synthetic import Points, Scene, make_scene, sample_points
from pipelines._main import run_main
from pipelines.baselines import Baseline, score_baselines
from pipelines.cli import main as dlts

DESCRIPTION = """\
Make a year of cloudy images over a deforestation frontier, with labelled points and the true map, then run
the four steps on it as a user would and compare the map with the truth, and with simpler methods that learn
from the same points.
"""

POINTS_PER_CLASS = 300
TEST_PIXELS = 100_000
# What the best single date leaves to be gained by looking at all of them, at least.
MARGIN = 0.10
# A quick recipe: the defaults of train-model are meant for larger sample sets and more patience. With 64
# units instead of 256 an lstm trains and classifies several times faster, and is as good on so few points.
TRAINING = ("-b", "32", "-l", "0.002")
SIZES = {"lstm": {"units": 64}}
TILE = 128  # tiles are what workers share out: enough of them on a small scene


@dataclass(frozen=True)
class Folders:
    """Where the demo puts things."""

    root: str

    def __getitem__(self, name: str) -> str:
        return storage.join(self.root, name)


@dataclass(frozen=True)
class Score:
    """The map against the truth.

    Attributes:
        accuracy: share of the pixels with a truth, training points left out, that have their class;
            a pixel without a class counts as wrong.
        recall, precision: per class, in the order of the scene's classes; NaN where undefined.
        unlabelled: pixels with a truth and no class in the map.
        invented: pixels that were never observed and have a class all the same.
        nodata: pixels that were never observed and have none, as it should be.
    """

    accuracy: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    unlabelled: int
    invented: int
    nodata: int


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of ``dlts demo``."""
    parser = argparse.ArgumentParser(
        prog="dlts demo", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-o", "--output-dir", default="demo", help="folder for all results (default: %(default)s)")
    add("-e", "--epochs", type=int, default=40, help="passes over the samples (default: %(default)s)")
    add(
        "--size", type=int, default=512, help="height and width of the scene in pixels (default: %(default)s)"
    )
    add("--seed", type=int, default=7, help="another seed is another scene (default: %(default)s)")
    add("--model", default="lstm", help="architecture, as in dlts train-model (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; gives 1 where a step fails, or where the best single date comes within 10 points."""
    return run_main(build_parser, _run, argv)


def _run(args: argparse.Namespace) -> int:
    # GDAL and geopandas take a second to import: not before the flags are read.
    from dlts_beam.io.raster.quicklook import write_quicklook
    from dlts_beam.io.scene import read_map, write_scene

    start = time.monotonic()
    folders = Folders(args.output_dir)
    storage.check_writable(folders.root)
    try:
        scene = make_scene(args.size, args.seed)
    except ValueError as error:
        raise DltsError(f"cannot make the scene: {error}") from error
    points = sample_points(scene, POINTS_PER_CLASS, args.seed)
    files = write_scene(scene, points, folders["scene"])
    print(describe(scene, points), flush=True)

    map_path, picture = folders["map.tif"], folders["map.png"]
    _step("generate-img-series", "-i", files.images, "-o", folders["series"])
    _step("generate-series", "-i", folders["series"], "-s", files.points, "--classes", files.classes,
          "-o", folders["samples"])  # fmt: skip
    _step("train-model", "-i", folders["samples"], "-s", str(args.seed), "-e", str(args.epochs), *TRAINING,
          "--model", args.model, *_sizes(args.model, folders), "-o", folders["model"])  # fmt: skip
    _step("classify-img-series", "-i", folders["series"], "-m", folders["model"], "--tile", str(TILE),
          "-o", map_path)  # fmt: skip

    grid, values = read_map(map_path)
    truth_grid, _ = read_map(files.truth)
    if grid != truth_grid:
        raise DltsError(f"the map {map_path} does not lie on the grid of the scene")
    score = score_map(values, scene, points)
    print("\nSimpler methods on the same points", flush=True)
    baselines = score_baselines(scene, points, _test_pixels(scene, points))
    write_quicklook(map_path, picture, scene.classes.rows, title=f"{args.model} on {len(scene.dates)} dates")
    write_quicklook(files.truth, folders["truth.png"], scene.classes.rows, title="truth")
    storage.write_text(folders["scores.json"], _to_json(score, baselines, args.model))

    print(f"\n{summary(score, baselines, scene, args.model)}")
    print(f"\nmap:              {map_path}")
    print(f"quicklook:        {picture} (truth: {folders['truth.png']})")
    print(f"training report:  {storage.join(folders['model'], 'report.html')}")
    print(f"took {time.monotonic() - start:.0f} s")
    single = next(row for row in baselines if row.single_date)
    if score.accuracy - single.accuracy < MARGIN:
        print(
            f"error: one date alone reaches {single.accuracy:.1%} and the map {score.accuracy:.1%}:"
            f" less than {100 * MARGIN:.0f} points apart, so the series was of little use",
            file=sys.stderr,
        )
        return 1
    return 0


def _sizes(model: str, folders: Folders) -> tuple[str, ...]:
    """The flag that makes a model smaller than by default, where there is one."""
    if model not in SIZES:
        return ()
    path = folders["sizes.json"]
    storage.write_text(path, json.dumps(SIZES[model]) + "\n")
    return ("--model-config", path)


def _step(*argv: str) -> None:
    print(f"\n$ dlts {' '.join(argv)}", flush=True)
    start = time.monotonic()
    status = dlts(argv)
    if status:
        raise DltsError(f"dlts {argv[0]} ended with status {status}: see above")
    print(f"({argv[0]}: {time.monotonic() - start:.0f} s)", flush=True)


def describe(scene: Scene, points: Points) -> str:
    """Two lines about the scene for people."""
    covered = scene.truth != scene.classes.nodata
    cloud = 1 - scene.valid[:, covered].mean()
    events = ", ".join(f"{event:%Y-%m-%d}" for event in scene.events)
    return (
        f"A scene of {scene.grid.width} x {scene.grid.height} pixels, {len(scene.dates)} dates from"
        f" {scene.dates[0]} to {scene.dates[-1]}, {len(scene.bands)} bands, {cloud:.0%} under cloud;"
        f" {len(points)} points in {len(scene.classes)} classes.\nForest falls on {events}."
    )


def score_map(values: np.ndarray, scene: Scene, points: Points) -> Score:
    """Compare a map (H, W) with the truth of a scene; the pixels of training points do not count."""
    covered = scene.truth != scene.classes.nodata
    labelled = values != scene.classes.nodata
    counted = covered.copy()
    counted[points.row, points.col] = False
    right = counted & (values == scene.truth)

    def share(value: int, whole: np.ndarray) -> float:
        count = int((counted & (whole == value)).sum())
        return float((right & (scene.truth == value)).sum()) / count if count else float("nan")

    return Score(
        accuracy=float(right.sum()) / max(1, int(counted.sum())),
        recall=tuple(share(value, scene.truth) for value in scene.classes.values),
        precision=tuple(share(value, values) for value in scene.classes.values),
        unlabelled=int((covered & ~labelled).sum()),
        invented=int((~covered & labelled).sum()),
        nodata=int((~covered & ~labelled).sum()),
    )


def _test_pixels(scene: Scene, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of up to TEST_PIXELS pixels with a truth, none of them a training point."""
    free = scene.truth != scene.classes.nodata
    free[points.row, points.col] = False
    row, col = np.nonzero(free)
    chosen = np.random.default_rng(0).permutation(len(row))[:TEST_PIXELS]
    return row[chosen], col[chosen]


def summary(score: Score, baselines: Sequence[Baseline], scene: Scene, model: str) -> str:
    """The table that the demo ends with."""
    rows = [(f"{model} on all {len(scene.dates)} dates: the map", score.accuracy)]
    rows += [(row.name, row.accuracy) for row in baselines]
    width = max(len(name) for name, _ in rows)
    lines = ["Accuracy against the truth", *(f"  {name:<{width}}  {share:6.1%}" for name, share in rows), ""]
    lines.append(f"  {'class of the map':<{width}}  recall  precision")
    for name, recall, precision in zip(scene.classes.names, score.recall, score.precision, strict=True):
        lines.append(f"  {name:<{width}}  {recall:6.1%}     {precision:6.1%}")
    lines.append(
        f"\n{score.nodata:,} pixels were never observed and are nodata in the map;"
        f" {score.invented:,} never observed ones have a class, {score.unlabelled:,} observed ones have none."
    )
    return "\n".join(lines)


def _to_json(score: Score, baselines: Sequence[Baseline], model: str) -> str:
    content = {
        "model": model,
        "accuracy": score.accuracy,
        "pixels": {"unlabelled": score.unlabelled, "invented": score.invented, "nodata": score.nodata},
        "baselines": {row.name: row.accuracy for row in baselines},
    }
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    sys.exit(main())
