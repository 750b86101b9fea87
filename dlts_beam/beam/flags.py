"""Beam's flags, read strictly: every flag is known, every runner is there, and none is without effect."""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Collection, Iterable, Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, _BeamArgumentParser
from apache_beam.runners.runner import PipelineRunner

from dlts_beam.beam import flink  # noqa: F401 - flags are known once their classes are there
from dlts_beam.errors import DltsError

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


def read_flags(flags: Sequence[str], own_flags: Iterable[str]) -> argparse.Namespace:
    """All of Beam's flags, parsed.

    Args:
        own_flags: the command's own flags, to suggest for misspelt ones.

    Raises:
        DltsError: a flag is unknown, or a value is not one that its flag takes.
    """
    parser = _beam_parser()
    known, unknown = parser.parse_known_args(list(flags))
    if unknown:
        raise DltsError(_unknown(unknown[0], [*own_flags, *parser._option_string_actions]))
    return known


def read_dry_run(known: argparse.Namespace, own_flags: Collection[str]) -> bool:
    """Whether the job is only to be translated; Beam takes any text, ``False`` too, for a yes.

    Args:
        known: all of Beam's flags, parsed.
        own_flags: the command's own flags.

    Raises:
        DltsError: the value is neither true nor false; or this or a template is asked of a runner that would
            run the job nevertheless.
    """
    text = str(known.dry_run).lower()
    if text not in (*_TRUE, *_FALSE):
        raise DltsError(f"--dry_run must be True or False; got {known.dry_run!r}")
    dry = text in _TRUE
    if (known.runner or "").lower().removesuffix("runner") == "dataflow":
        return dry
    hint = "; --dry-run tells what this command would do" if "--dry-run" in own_flags else ""
    for flag, given, more in (("--dry_run", dry, hint), ("--template_location", known.template_location, "")):
        if given:
            raise DltsError(
                f"{flag} is for --runner=DataflowRunner only, others would run the job: leave it out{more}"
            )
    return False


def unknown_flags(flags: Sequence[str]) -> list[str]:
    """Those that no options class of Beam knows.

    Raises:
        DltsError: a value is not one that its flag takes.
    """
    return _beam_parser().parse_known_args(list(flags))[1]


def _beam_parser() -> _OptionsParser:
    parser = _OptionsParser(allow_abbrev=False)
    # By name, as Beam does it: reloaded modules leave several classes of one name behind.
    for options_class in {str(found): found for found in PipelineOptions.__subclasses__()}.values():
        options_class._add_argparse_args(parser)
    return parser


class _OptionsParser(_BeamArgumentParser):
    """Beam's flags, with errors as exceptions in place of a usage text of 300 flags."""

    def error(self, message: str) -> NoReturn:
        raise DltsError(f"{message} (a flag of Apache Beam)")


def _unknown(argument: str, known: Iterable[str]) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {argument!r}: every value must follow its flag"
    flag = argument.partition("=")[0]
    close = difflib.get_close_matches(flag, set(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "see --help, and Apache Beam's pipeline options"
    return f"unknown flag {flag}: {hint}"


def check_runner(runner: str | None) -> None:
    """Refuse a runner that is not there.

    Args:
        runner: value of ``--runner``: a name of Beam's, or ``MODULE.CLASS``; None where it is not given.

    Raises:
        DltsError: Beam knows no such name, or the class cannot be imported.
    """
    if runner is not None and any(character.isspace() for character in runner):
        raise DltsError(
            f"--runner is one name without spaces; got {runner!r}. Where that came from a shell variable: zsh"
            ' does not split it into flags, so make it an array and write "${NAME[@]}"'
        )
    names = StandardOptions.KNOWN_RUNNER_NAMES
    short = {name.lower() for name in names} | {name.lower().removesuffix("runner") for name in names}
    if runner is None or runner.lower() in short:
        return
    if "." in runner:
        _check_import(runner)
        return
    close = difflib.get_close_matches(runner, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(names)}"
    raise DltsError(f"unknown runner {runner}: {hint}")


def _check_import(runner: str) -> None:
    """Refuse a runner that is given by the name of its class, and is not there."""
    module, _, name = runner.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, PipelineRunner)):
            raise TypeError(f"{name} is no runner")
    except Exception as error:  # whatever a module does when it is imported
        raise DltsError(
            f"--runner {runner}: there is no such runner here ({error}); give a runner of Beam, such as"
            " FlinkRunner, or MODULE.CLASS of one that is installed"
        ) from error
