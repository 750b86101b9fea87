"""The wanted pixels of a whole tile, and whether they are still those that a run was planned with."""

from __future__ import annotations

import numpy as np

from dlts_beam.errors import DltsError
from dlts_beam.grid import Tile, Window
from dlts_beam.io.area import Area, area_digest
from dlts_beam.io.outline import BOX

STRIP_PIXELS = 1 << 18  # asked about at once: reading a mask takes several times the memory of its answer


class AreaChangedError(DltsError):
    """The wanted pixels of a tile are others than when the run was planned."""


def tile_area(area: Area, window: Window) -> np.ndarray:
    """Bool (h, w): what `Area.inside` says of a window, asked strip by strip to need little memory.

    Raises:
        DltsError: the mask raster cannot be read.
    """
    out = np.empty((window.height, window.width), bool)
    high = max(BOX, STRIP_PIXELS // window.width // BOX * BOX)
    for row in range(0, window.height, high):
        strip = out[row : row + high]
        strip[:] = area.inside(Window(window.row + row, window.col, *strip.shape))
    return out


def planned_area(area: Area, tile: Tile, digest: str | None) -> np.ndarray:
    """Bool (h, w): the wanted pixels of a tile, which must be those that its key was made from.

    Args:
        digest: what `area_digest` gave of them when the run was planned.

    Raises:
        AreaChangedError: they are others: every worker reads the mask raster anew.
        DltsError: the mask raster cannot be read.
    """
    inside = tile_area(area, tile.window)
    if area_digest(inside) == digest:
        return inside
    if area.mask is None:
        raise AreaChangedError(
            f"other pixels of tile {tile.key} lie in the polygons of --roi on this worker than where the run"
            " was planned: give the workers the same installation and run the command again"
        )
    raise AreaChangedError(
        f"the mask {area.mask} changed while the run was on its way: its pixels in tile {tile.key} are others"
        " than at the start; leave it as it is and run the command again"
    )
