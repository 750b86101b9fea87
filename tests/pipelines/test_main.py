"""What all commands share."""

from __future__ import annotations

import gc

import pytest

from pipelines._main import _lasting


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
