"""Plans come back from their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.plan_files import read_plan, write_plan
from dlts_beam.sampling import Candidates, ShardPlan


def test_a_plan_comes_back(tmp_path: Path):
    points = Candidates(*(np.arange(5, dtype=np.int64) * factor for factor in (1, -2, 3, 4, 2**40)))
    plan = ShardPlan(3, 11, points, (("a", "ä", "", '"', "\n"), ("1",) * 5))
    file = write_plan(plan, str(tmp_path))
    assert (file.shard, file.candidates) == (3, 5)
    again = read_plan(file.path)
    assert (again.shard, again.shards, again.kept) == (3, 11, plan.kept)
    for name in vars(points):
        np.testing.assert_array_equal(getattr(again.points, name), getattr(points, name))
        assert getattr(again.points, name).dtype == np.int64


def test_a_plan_that_is_gone_is_told(tmp_path: Path):
    with pytest.raises(DltsError, match="is gone: does another run write to this folder"):
        read_plan(str(tmp_path / "plans" / "plan-00000-of-00001.npz"))
