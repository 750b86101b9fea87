"""``make real``: the four steps on real labelled series, accuracy beside what each data set quotes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlts_beam.errors import DltsError
from pipelines._main import run_main
from pipelines.cli import main as dlts

SEEDS = (2, 3, 4)
MARGIN = 0.05  # how far below the quoted random forest a quick training may stay


@dataclass(frozen=True)
class RealSet:
    """One data set: how its README says to use it, and the accuracy it quotes.

    Attributes:
        images: folder of images under the data folder.
        points: labelled points.
        classes: number of classes.
        series_flags: further flags of step 1.
        quoted: overall accuracy of a random forest, random 5-fold, from the set's README.
        grouped: the same with neighbours or repeated places kept on one side.
    """

    name: str
    images: str
    points: str
    classes: int
    series_flags: tuple[str, ...]
    quoted: float
    grouped: float


SETS = (
    RealSet(
        "porto_dos_gauchos_modis_2012", "images", "samples/points.gpkg", 5,
        ("-b", "1", "2", "3", "4", "5", "6"), 0.9966, 0.9691,
    ),
    RealSet(
        "mato_grosso_modis_samples", "mosaic/images", "mosaic/points.gpkg", 7,
        ("-b", "1", "2", "3", "4", "--undated"), 0.9695, 0.9695,
    ),
    RealSet("rondonia_sentinel2_samples", "mosaic/images", "mosaic/points.gpkg", 3, (), 0.8628, 0.8628),
    RealSet("bahia_cbers4_2019", "mosaic/images", "mosaic/points.gpkg", 4, (), 0.9479, 0.9382),
)  # fmt: skip
QUICK = SETS[:2]
# Enough for CI: a small pixel model with a quick learning rate. `--full` trains as a user would.
QUICK_TRAINING = ("--model", "lstm", "--model-config", '{"units": 64}', "-e", "40", "-b", "32", "-l", "0.003")


@dataclass(frozen=True)
class Result:
    """Test samples of all seeds of one set."""

    correct: int
    tested: int
    bound: float

    @property
    def accuracy(self) -> float:
        """Share of the pooled test samples that got their own class."""
        return self.correct / self.tested


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of ``python -m pipelines.real``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.real", description=__doc__)
    parser.add_argument("--data", default="../shared/data", help="folder of the data sets")
    parser.add_argument("-o", "--output-dir", default="real", help="where results go (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="two sets and few epochs: what CI runs")
    parser.add_argument("--train-flags", nargs=argparse.REMAINDER, help="flags for train-model (last)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the four steps on each set; 1 where a set stays below its bound."""
    return run_main(build_parser, _run, argv)


def _run(args: argparse.Namespace) -> int:
    data = Path(args.data)
    if not data.is_dir():
        raise DltsError(f"there is no data folder {data}: name it with --data")
    training = tuple(args.train_flags or QUICK_TRAINING)
    output = Path(args.output_dir)
    results = {chosen: run_set(chosen, data, output, training) for chosen in (QUICK if args.quick else SETS)}
    print(f"\n{'data set':32} {'ours':>8} {'samples':>8} {'RF random':>10} {'RF grouped':>11} {'bound':>7}")
    low = []
    for chosen, result in results.items():
        verdict = "" if result.accuracy >= result.bound else "  BELOW"
        print(
            f"{chosen.name:32} {result.accuracy:8.4f} {result.tested:8} {chosen.quoted:10.4f}"
            f" {chosen.grouped:11.4f} {result.bound:7.4f}{verdict}"
        )
        if verdict:
            low.append(chosen.name)
    if low:
        raise DltsError(f"accuracy is below the bound on {', '.join(low)}")
    return 0


def run_set(chosen: RealSet, data: Path, output: Path, training: Sequence[str]) -> Result:
    """Run the four steps on one set: three trainings, the map by the first of them."""
    source, folder = data / chosen.name, output / chosen.name
    series, samples = folder / "series", folder / "samples"
    images = source / chosen.images
    _step("generate-img-series", "-i", str(images), *chosen.series_flags, "-o", str(series))
    points = str(source / chosen.points)
    _step("generate-series", "-i", str(series), "-s", points, "-n", str(chosen.classes), "-o", str(samples))
    correct = tested = 0
    for seed in SEEDS:
        model = folder / f"model_seed{seed}"
        _step("train-model", "-i", str(samples), "-s", str(seed), *training, "-o", str(model))
        matrix = json.loads((model / "metrics.json").read_text())["confusion_matrix"]["values"]
        correct += sum(row[index] for index, row in enumerate(matrix))
        tested += sum(sum(row) for row in matrix)
    _step("classify-img-series", "-i", str(series), "-m", str(folder / f"model_seed{SEEDS[0]}"),
          "-o", str(folder / "map.tif"))  # fmt: skip
    return Result(correct, tested, chosen.quoted - MARGIN)


def _step(*argv: str) -> None:
    print(f"\n$ dlts {' '.join(argv)}", flush=True)
    code = dlts(argv)
    if code:
        raise DltsError(f"'dlts {argv[0]}' ended with exit code {code}: see above")


if __name__ == "__main__":
    raise SystemExit(main())
