from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from trainer.progress import Progress, State, load_checkpoint, save_checkpoint


def make_state() -> State:
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7], np.int64)]
    done = Progress(
        "ltae0", [{"epoch": 1, "loss": 0.5}], {"last": weights, "acc": weights}, {"last": 1, "acc": 1}
    )
    return State([done], Progress("mlp0"), [weights[0] * 2], [np.array(3, np.int64)])


def test_round_trip(tmp_path: Path) -> None:
    path, state = str(tmp_path / "checkpoint.npz"), make_state()
    save_checkpoint(path, "a key", state)
    found = load_checkpoint(path, "a key")
    assert found is not None
    assert found.done[0].branch == "ltae0"
    assert found.done[0].history == state.done[0].history
    assert found.done[0].best_epoch == {"last": 1, "acc": 1}
    for name in ("last", "acc"):
        for ours, theirs in zip(found.done[0].best[name], state.done[0].best[name], strict=True):
            np.testing.assert_array_equal(ours, theirs, strict=True)
    assert found.current == Progress("mlp0")
    np.testing.assert_array_equal(found.variables[0], state.variables[0], strict=True)
    np.testing.assert_array_equal(found.optimizer[0], state.optimizer[0], strict=True)


def test_none_where_there_is_none_or_another_trainings(tmp_path: Path) -> None:
    path = str(tmp_path / "checkpoint.npz")
    assert load_checkpoint(path, "a") is None
    save_checkpoint(path, "a", make_state())
    assert load_checkpoint(path, "b") is None


@pytest.mark.parametrize("keep", [0, 10, 300, -30])
def test_a_damaged_one_is_never_loaded(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(str(path), "a", make_state())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DltsError, match="is damaged: remove it"):
        load_checkpoint(str(path), "a")
