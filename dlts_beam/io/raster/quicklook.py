"""A picture of a class map for people: colours, a legend with the share of each class, a scale bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from dlts_beam import storage
from dlts_beam.errors import DltsError

NODATA_COLOUR = "#d9d9d9"
_METRES_PER_DEGREE = 111_320.0


class MapClass(Protocol):
    """What the picture needs of a class: its value in the map, a name, a colour like #1f77b4."""

    @property
    def value(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def colour(self) -> str: ...


@dataclass(frozen=True)
class _View:
    """A map at reduced resolution.

    Attributes:
        values: (H, W), as stored.
        valid: bool (H, W).
        pixel: width of a pixel of this view in metres, None where the map has no CRS.
    """

    values: np.ndarray
    valid: np.ndarray
    pixel: float | None


def write_quicklook(
    map_path: str, png_path: str, classes: Sequence[MapClass], max_size: int = 1024, title: str | None = None
) -> None:
    """Draw a class map as a PNG of at most ``max_size`` map pixels a side.

    Shares in the legend are shares of the pixels that have a class; nodata is hatched and its share
    is that of the whole map. A map larger than ``max_size`` is read at reduced resolution (nearest
    neighbour, from overviews where there are any), and shares are those of the pixels read.

    Raises:
        DltsError: the map cannot be read or the picture cannot be written.
        ValueError: ``max_size`` is below 16.
    """
    if max_size < 16:
        raise ValueError(f"max_size must be 16 or more; got {max_size}")
    view = _read(map_path, max_size)
    known = np.isin(view.values, [row.value for row in classes])
    strangers = np.unique(view.values[view.valid & ~known])
    if len(strangers):
        raise DltsError(
            f"map {map_path} holds value {strangers[0]}, which no class has: give its own classes.csv"
        )
    figure = _draw(view, classes, storage.name(map_path) if title is None else title)
    with storage.staged(png_path) as aside:
        # No software or date in the file: the same map gives the same picture.
        figure.savefig(aside, format="png", dpi=100, metadata={"Software": None})


def _read(path: str, max_size: int) -> _View:
    try:
        with rasterio.open(storage.gdal_path(path)) as source:
            step = max(1.0, max(source.height, source.width) / max_size)
            shape = (max(1, round(source.height / step)), max(1, round(source.width / step)))
            values = source.read(1, out_shape=shape, resampling=Resampling.nearest)
            valid = np.ones(shape, bool) if source.nodata is None else values != source.nodata
            metres = _metres_per_pixel(source)
            return _View(values, valid, None if metres is None else metres * source.width / shape[1])
    except RasterioError as error:
        raise DltsError(f"cannot read map {path}: {error}") from error


def _metres_per_pixel(source: Any) -> float | None:
    """Width of a pixel in the middle of the map, in metres; None where that cannot be told."""
    if source.crs is None:
        return None
    step = math.hypot(source.transform.a, source.transform.d)
    if source.crs.is_geographic:
        _, y = source.xy(source.height // 2, source.width // 2)
        return step * _METRES_PER_DEGREE * math.cos(math.radians(y)) if abs(y) < 89 else None
    return step * float(source.crs.linear_units_factor[1])


def _draw(view: _View, classes: Sequence[MapClass], title: str) -> Any:
    # Matplotlib takes half a second to import, and only this picture needs it here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = view.values.shape
    image = np.empty((height, width, 3), np.float32)
    image[:] = to_rgb(NODATA_COLOUR)
    handles = []
    usable = max(1, int(view.valid.sum()))
    for row in classes:
        here = view.valid & (view.values == row.value)
        image[here] = to_rgb(row.colour)
        label = f"{row.name}  {_percent(int(here.sum()), usable)}"
        handles.append(Patch(facecolor=row.colour, edgecolor="#555555", linewidth=0.5, label=label))
    missing = ~view.valid
    if missing.any():
        label = f"nodata  {_percent(int(missing.sum()), missing.size)} of the map"
        handles.append(
            Patch(facecolor=NODATA_COLOUR, edgecolor="#888888", linewidth=0.5, hatch="////", label=label)
        )

    # Small maps are enlarged, so that the text keeps its proportions.
    scale = 7.0 / max(height, width)
    map_width, map_height = max(1.5, width * scale), max(1.5, height * scale)
    figure = Figure(figsize=(map_width + 3.1, map_height + 0.75))
    FigureCanvasAgg(figure)
    total_width, total_height = figure.get_size_inches()
    axes = figure.add_axes((
        0.15 / total_width, 0.2 / total_height, map_width / total_width, map_height / total_height,
    ))  # fmt: skip
    axes.imshow(image, interpolation="nearest", extent=(0, width, height, 0))
    if missing.any():
        _hatch(axes, missing)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, loc="left", fontsize=11)
    legend_x = (0.15 + map_width + 0.15) / total_width
    legend_y = (0.2 + map_height) / total_height
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(legend_x, legend_y), frameon=False, fontsize=10,
        borderaxespad=0.0, handleheight=1.4, labelspacing=0.7,
    )  # fmt: skip
    if view.pixel is not None:
        _scale_bar(axes, view.pixel, height, width)
    return figure


def _hatch(axes: Any, missing: np.ndarray) -> None:
    """Hatch the pixels that are missing, along their exact outline."""
    height, width = missing.shape
    # contourf interpolates between centres: doubling rows and columns keeps steps square.
    field = np.repeat(np.repeat(missing, 2, axis=0), 2, axis=1).astype(np.float32)
    offsets = np.tile([0.001, 0.999], max(height, width))
    xs = np.repeat(np.arange(width), 2) + offsets[: 2 * width]
    ys = np.repeat(np.arange(height), 2) + offsets[: 2 * height]
    hatches = axes.contourf(xs, ys, field, levels=[0.5, 1.5], colors="none", hatches=["////"])
    hatches.set_edgecolor("#888888")
    hatches.set_linewidth(0.0)


def _scale_bar(axes: Any, pixel: float, height: int, width: int) -> None:
    """A bar of a round length near a quarter of the map's width, in the lower left corner."""
    target = width * pixel / 4
    power = 10 ** math.floor(math.log10(target))
    length = power * max(step for step in (1, 2, 5) if step * power <= target)
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    x, y = 0.04 * width, height - 0.04 * height
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 2.5}
    middle = x + length / pixel / 2
    axes.text(middle, y - 0.018 * height, label, ha="center", va="bottom", fontsize=9, bbox=box)
    axes.plot([x, x + length / pixel], [y, y], color="white", linewidth=5.5, solid_capstyle="butt")
    axes.plot([x, x + length / pixel], [y, y], color="black", linewidth=3, solid_capstyle="butt")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %"
