"""``python -m trainer``: train or evaluate a model (step 3)."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from dlts_beam.command import guarded
from trainer.cli import build_parser, parse_args
from trainer.evaluate import table
from trainer.quiet import softmax_of_one_step
from trainer.start import load_tensorflow

# What the launcher uses of the trainer besides running it.
__all__ = ["build_parser", "main", "parse_args", "table"]

# The exit status of a failure that nobody foresaw, such as a GPU without memory: EX_SOFTWARE of sysexits.h.
# Python's own would be 1, that of a refusal, and whatever starts containers could not tell the two apart.
CRASHED = 70


def main(argv: Sequence[str] | None = None) -> int:
    """Run step 3; returns the exit status."""

    def work() -> int:
        args = parse_args(argv)
        load_tensorflow()
        if args.only_evaluate:
            from trainer.only_evaluate import evaluate_only

            with softmax_of_one_step():
                return evaluate_only(args)
        from trainer.run import train

        with softmax_of_one_step():
            return train(args)

    return guarded(work)


def run() -> NoReturn:
    """``python -m trainer``: `main` in a process of its own, with the status `CRASHED` after a traceback."""
    try:
        status = main()
    except Exception:  # noqa: BLE001 (whatever it is: it is told, and the process ends)
        traceback.print_exc()
        status = CRASHED
    sys.exit(status)


if __name__ == "__main__":
    run()
