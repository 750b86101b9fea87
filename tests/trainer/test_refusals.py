"""Bad input of a training: one sentence, and no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.helpers import Fake, make_fake, write_fake
from trainer.__main__ import main


def run(tmp_path: Path, fake: Fake, *flags: object) -> int:
    """Train on a samples folder ``s``, into the model folder ``m`` if no flag says otherwise."""
    write_fake(tmp_path / "s", fake)
    given = ["-i", tmp_path / "s", "-o", tmp_path / "m", "-e", 1, *flags]
    return main([str(flag) for flag in given])


@pytest.mark.parametrize(
    ("counts", "flags", "text"),
    [
        ((12,), ["--model", "lstm"], "all 12 samples are of one class"),
        ((12, 0), ["--model", "lstm"], "all 12 samples are of one class"),
        ((6, 6, 0), ["--model", "lstm"], "no sample is of class class 2"),
        ((1, 1, 0), ["--model", "lstm"], "fewer samples (2) than classes (3)"),
        ((30, 2), ["--model", "lstm"], "split has no sample of class 1 (2 samples in all)"),
        ((12, 12), [], "lstm"),
        ((12, 12), ["--model", "resnet"], "unknown model 'resnet'"),
        ((12, 12), ["--model", "lstm", "-v", 0.6, "-t", 0.4], "leave nothing for training"),
        ((12, 12), ["--model", "lstm", "-e", 0], "-e/--epochs must be 1 or more"),
        ((12, 12), ["--model", "lstm", "--split-by", "farm"], "no attribute of that name"),
        ((12, 12), ["--model", "lstm", "--bands", "nir"], "no band nir"),
        ((12, 12), ["--model", "lstm", "--members", 2], "no setting 'members'"),
        ((12, 12), ["--model", "lstm", "--folds", 2, "--leave-out", "x"], "give one of them"),
        ((12, 12), ["--model", "lstm", "--folds", 99], "--folds must lie between 2 and"),
        ((12, 12), ["--model", "lstm", "--leave-out", "farm"], "--leave-out farm"),
        ((12, 12), ["--model", "lstm", "--min-quality", 0.5], "quality.csv"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    counts: tuple[int, ...],
    flags: list[object],
    text: str,
) -> None:
    assert run(tmp_path, make_fake(counts), *flags) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert text in err
    assert "Traceback" not in err
    assert not (tmp_path / "m" / "model.json").exists()


def test_an_output_that_cannot_be_written_is_found_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").write_text("a file")
    assert run(tmp_path, make_fake((12, 12)), "--model", "lstm") == 1
    assert "error: " in capsys.readouterr().err


def test_a_folder_without_a_model_cannot_be_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, make_fake((12, 12)), "-n") == 1
    assert "is not a model folder" in capsys.readouterr().err


def test_a_model_is_not_put_among_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake(tmp_path / "s", make_fake((12, 12)))
    before = sorted((tmp_path / "s").iterdir())
    assert run(tmp_path, make_fake((12, 12)), "--model", "lstm", "-o", tmp_path / "s") == 1
    assert "s is a samples folder: give the model one of its own with -o" in capsys.readouterr().err
    assert sorted((tmp_path / "s").iterdir()) == before
