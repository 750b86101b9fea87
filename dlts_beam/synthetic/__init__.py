"""A synthetic deforestation scene with known truth, in plain numpy."""

from __future__ import annotations

from dlts_beam.synthetic.points import Points, sample_points
from dlts_beam.synthetic.scene import Scene, make_scene

__all__ = ["Points", "Scene", "make_scene", "sample_points"]
