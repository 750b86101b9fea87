"""``python -m trainer``: train or evaluate a model (step 3)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from dlts_beam.command import crash_told, guarded
from trainer.cli import build_parser, parse_args
from trainer.evaluate import table
from trainer.quiet import softmax_of_one_step
from trainer.start import load_tensorflow

# What the launcher uses of the trainer besides running it.
__all__ = ["build_parser", "main", "parse_args", "table"]


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
    sys.exit(crash_told(main))


if __name__ == "__main__":
    run()
