"""The flags of ``dlts train-model``; nothing here loads TensorFlow, so ``--help`` is fast."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import DATE_TOLERANCE
from trainer.models import ARCHITECTURES
from trainer.recipes import AUTO, AUTO_FLAGS
from trainer.settings import DECAYS, OPTIMIZERS

DESCRIPTION = """\
Train a model on the samples that generate-series extracted, measure it on samples it has never seen, and
write a model folder that classify-img-series takes as it is. Killed and started again with the same flags,
it goes on where it was.
"""

EPILOG = """\
examples:
  dlts train-model -i series -o model --model auto         the one to start with
  dlts train-model -i series -o model                      conv_bilstm, the defaults
  dlts train-model -i series -o model --model lstm -e 50 -l 0.001
  dlts train-model -i 2019 -i 2020 -o model --model auto   samples of two years in one model
  dlts train-model -i series -o model --split-by block     whole spatial blocks per split
  dlts train-model -i series -o model --model auto --folds 5
  dlts train-model -i other_series -o model -n             measure an existing model, train nothing

The split is made by sample unless --split-by says otherwise: every class then has its share of train,
validation and test, and figures compare with the random splits that papers quote. Samples that lie near each
other look alike, so such figures flatter: use --split-by block (or a column) to know how a model does in
places it has not seen.
"""

SPLIT_BY = "sample"  # what stays whole unless --split-by says otherwise


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
    add("-i", "--series-dir", action="append", metavar="DIR", required=True,
        help="samples folder that generate-series wrote; may be repeated")
    add("-o", "--output-dir", metavar="DIR", required=True,
        help="model folder to write (with -n: to read); workers that train together share one")
    add("-s", "--seed", type=int, default=2, help="seed of split, order and weights (default: %(default)s)")
    add("-n", "--only-evaluate", action="store_true",
        help="train nothing: measure the model in -o on those samples of -i that are new to it")
    add("-v", "--validation-split", type=float, default=0.15, metavar="F",
        help="fraction of the samples that chooses the best epoch (default: %(default)s)")
    add("-t", "--test-split", type=float, default=0.15, metavar="F",
        help="fraction of the samples that measures the result (default: %(default)s)")
    add("-e", "--epochs", type=int, default=100, help="passes over the training split (default: %(default)s)")
    add("-b", "--batch-size", type=int, default=16, help="samples per update (default: %(default)s)")
    add("-l", "--learning-rate", type=float, default=0.00005, help="largest step size (default: %(default)s)")
    names = ", ".join(ARCHITECTURES)
    add("--model", default="conv_bilstm", metavar="NAME",
        help=f"architecture: {names}; or {AUTO}: recommended, with its own settings (default: %(default)s)")
    add("--model-config", metavar="FILE",
        help="sizes of the architecture: a JSON file, or JSON such as '{\"units\": 64}'")
    add("--members", type=int, metavar="N",
        help="averaged pairs of ltae_mlp(_forest), whatever --model-config says (default: 1; auto: 3)")
    add("--list-models", action=_ListModels, nargs=0, help="show parameters and cost of all models, and exit")
    _add_split_flags(parser)
    _add_training_flags(parser)
    _add_preparation_flags(parser)
    return parser


def parse_args(
    argv: Sequence[str] | None, parser: argparse.ArgumentParser | None = None
) -> argparse.Namespace:
    """Parse, by default as train-model does.

    ``--model auto`` puts its settings in the place of all defaults that no flag replaces. ``members_given``
    says whether ``--members`` was a flag: only then does it win over ``--model-config``. With ``-n``,
    ``split_by`` stays None where no flag sets it: the model folder knows how the model was split.

    Raises:
        DltsError: two flags exclude each other.
    """
    measures = parser is None  # other commands take these flags too, and none of them -n
    parser = build_parser() if parser is None else parser
    args = parser.parse_args(argv)
    members_given = args.members is not None
    if args.model == AUTO:
        parser.set_defaults(**{name: value for name, value in AUTO_FLAGS.items() if name != "model"})
        args = parser.parse_args(argv)
        args.model = AUTO_FLAGS["model"]
    args.members_given = members_given
    if args.split_by is None and not (measures and args.only_evaluate):
        args.split_by = SPLIT_BY
    if args.folds is not None and args.leave_out is not None:
        raise DltsError("--folds and --leave-out are two ways to cross-validate: give one of them")
    if args.folds is not None and args.folds < 2:
        raise DltsError(f"--folds must be 2 or more; got {args.folds}")
    if args.leave_out == "":
        raise DltsError("--leave-out must name a kept attribute; got an empty text")
    if measures and args.only_evaluate and not (args.folds is None and args.leave_out is None):
        raise DltsError(
            "-n trains nothing, and --folds and --leave-out cross-validate by training: leave -n or these out"
        )
    if not 0 <= args.min_quality <= 1:
        raise DltsError(f"--min-quality must lie between 0 and 1, as qualities do; got {args.min_quality:g}")
    if not (math.isfinite(args.date_tolerance) and args.date_tolerance >= 0):
        raise DltsError(f"--date-tolerance must be a number of 0 or more; got {args.date_tolerance:g}")
    return args


class _ListModels(argparse.Action):
    """Prints the table and exits, whatever the other flags are."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from trainer.listing import model_table
        from trainer.models import ModelShape
        from trainer.start import load_tensorflow

        load_tensorflow()
        print(model_table(ModelShape(time_steps=24, bands=4, patch=3, classes=5)))
        parser.exit()


