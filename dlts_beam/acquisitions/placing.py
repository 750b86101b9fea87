"""All images on one lattice, and the part of it that the series covers: pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import Box, differences, intersection, pixel_area, place, union
from dlts_beam.acquisitions.naming import first_few, relative_name
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Window
from dlts_beam.spec.series import SourceFile, Warp


@dataclass(frozen=True)
class Placed:
    """All images on one lattice: path -> box, and which of them must be resampled to lie on it."""

    lattice: Grid
    boxes: Mapping[str, Box]
    warped: frozenset[str]


def place_images(
    headers: Sequence[Header],
    settings: SeriesSettings,
    reference: Header | None,
    warped_box: Callable[[Header, Grid], Box],
    crs_name: Callable[[str], str],
) -> Placed:
    """Put all images on one lattice.

    Args:
        headers: all with a CRS, equal CRSs spelled alike.
        settings: ``align`` allows images off the lattice.
        reference: image that gives the lattice; None takes the finest one.
        warped_box: the box of an image off the lattice.
        crs_name: a short name of a CRS.

    Raises:
        DltsError: images are off the lattice and ``align`` is not set.
    """
    lattice = (reference or _finest(headers)).grid
    reasons = {header.path: differences(header.grid, lattice) for header in headers}
    warped = frozenset(path for path, found in reasons.items() if found)
    if warped and not settings.align:
        listed = [
            f"{relative_name(header.path, settings.root)} has {_what(header.grid, lattice, reason, crs_name)}"
            for header in headers
            for reason in reasons[header.path]
        ]
        count = "1 image does" if len(listed) == 1 else f"{len(listed)} images do"
        raise DltsError(
            f"{count} not lie on the pixel lattice of the others"
            f" ({crs_name(lattice.crs)}, pixels of {_pixel(lattice)}): {first_few(listed, 5)};"
            " give --align to resample them (and --like FILE to choose the lattice), or remove them"
        )
    boxes = {}
    for header in headers:
        if header.path in warped:
            boxes[header.path] = warped_box(header, lattice)
        else:
            window = place(header.grid, lattice)
            boxes[header.path] = Box(
                window.row, window.col, window.row + window.height, window.col + window.width
            )
    return Placed(lattice, boxes, warped)


def extent_window(groups: list[list[str]], placed: Placed, settings: SeriesSettings) -> Window:
    """The grid's window on the lattice; ``groups`` holds the paths of each time step."""
    if settings.extent == "like":
        return placed.lattice.window
    windows = [union(placed.boxes[path].outer() for path in paths) for paths in groups]
    if settings.extent == "first":
        return windows[0]
    if settings.extent == "union":
        return union(windows)
    common = intersection(windows)
    if common is None:
        raise DltsError("the images share no common area: --extent intersection leaves nothing; take union")
    return common


def without_alpha(header: Header, placed: Placed, settings: SeriesSettings) -> Header:
    """The header of a file whose alpha band is data (a band of the series, or a date): it hides nothing.

    Raises:
        DltsError: the file must be resampled, where GDAL obeys the alpha band without being asked.
    """
    if header.alpha and header.path in placed.warped:
        what = "layer" if settings.stacked else "band"
        raise DltsError(
            f"{what} {header.alpha} of {relative_name(header.path, settings.root)} is marked as an alpha"
            f" band, by which GDAL would resample the other {what}s: say that it is none with"
            f" gdal_edit.py -colorinterp_{header.alpha} undefined"
        )
    return replace(header, alpha=None) if header.alpha else header


class FileTable:
    """Collects the files that the series uses, with their place on its grid."""

    def __init__(self, placed: Placed, grid_window: Window, settings: SeriesSettings) -> None:
        self.files: list[SourceFile] = []
        self._placed = placed
        self._grid = grid_window
        self._settings = settings
        self._numbers: dict[tuple[str, bool], int] = {}

    def touches(self, header: Header) -> bool:
        """True where the file shares pixels with the grid."""
        return self._placed.boxes[header.path].outer().intersect(self._grid) is not None

    def number(self, header: Header, mask: bool = False) -> int:
        """The file's number; a mask that is resampled is a file of its own, for codes cannot be averaged."""
        warped = header.path in self._placed.warped
        resampling = "nearest" if mask else self._settings.resampling
        apart = mask and warped and resampling != self._settings.resampling
        key = (header.path, apart)
        if key not in self._numbers:
            self._numbers[key] = len(self.files)
            box = self._placed.boxes[header.path].outer()
            window = box.within(self._grid)
            self.files.append(
                SourceFile(
                    path=header.path,
                    row=window.row,
                    col=window.col,
                    height=window.height,
                    width=window.width,
                    size=header.size,
                    stamp=header.stamp,
                    sha256=header.sha256,
                    warp=Warp(resampling) if warped else None,
                    block=header.block,
                    alpha=header.alpha,
                )
            )
        return self._numbers[key]


def _finest(headers: Sequence[Header]) -> Header:
    """The image with the smallest pixels, among those on the commonest lattice where pixels are equal.

    Pixel sizes of different CRSs compare through the ground only; the commonest CRS decides first.
    """
    by_crs: dict[str, list[Header]] = {}
    for header in headers:
        by_crs.setdefault(header.crs or "", []).append(header)
    group = max(by_crs.values(), key=len)
    finest = min(pixel_area(header.grid) for header in group)
    fine = [header for header in group if pixel_area(header.grid) <= finest * (1 + 1e-6)]
    lattices: list[list[Header]] = []
    for header in fine:
        for lattice in lattices:
            if not differences(header.grid, lattice[0].grid):
                lattice.append(header)
                break
        else:
            lattices.append([header])
    return max(lattices, key=len)[0]


def _what(image: Grid, lattice: Grid, reason: str, crs_name: Callable[[str], str]) -> str:
    if reason == "CRS":
        return f"another CRS ({crs_name(image.crs)})"
    if reason == "resolution":
        return f"another resolution ({_pixel(image)})"
    return f"another origin ({image.transform[2]:.10g}, {image.transform[5]:.10g})"


def _pixel(grid: Grid) -> str:
    a, b, _, d, e, _ = grid.transform
    rotated = " rotated" if b or d else ""
    return f"{(a * a + d * d) ** 0.5:.8g} x {(b * b + e * e) ** 0.5:.8g}{rotated}"
