from __future__ import annotations

import errno

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.retry import is_transient, retried


def failing(times: int, code: int) -> tuple[list[int], object]:
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        if len(calls) <= times:
            try:
                raise OSError(code, "no")
            except OSError as error:
                raise DltsError("cannot write x") from error
        return "done"

    return calls, work


@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_passes_is_tried_again(times: int) -> None:
    calls, work = failing(times, errno.EIO)
    assert retried(work, pause=0) == "done"  # type: ignore[arg-type]
    assert len(calls) == times + 1


def test_what_does_not_pass_is_raised_in_the_end() -> None:
    calls, work = failing(9, errno.ETIMEDOUT)
    with pytest.raises(DltsError, match="cannot write x"):
        retried(work, pause=0)  # type: ignore[arg-type]
    assert len(calls) == 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_a_full_disk_stays_full(code: int) -> None:
    calls, work = failing(1, code)
    with pytest.raises(DltsError):
        retried(work, pause=0)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_only_system_errors_pass() -> None:
    assert not is_transient(DltsError("the model does not fit"))
