"""Beam's flags that would do nothing, or the contrary of what they say; test_runner.py has the others."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import TestOptions as BeamTestOptions

from dlts_beam.beam import dataflow
from dlts_beam.beam.runner import parse_options
from dlts_beam.errors import DltsError

DATAFLOW = "--runner=DataflowRunner"


def sentence_of(flags: list[str], own_flags: tuple[str, ...] = ()) -> str:
    with pytest.raises(DltsError) as caught:
        parse_options(flags, own_flags)
    return str(caught.value)


@pytest.mark.parametrize(("text", "dry"), [("True", True), ("1", True), ("False", False), ("no", False)])
def test_a_dry_run_is_what_its_value_says(text: str, dry: bool):
    options = parse_options([DATAFLOW, f"--dry_run={text}"])
    assert options.view_as(BeamTestOptions).dry_run is dry
    assert dataflow.is_dry_run(options) is dry


def test_a_dry_run_that_is_neither_is_refused():
    assert sentence_of([DATAFLOW, "--dry_run=perhaps"]) == "--dry_run must be True or False; got 'perhaps'"


@pytest.mark.parametrize("runner", [[], ["--runner=FlinkRunner"], ["--runner=PrismRunner"]])
def test_what_only_dataflow_leaves_undone_is_refused_on_other_runners(runner: list[str]):
    assert sentence_of([*runner, "--dry_run=True"]) == (
        "--dry_run is for --runner=DataflowRunner only, others would run the job: leave it out"
    )
    assert sentence_of([*runner, "--dry_run=True"], ("--dry-run",)).endswith(
        "leave it out; --dry-run tells what this command would do"
    )
    assert sentence_of([*runner, "--template_location=gs://b/t"], ("--dry-run",)) == (
        "--template_location is for --runner=DataflowRunner only, others would run the job: leave it out"
    )
    parse_options([*runner, "--dry_run=False"])
