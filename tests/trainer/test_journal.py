"""A journal that was cut off goes on; one that is damaged is told in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from dlts_beam.errors import DltsError
from trainer.journal import JOURNAL, opened


def finish_trials(path: Path, count: int, lines: list[str]) -> list[int]:
    """Finish some trials; the numbers of all that are finished."""
    with opened(str(path), lines.append) as (journal, keep):
        study = optuna.create_study(storage=journal, study_name="s", load_if_exists=True)
        for _ in range(count):
            study.tell(study.ask(), 0.5)
            keep()
        return [trial.number for trial in study.trials if trial.state.is_finished()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tuned" / JOURNAL
    assert finish_trials(path, 2, []) == [0, 1]
    return path


def test_a_line_that_was_cut_off_is_removed_and_told(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    lines: list[str] = []
    assert finish_trials(path, 1, lines) == [0, 2]
    assert lines == [
        f"the last line of {path} was cut off while it was written (by a full disk or a power cut) and is "
        "removed: its trial was not finished"
    ]
    assert finish_trials(path, 0, lines) == [0, 2]
    assert len(lines) == 1
    assert os.listdir(path.parent) == [JOURNAL]  # the lock is gone


@pytest.mark.parametrize("damage", [b"", b"\0\0\0", b"7", b'{"op_code"', b"\xff"])
def test_a_damaged_line_is_told_and_stays(path: Path, damage: bytes) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join([*lines, b'{"cut off']))
    before = path.read_bytes()
    with pytest.raises(DltsError, match=f"^line 2 of {path} is damaged: restore the file, or remove it"):
        finish_trials(path, 1, [])
    assert path.read_bytes() == before


def test_a_full_disk_is_told_and_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(self: JournalFileBackend, logs: object) -> None:
        with path.open("ab") as file:
            file.write(b'{"op_co')
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(JournalFileBackend, "append_logs", write_half)
        with pytest.raises(DltsError, match=f"cannot write {path}: the disk is full"):
            finish_trials(path, 1, [])
    assert path.read_bytes() == before
