"""Headers, time steps and bands to the spec of a series: the last step of the check, pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dlts_beam.acquisitions.bands import plan_bands, stacked_bands
from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import (
    Box,
    covered_pixels,
    differences,
    intersection,
    pixel_area,
    place,
    sub_grid,
    union,
)
from dlts_beam.acquisitions.naming import (
    CHOICES,
    Image,
    first_few,
    read_names,
    relative_name,
    stem,
)
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.acquisitions.steps import Step, check_names, group_steps
from dlts_beam.dates import natural_key, parse_time
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Window
from dlts_beam.spec.series import MaskRule, SeriesSpec, Source, SourceFile, TimeStep, Warp


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


def build_series(headers: Sequence[Header], placed: Placed, settings: SeriesSettings) -> SeriesSpec:
    """The spec of a series of images, each with one or all bands of one acquisition.

    Raises:
        DltsError: times, bands or extents do not make a series.
    """
    images = read_names(headers, settings)
    check_names(images)
    plan = plan_bands(images, settings)
    steps = group_steps(images, placed.boxes, settings)
    grid_window = _extent([[image.header.path for image in step.images] for step in steps], placed, settings)
    table = _FileTable(placed, grid_window, settings)
    sources, masks = [], []
    for step in steps:
        sources.append(
            tuple(
                tuple(
                    Source(table.number(image.header), index)
                    for image in step.images
                    if (index := plan.indexes(image, band.number)) is not None and table.touches(image.header)
                )
                for band in plan.bands
            )
        )
        masks.append(
            tuple(
                Source(table.number(image.header, mask=True), index)
                for image in step.images
                if plan.mask is not None
                and (index := plan.indexes(image, plan.mask)) is not None
                and table.touches(image.header)
            )
        )
    reading = settings.reading
    if plan.mask is not None:
        reading = replace(reading, mask=replace(reading.mask or MaskRule(plan.mask, ()), band=plan.mask))
    _check_labels(steps, settings)
    return SeriesSpec(
        grid=sub_grid(placed.lattice, grid_window),
        steps=tuple(TimeStep(number, step.time) for number, step in enumerate(steps)),
        bands=plan.bands,
        files=tuple(table.files),
        sources=tuple(sources),
        mask_sources=tuple(masks) if plan.mask is not None else (),
        mask_dtype=plan.mask_dtype,
        reading=reading,
    )


def build_stacked(headers: Sequence[Header], placed: Placed, settings: SeriesSettings) -> SeriesSpec:
    """The spec of a series that is already one file per band, one layer per time step.

    Raises:
        DltsError: files differ in their number of layers, or the dates do not fit the layers.
    """
    headers = sorted(headers, key=lambda header: natural_key(relative_name(header.path, settings.root)))
    names = [stem(relative_name(header.path, settings.root)) for header in headers]
    counts = {len(header.bands): name for header, name in zip(headers, names, strict=True)}
    if len(counts) > 1:
        listed = ", ".join(f"{count} in {name}" for count, name in sorted(counts.items()))
        raise DltsError(f"--stacked files differ in their number of layers: {listed}; all need one per date")
    times = _layer_times(headers, settings)
    if settings.mask_band is not None and not settings.mask_band.isdigit():
        if settings.mask_band not in names:
            raise DltsError(f"--mask-band {settings.mask_band}: no file is called so; there are {names}")
        settings = replace(settings, mask_band=str(names.index(settings.mask_band) + 1))
    mask = int(settings.mask_band) if settings.mask_band is not None else None
    if mask is not None and not 1 <= mask <= len(headers):
        raise DltsError(f"--mask-band {mask}: {len(headers)} files make bands 1 to {len(headers)}")
    numbers = settings.bands or tuple(n for n in range(1, len(headers) + 1) if n != mask)
    bands = stacked_bands(headers, names, replace(settings, bands=numbers))
    chosen = [headers[band.number - 1] for band in bands]
    grid_window = _extent([[header.path for header in chosen]], placed, settings)
    table = _FileTable(placed, grid_window, settings)
    order = sorted(range(len(times)), key=lambda layer: times[layer] or "")
    sources = tuple(
        tuple(
            (Source(table.number(header), layer + 1),) if table.touches(header) else () for header in chosen
        )
        for layer in order
    )
    masks: tuple[tuple[Source, ...], ...] = ()
    reading = settings.reading
    if mask is not None:
        file = table.number(headers[mask - 1], mask=True)
        masks = tuple((Source(file, layer + 1),) for layer in order)
        reading = replace(reading, mask=replace(reading.mask or MaskRule(mask, ()), band=mask))
    return SeriesSpec(
        grid=sub_grid(placed.lattice, grid_window),
        steps=tuple(TimeStep(number, times[layer]) for number, layer in enumerate(order)),
        bands=tuple(bands),
        files=tuple(table.files),
        sources=sources,
        mask_sources=masks,
        mask_dtype=headers[mask - 1].bands[0].dtype if mask is not None else "uint8",
        reading=reading,
    )


class _FileTable:
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
                )
            )
        return self._numbers[key]


def coverage(spec: SeriesSpec) -> list[float]:
    """Share of the grid that the sources of each time step cover, holes in them not counted."""
    shares = []
    for step in spec.sources:
        files = {source.file for layer in step for source in layer}
        covered = covered_pixels((spec.files[number].window for number in sorted(files)), spec.grid.window)
        shares.append(covered / spec.grid.window.pixels)
    return shares


def _extent(groups: list[list[str]], placed: Placed, settings: SeriesSettings) -> Window:
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


def _layer_times(headers: Sequence[Header], settings: SeriesSettings) -> list[str | None]:
    """The time of each layer of a stacked series: from the table, or from the layers' descriptions."""
    count = len(headers[0].bands)
    if settings.undated:
        return [None] * count
    if settings.dates is not None:
        times: list[str | None] = [time for _, time in settings.dates]
        told = "the table of --dates"
    else:
        described = [parse_time(band.description or "") for band in headers[0].bands]
        if any(time is None for time in described):
            raise DltsError(
                f"--stacked: the {count} layers of {headers[0].path} bear no dates;"
                " give --dates FILE with one date a line, or --undated"
            )
        times, told = list(described), f"{headers[0].path}"
    if len(times) != count:
        raise DltsError(f"{told} has {len(times)} dates, and each --stacked file has {count} layers")
    twice = sorted({time for time in times if time is not None and times.count(time) > 1})
    if twice and settings.same_day != "separate":
        raise DltsError(f"{told} has {twice[0]} twice; correct it, or give --same-day separate")
    return times


def _check_labels(steps: Sequence[Step], settings: SeriesSettings) -> None:
    """Every time step must have a file for every band label that any of them has."""
    every = {image.label for step in steps for image in step.images}
    if every == {None}:
        return
    gaps = []
    for number, step in enumerate(steps):
        lacking = sorted((label or "" for label in every - {i.label for i in step.images}), key=natural_key)
        if lacking:
            gaps.append(f"{step.time or f'step {number}'} lacks {', '.join(lacking)}")
    if gaps:
        raise DltsError(f"not every date has a file for every band: {first_few(gaps)}; add or remove files")


__all__ = ["CHOICES", "Image", "Placed", "build_series", "build_stacked", "coverage", "place_images"]
