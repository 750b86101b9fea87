from __future__ import annotations

from dlts_beam.errors import DltsError, causes


def test_all_that_lies_behind_an_error_is_found() -> None:
    disk = OSError("the disk")
    try:
        try:
            try:
                raise disk
            except OSError as error:
                raise DltsError("cannot read it") from error
        except DltsError:
            raise KeyError("while that was handled")  # noqa: B904
    except KeyError as error:
        found = list(causes(error))
    assert [type(one) for one in found] == [KeyError, DltsError, OSError]
    assert found[-1] is disk
