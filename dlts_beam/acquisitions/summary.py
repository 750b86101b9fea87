"""What step 1 tells of a series on the terminal."""

from __future__ import annotations

import math

from dlts_beam.acquisitions.build import coverage
from dlts_beam.acquisitions.naming import first_few, relative_name
from dlts_beam.spec.series import SeriesSpec


def summary(spec: SeriesSpec, root: str) -> str:
    """A table of the time steps, and one line on grid and bands."""
    rows = [("step", "date", "covered", "files")]
    for step, layers, share in zip(spec.steps, spec.sources, coverage(spec), strict=True):
        numbers = sorted({source.file for layer in layers for source in layer})
        files = [relative_name(spec.files[number].path, root) for number in numbers]
        rows.append((str(step.number), step.time or "-", f"{100 * share:.1f} %", first_few(files, 2)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in rows
    ]
    names = ", ".join(f"{band.number} {band.name} ({band.dtype})" for band in spec.bands)
    resampled = sum(file.warp is not None for file in spec.files)
    lines += [
        f"grid: {spec.grid.width} x {spec.grid.height} pixels of {_pixel_size(spec)},"
        f" {len(spec.steps)} time steps from {len({file.path for file in spec.files})} files"
        + (f", {resampled} of them resampled" if resampled else ""),
        f"bands: {names}",
    ]
    for alpha in sorted({file.alpha for file in spec.files if file.alpha}):
        lines.append(
            f"alpha: pixels where band {alpha} is 0 are missing; it is no band of the series unless -b"
            " names it, and then it hides nothing"
        )
    return "\n".join(lines)


def _pixel_size(spec: SeriesSpec) -> str:
    a, b, _, d, e, _ = spec.grid.transform
    return f"{math.hypot(a, d):.8g} x {math.hypot(b, e):.8g} map units"
