"""Pictures of samples as SVG: series with their spread, the map, quality. Text only, nothing is fetched."""

from __future__ import annotations

import datetime as dt
import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dlts_beam.quality import Row
from dlts_beam.statistics import LEVELS, BandFigures, Table

Value = float | None
Point = tuple[float, float]


class Axis(NamedTuple):
    """A linear axis: data ``low..high`` onto pixels ``start..end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value, to a tenth."""
        share = (value - self.low) / (self.high - self.low or 1)
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within a range, at most about ``most`` of them."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next((factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most), 10)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number for an axis."""
    if abs(value) < 1000 or abs(value) >= 1e12:
        return f"{value:.6g}"
    return f"{value:,.0f}".replace(",", "\u2009")


def positions(steps: Sequence[str]) -> list[float]:
    """Where time steps stand on their axis: days where all are dated, else 0, 1, 2 ..."""
    try:
        return [dt.datetime.fromisoformat(label).timestamp() / 86400 for label in _utc(steps)]
    except ValueError:
        return [float(index) for index in range(len(steps))]


def _utc(steps: Sequence[str]) -> list[str]:
    return [(label if "T" in label else f"{label}T00:00:00") + "+00:00" for label in steps]


def series_panel(
    own: BandFigures | None,
    others: Sequence[tuple[Sequence[Value], str]],
    colour: str,
    at: Sequence[float],
    labels: tuple[str, str],
    limits: tuple[float, float],
    size: tuple[int, int],
    scale: bool,
) -> str:
    """One small picture of series over time.

    Args:
        own: its mean as a line, half and nine tenths of its samples as bands; None for means alone.
        others: further means with their colours.
        colour: of ``own``.
        at: places of the time steps.
        labels: first and last date.
        limits: of the values.
        size: width and height in pixels.
        scale: whether values are named on the left.
    """
    width, height = size
    left = 46 if scale else 8
    x = Axis(min(at), max(at), left, width - 8)
    y = Axis(*limits, height - 20, 6)
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    for value in ticks(*limits, 5):
        parts.append(f'<path class="grid" d="M{left} {y.at(value)}H{width - 8}"/>')
        if scale:
            parts.append(
                f'<text x="{left - 6}" y="{y.at(value) + 3.5:.1f}" class="end">{number(value)}</text>'
            )
    for mean, shade in others:
        parts.append(_line(mean, at, x, y, shade, 1.8 if own is None else 0.8))
    if own is not None:
        for low, high, opacity in ((0, 4, 0.16), (1, 3, 0.32)):
            parts.append(_band(own.quantiles[low], own.quantiles[high], at, x, y, colour, opacity))
        parts.append(_line(own.mean, at, x, y, colour, 1.8))
    if scale:
        parts.append(f'<text x="{left}" y="{height - 5}">{html.escape(labels[0])}</text>')
        parts.append(f'<text x="{width - 8}" y="{height - 5}" class="end">{html.escape(labels[1])}</text>')
    return "".join(parts) + "</svg>"


def band_limits(table: Table, band: int) -> tuple[float, float]:
    """Range of one band's values on all its pictures: the middle nine tenths of every class."""
    seen = [
        value
        for one in table.classes
        for level in (0, len(LEVELS) - 1)
        for value in one.bands[band].quantiles[level]
        if value is not None
    ]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def runs(*columns: Sequence[Value]) -> list[list[int]]:
    """Stretches of time steps at which every column has a value."""
    out: list[list[int]] = [[]]
    for step, values in enumerate(zip(*columns, strict=True)):
        if None in values:
            out.append([])
        else:
            out[-1].append(step)
    return [run for run in out if run]


def _line(mean: Sequence[Value], at: Sequence[float], x: Axis, y: Axis, colour: str, width: float) -> str:
    path = ""
    for run in runs(mean):
        points = [f"{x.at(at[step])} {y.at(mean[step] or 0.0)}" for step in run]
        # A step that stands alone is a dot: a line of no length with round ends.
        path += "M" + "L".join(points if len(points) > 1 else points * 2)
    return f'<path class="line" d="{path}" stroke="{colour}" stroke-width="{width}"/>' if path else ""


def _band(
    low: Sequence[Value],
    high: Sequence[Value],
    at: Sequence[float],
    x: Axis,
    y: Axis,
    colour: str,
    opacity: float,
) -> str:
    path = ""
    for run in runs(low, high):
        there = [f"{x.at(at[step])} {y.at(high[step] or 0.0)}" for step in run]
        back = [f"{x.at(at[step])} {y.at(low[step] or 0.0)}" for step in reversed(run)]
        path += "M" + "L".join(there + back) + "Z"
    return f'<path d="{path}" fill="{colour}" fill-opacity="{opacity}"/>' if path else ""


