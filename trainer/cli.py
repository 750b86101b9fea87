"""The flags of ``dlts train-model``; nothing here loads TensorFlow, so ``--help`` is fast."""

from __future__ import annotations

import argparse

from trainer.models import ARCHITECTURES

DESCRIPTION = """\
Train a model on the samples that generate-series extracted, measure it on samples it has never seen, and
write a model folder that classify-img-series takes as it is.
"""

EPILOG = """\
examples:
  dlts train-model -i series -o model                      conv_bilstm, the defaults
  dlts train-model -i series -o model --model lstm -e 50 -l 0.001
  dlts train-model -i series -o model --split-by block     whole spatial blocks per split
  dlts train-model -i other_series -o model -n             measure an existing model, train nothing

The split is made by sample unless --split-by says otherwise: every class then has its share of train,
validation and test, and figures compare with the random splits that papers quote. Samples that lie near each
other look alike, so such figures flatter: use --split-by block (or a column) to know how a model does in
places it has not seen.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of step 3."""
    parser = argparse.ArgumentParser(
        prog="dlts train-model",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-i", "--series-dir", required=True, metavar="DIR", help="samples folder that generate-series wrote")
    add("-o", "--output-dir", required=True, metavar="DIR", help="model folder to write (with -n: to read)")
    add("-s", "--seed", type=int, default=2, help="seed of split, order and weights (default: %(default)s)")
    add("-n", "--only-evaluate", action="store_true",
        help="train nothing: measure the model in -o on those samples of -i that are new to it")  # fmt: skip
    add("-v", "--validation-split", type=float, default=0.15, metavar="F",
        help="fraction of the samples that chooses the best epoch (default: %(default)s)")  # fmt: skip
    add("-t", "--test-split", type=float, default=0.15, metavar="F",
        help="fraction of the samples that measures the result (default: %(default)s)")  # fmt: skip
    add("-e", "--epochs", type=int, default=100, help="passes over the training split (default: %(default)s)")
    add("-b", "--batch-size", type=int, default=16, help="samples per update (default: %(default)s)")
    add("-l", "--learning-rate", type=float, default=0.00005, help="of Nadam (default: %(default)s)")
    names = ", ".join(ARCHITECTURES)
    add(
        "--model", default="conv_bilstm", metavar="NAME", help=f"architecture: {names} (default: %(default)s)"
    )
    add(
        "--model-config",
        metavar="FILE",
        help="sizes of the architecture: a JSON file, or JSON such as '{\"units\": 64}'",
    )
    _add_split_flags(parser)
    _add_preparation_flags(parser)
    return parser


def _add_split_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("split")
    group.add_argument(
        "--split-by",
        default="sample",
        metavar="GROUP",
        help="what stays whole on one side: sample (a pixel, with all its seasons), block (spatial blocks of "
        "the samples folder), polygon, or a kept attribute (default: %(default)s)",
    )
    group.add_argument(
        "--split-column",
        metavar="COLUMN",
        help="a kept attribute that says train, validation or test; overrides -v, -t and --split-by",
    )


def _add_preparation_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("preparation (stored with the model, applied in step 4 too)")
    group.add_argument("--bands", nargs="+", metavar="NAME", help="bands to use, by name (default: all)")
    group.add_argument(
        "--index",
        action="append",
        default=[],
        metavar="NAME=A,B",
        help="add the normalised difference (A - B) / (A + B) of two bands; may be repeated",
    )
    group.add_argument(
        "--timeline",
        metavar="START/END/STEP",
        help="regular time steps: days after the first one (0/352/16), from month-day on (09-01/08-28/16), "
        "or a number of steps (24)",
    )
    group.add_argument(
        "--composite",
        default="interpolate",
        metavar="METHOD",
        help="how a step of the timeline gets its value: interpolate, median, or max:NAME for the "
        "observation with the largest value of that band or index (default: %(default)s)",
    )
    group.add_argument(
        "--min-valid", type=int, default=1, metavar="N", help="observed time steps a pixel needs (default: 1)"
    )
