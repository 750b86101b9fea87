"""What the tests of faults and signals look at."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fakes import Scene, expected_map, read_map


def is_right(scene: Scene, output: Path) -> bool:
    return bool((read_map(output) == expected_map(scene.stored, scene.spec.days, 1)).all())


def run_record(output: Path) -> dict:
    return json.loads(output.with_name(output.name + ".run.json").read_text())