def sample_map(
    rows: Sequence[Row], worst: Sequence[Row], colours: dict[str, str], block: float, width: int = 760
) -> str:
    """Samples by class in map units, one scale on both axes; the worst ones ringed and numbered."""
    every = [*rows, *worst]
    xs, ys = [row.x for row in every], [row.y for row in every]
    margin = 0.04 * max(max(xs) - min(xs), max(ys) - min(ys)) or block / 2
    west, east = min(xs) - margin, max(xs) + margin
    south, north = min(ys) - margin, max(ys) + margin
    left, top, foot = 76, 8, 26
    per_pixel = max((east - west) / (width - left - 8), (north - south) / 620)
    wide, high = (east - west) / per_pixel, (north - south) / per_pixel
    x, y = Axis(west, east, left, left + wide), Axis(south, north, top + high, top)
    full, tall = round(left + wide + 8), round(top + high + foot)
    parts = [f'<svg viewBox="0 0 {full} {tall}" width="{full}" height="{tall}" role="img">']
    parts += [
        f'<path class="block" d="M{x.at(at)} {top}V{top + high:.1f}"/>' for at in _edges(west, east, block)
    ]
    parts += [
        f'<path class="block" d="M{left} {y.at(at)}H{left + wide:.1f}"/>'
        for at in _edges(south, north, block)
    ]
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{wide:.1f}" height="{high:.1f}"/>')
    across = max(2, min(6, int(wide // 110)))
    for value in ticks(west, east, across):
        parts.append(f'<path class="tick" d="M{x.at(value)} {top + high:.1f}v4"/>')
        parts.append(f'<text x="{x.at(value)}" y="{top + high + 17:.1f}" class="mid">{number(value)}</text>')
    for value in ticks(south, north, max(2, min(7, int(high // 60)))):
        parts.append(f'<path class="tick" d="M{left} {y.at(value)}h-4"/>')
        parts.append(f'<text x="{left - 7}" y="{y.at(value) + 3.5:.1f}" class="end">{number(value)}</text>')
    radius = 4.2 if len(rows) < 400 else 3 if len(rows) < 2000 else 1.8
    for (depth, label), dots in sorted(_dots(rows, list(colours)).items()):
        circles = "".join(
            f'<circle cx="{x.at(row.x)}" cy="{y.at(row.y)}" r="{radius * 0.6**depth:.3g}"/>' for row in dots
        )
        kind = "inner" if depth else "dots"
        parts.append(f'<g class="{kind}" fill="{list(colours.values())[label]}">{circles}</g>')
    for place, row in enumerate(worst, 1):
        at = x.at(row.x), y.at(row.y)
        parts.append(f'<circle class="ring" cx="{at[0]}" cy="{at[1]}" r="{radius + 3.5}"/>')
        parts.append(
            f'<text class="ringed" x="{at[0] + radius + 5:.1f}" y="{at[1] - radius - 1:.1f}">{place}</text>'
        )
    return "".join(parts) + "</svg>"


def _dots(rows: Sequence[Row], names: Sequence[str]) -> dict[tuple[int, int], list[Row]]:
    """What is drawn by depth and class id, each class once at each place.

    Of the classes that share a place, in seasons of their own, the first has depth 0; others lie within it.
    """
    classes: dict[tuple[float, float], dict[int, Row]] = {}
    for row in rows:
        classes.setdefault((row.x, row.y), {})[names.index(row.label)] = row
    out: dict[tuple[int, int], list[Row]] = {}
    for here in classes.values():
        for depth, label in enumerate(sorted(here)):
            out.setdefault((depth, label), []).append(here[label])
    return out


def _edges(low: float, high: float, size: float) -> list[float]:
    """Borders of blocks within a range; none where there would be too many to tell apart."""
    first, last = math.ceil(low / size), math.floor(high / size)
    return [number * size for number in range(first, last + 1)] if last - first < 120 else []


def quality_histogram(counts: np.ndarray, colours: Sequence[str], width: int = 760) -> str:
    """Samples by quality, in stacked bars; ``counts`` is (bins, classes), worst bin first."""
    height, left, foot = 170, 46, 34
    bins = len(counts)
    y = Axis(0, float(counts.sum(axis=1).max() or 1), height - foot, 18)
    step = (width - left - 8) / bins
    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">']
    for value in ticks(0, y.high, 4):
        parts.append(f'<path class="grid" d="M{left} {y.at(value)}H{width - 8}"/>')
        parts.append(f'<text x="{left - 6}" y="{y.at(value) + 3.5:.1f}" class="end">{number(value)}</text>')
    for place, row in enumerate(counts.tolist()):
        below = 0.0
        for colour, count in zip(colours, row, strict=True):
            if count:
                top, base = y.at(below + count), y.at(below)
                parts.append(
                    f'<rect x="{left + place * step + 1:.1f}" y="{top}" width="{step - 2:.1f}"'
                    f' height="{base - top:.1f}" fill="{colour}"/>'
                )
            below += count
        if below:
            middle = left + (place + 0.5) * step
            parts.append(
                f'<text x="{middle:.1f}" y="{y.at(below) - 4:.1f}" class="mid">{number(below)}</text>'
            )
    for share in range(0, 11, 2):
        parts.append(
            f'<text x="{left + share / 10 * bins * step:.1f}" y="{height - foot + 15}" class="mid">'
            f"{share / 10:g}</text>"
        )
    parts.append(f'<text x="{left}" y="{height - 4}">disagrees with its neighbours</text>')
    parts.append(f'<text x="{width - 8}" y="{height - 4}" class="end">agrees</text>')
    return "".join(parts) + "</svg>"
