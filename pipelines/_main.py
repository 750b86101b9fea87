"""What all commands share: parse, run, and one sentence on failure."""

from __future__ import annotations

import argparse
import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dlts_beam.command import guarded

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

BEAM_FLAGS = (
    "Every other flag goes to Apache Beam: --runner (default: in this process, on all cores), "
    "--direct_num_workers, --direct_running_mode, and those of other runners; an unknown flag is an error."
)

_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf(inity)?", re.IGNORECASE)


class NumbersParser(argparse.ArgumentParser):
    """A parser for flags that take negative numbers in any form that ``float`` reads.

    argparse knows -1 and -0.5 for numbers, but takes -3.4e+38 for a flag, and -inf for -i with the value nf.
    """

    def _parse_optional(self, arg_string: str) -> Any:
        # None says that it is the value of a flag. A private hook, but the one place where this is decided.
        return None if _NEGATIVE.fullmatch(arg_string) else super()._parse_optional(arg_string)


def run_main(
    build_parser: Callable[[], argparse.ArgumentParser],
    body: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a command that takes its own flags only.

    Args:
        build_parser: Gives the command's parser; imports nothing heavy, so that ``--help`` is quick.
        body: Does the work, importing what it needs; its result, if any, is the exit status.
        argv: The arguments, by default those of the process.

    Returns:
        The exit status, as `guarded` gives it.
    """
    parser = build_parser()
    parser.allow_abbrev = False

    def work() -> int | None:
        return body(parser.parse_args(argv))

    return guarded(work)


def run_open_main(
    build_parser: Callable[[], argparse.ArgumentParser],
    body: Callable[[argparse.Namespace, list[str]], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a command that hands every further argument on to ``body``; otherwise as `run_main`."""
    parser = build_parser()
    parser.allow_abbrev = False

    def work() -> int | None:
        return body(*parser.parse_known_args(argv))

    return guarded(work)


def run_beam_main(
    build_parser: Callable[[], argparse.ArgumentParser],
    body: Callable[[argparse.Namespace, PipelineOptions], int | None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a command that passes every further flag to Beam; otherwise as `run_main`."""
    parser = build_parser()
    # An abbreviation would take flags away from Beam: --direct for --direct_num_workers.
    parser.allow_abbrev = False
    parser.epilog = f"{parser.epilog}\n\n{BEAM_FLAGS}" if parser.epilog else BEAM_FLAGS

    def work() -> int | None:
        arguments, rest = parser.parse_known_args(argv)
        with _lasting():
            from dlts_beam.beam.runner import parse_options

        own_flags = [flag for action in parser._actions for flag in action.option_strings]
        return body(arguments, parse_options(rest, own_flags, getattr(arguments, "gpu", None)))

    return guarded(work)


@contextmanager
def _lasting() -> Iterator[None]:
    """What the body makes is left out of garbage collection, now and at the process's end.

    Beam's imports make half a million objects that stay: to walk them again and again while they are made,
    and once more at the end, takes a second.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_on:
            gc.enable()