def _add_split_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("split and evaluation").add_argument
    add("--split-by", metavar="GROUP",
        help="what stays whole on one side: sample (a pixel, with all its seasons), block (spatial blocks; "
        "of several folders in one coordinate system, all of the largest size), polygon, or a kept attribute "
        "of which every sample has a value (default: sample; with -n: as the model was split)")
    add("--split-column", metavar="COLUMN",
        help="a kept attribute that says train, validation or test; overrides -v and -t")
    add("--folds", type=int, metavar="K", help="cross-validate too: K folds by the groups of --split-by")
    add("--leave-out", metavar="COLUMN", help="cross-validate too: leave out one value of it at a time")
    add("--random-forest", action=argparse.BooleanOptionalAction, default=True,
        help="put a random forest on the same samples beside the model (default: yes)")
    add("--date-tolerance", type=float, default=DATE_TOLERANCE, metavar="DAYS",
        help="how far the day of the year of a time step may be from that of the first folder or, with -n, "
        "of the model (default: %(default)g); not compared where samples have intervals of their own")


def _add_training_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training").add_argument
    add("--optimizer", choices=OPTIMIZERS, default="nadam", help="default: %(default)s")
    add("--weight-decay", type=float, default=0.0001, metavar="F", help="of adamw (default: %(default)s)")
    add("--lr-decay", choices=DECAYS, default="none",
        help="learning rate: cosine falls to 0, plateau halves when the loss stalls (default: %(default)s)")
    add("--warmup", type=float, default=0.0, metavar="F",
        help="fraction of the updates in which the rate rises, with cosine (default: %(default)s)")
    add("--min-updates", type=int, default=0, metavar="N", help="at least so many batches; raises the epochs")
    add("--max-updates", type=int, default=0, metavar="N",
        help="at most so many batches; lowers the epochs, of which one whole one is always trained")
    add("--early-stopping", type=int, default=0, metavar="N",
        help="stop after N epochs without a better validation loss; where no sample is in the validation "
        "split, as with -v 0, without a better training loss (default: never)")
    add("--clip-norm", type=float, default=0.0, metavar="F", help="largest norm of the gradients")
    add("--label-smoothing", type=float, default=0.0, metavar="F", help="default: %(default)s")
    add("--class-weights", action="store_true", help="let every class weigh the same, however rare")
    add("--min-quality", type=float, default=0.0, metavar="F", help="train on no sample of lower quality")
    add("--quality-weights", action="store_true", help="let samples weigh by their quality")
    add("--jitter", type=float, default=0.0, metavar="F",
        help="noise on training values, in standard deviations of the band")
    add("--time-shift", type=int, default=0, metavar="N",
        help="shift training series by up to N time steps, fewer than there are")
    add("--drop-dates", type=float, default=0.0, metavar="F", help="share of dates dropped in training")
    add("--mixed-precision", action="store_true", help="float16 arithmetic, for GPUs")
    add("--devices", metavar="NAMES", help="such as GPU:0,GPU:1 or CPU (default: all GPUs, else the CPU)")
    add("--deterministic", action=argparse.BooleanOptionalAction,
        help="the same weights every time; slower on GPUs (default: on CPUs only)")
    add("--checkpoint-seconds", type=float, default=10.0, metavar="S",
        help="least time between two checkpoints (default: %(default)s)")


def _add_preparation_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("preparation (stored with the model, applied in step 4 too)").add_argument
    add("--bands", nargs="+", metavar="NAME", help="bands to use, by name (default: all)")
    add("--index", action="append", default=[], metavar="NAME=A,B",
        help="add the normalised difference (A - B) / (A + B) of two bands; may be repeated")
    add("--timeline", metavar="START/END/STEP",
        help="regular time steps: days after the first one (0/352/16), from month-day on (09-01/08-28/16), "
        "or a number of steps (24)")
    add("--composite", default="interpolate", metavar="METHOD",
        help="how a step of the timeline gets its value: interpolate, median, or max:NAME for the "
        "observation with the largest value of that band or index (default: %(default)s)")
    add("--min-valid", type=int, default=1, metavar="N", help="observed time steps needed, of those that the "
        "timeline uses (default: 1)")
