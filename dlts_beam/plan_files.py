"""Shard plans as files: what the workers are to do, out of the way of the pipeline itself.

A million points inside a pipeline's description would be packed, copied and sent to every worker, and
services refuse descriptions of that size; so only the names of plan files travel.
"""

from __future__ import annotations

import io
import json
from typing import NamedTuple

import numpy as np

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.sampling import Candidates, ShardPlan

PLANS = "plans"  # folder inside the samples folder; gone when the command ends
_ARRAYS = ("feature", "row", "col", "class_id", "cut")


class PlanFile(NamedTuple):
    """Where a plan lies, and how many candidates it holds."""

    shard: int
    path: str
    candidates: int


def name_plan(plan: ShardPlan, folder: str) -> PlanFile:
    """Where `write_plan` writes a plan."""
    path = storage.join(folder, PLANS, f"plan-{plan.shard:05d}-of-{plan.shards:05d}.npz")
    return PlanFile(plan.shard, path, len(plan.points))


def write_plan(plan: ShardPlan, folder: str) -> PlanFile:
    """Write one plan under ``folder``, the samples folder."""
    file = name_plan(plan, folder)
    arrays = {name: getattr(plan.points, name) for name in _ARRAYS}
    head = json.dumps({"shard": plan.shard, "shards": plan.shards, "kept": plan.kept}).encode()
    content = io.BytesIO()
    np.savez(content, head=np.frombuffer(head, np.uint8), **arrays)
    storage.write_bytes(file.path, content.getvalue())
    return file


def read_plan(path: str) -> ShardPlan:
    """Read one plan back.

    Raises:
        DltsError: it is gone: two runs write to one folder.
    """
    if not storage.exists(path):
        raise DltsError(f"{path} is gone: does another run write to this folder? Run this one again, alone")
    with np.load(io.BytesIO(storage.read_bytes(path))) as content:
        head = json.loads(content["head"].tobytes())
        points = Candidates(*(content[name] for name in _ARRAYS))
    return ShardPlan(head["shard"], head["shards"], points, tuple(tuple(texts) for texts in head["kept"]))
