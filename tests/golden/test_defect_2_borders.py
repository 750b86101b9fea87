"""Defect 2: border blocks were padded on the wrong side, so their maps were shifted by one pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fakes import classify, make_model, read_map, write_scene

BRIGHTER, DARKER = 7, 3


def test_a_bright_pixel_stays_where_it_is_in_every_border_block(tmp_path: Path) -> None:
    """One pixel in each corner and on each side gets bright; with patches of 3 its neighbours do as well."""
    height, width = 9, 11
    stored = np.full((2, height, width, 1), 100, np.uint16)
    places = [(0, 0), (0, 5), (0, 10), (4, 0), (4, 10), (8, 0), (8, 5), (8, 10)]
    for row, col in places:
        stored[1, row, col] = 200
    stored[1][stored[1] == 100] = 99
    scene = write_scene(tmp_path / "series", stored)

    # A patch holds at most nine pixels: eight times -1 against once +100.
    wanted = np.full((height, width), DARKER)
    for row, col in places:
        wanted[max(0, row - 1) : row + 2, max(0, col - 1) : col + 2] = BRIGHTER

    model = make_model(tmp_path / "model", scene.spec, patch=3)
    for tile in ("4", "16"):
        output = tmp_path / f"map_{tile}.tif"
        assert classify(scene, model, output, "--tile", tile) == 0
        np.testing.assert_array_equal(read_map(output), wanted)
