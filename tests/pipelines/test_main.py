"""What all commands share."""

from __future__ import annotations

import argparse
import gc

import pytest

from dlts_beam.errors import DltsError
from pipelines._main import _lasting, run_main


@pytest.mark.parametrize("enabled", [True, False])
def test_lasting_objects_are_frozen_and_collection_is_as_before(enabled: bool) -> None:
    before = gc.get_freeze_count()
    (gc.enable if enabled else gc.disable)()
    try:
        with _lasting():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
        gc.enable()


def test_failures_are_one_sentence_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: argparse.Namespace) -> None:
        raise DltsError("the disk is full: free some space")

    def interrupt(_: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    parser = argparse.ArgumentParser
    assert run_main(parser, lambda _: None, []) == 0
    assert run_main(parser, lambda _: 3, []) == 3
    assert run_main(parser, fail, []) == 1
    assert run_main(parser, interrupt, []) == 130
    assert capsys.readouterr().err == "error: the disk is full: free some space\ninterrupted\n"
