"""``samples.html``: what an analyst looks at before training. One file, no scripts, nothing fetched."""

from __future__ import annotations

import heapq
import html
import re
from collections.abc import Iterable, Sequence

import numpy as np

from dlts_beam.quality import NEIGHBOURS, REFERENCES, Row
from dlts_beam.samples_charts import (
    band_limits,
    positions,
    quality_histogram,
    sample_map,
    series_panel,
)
from dlts_beam.spec.samples import Ledger, SamplesSpec
from dlts_beam.statistics import BY_SKETCH, SKETCHED, Table

SAMPLES_HTML = "samples.html"
WORST = 25
RINGED = 10  # of the worst, on the map
MAPPED = 4000  # samples on the map: more would only cover each other
BINS = 20

STYLE = """
:root { --ink: #1d2327; --soft: #5f6b73; --line: #e3e7ea }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--ink);
  max-width: 62rem; margin: 2.5rem auto 4rem; padding: 0 1.25rem; font-variant-numeric: tabular-nums }
h1 { font-size: 1.75rem; font-weight: 600; letter-spacing: -.01em; margin: 0 }
h2 { font-size: 1.15rem; font-weight: 600; margin: 2.8rem 0 .4rem; padding-top: .7rem;
  border-top: 1px solid var(--line) }
h3 { font-size: .95rem; font-weight: 600; margin: 1.5rem 0 .3rem }
p { max-width: 44rem; margin: .3rem 0 .8rem } .soft, figcaption { color: var(--soft); font-size: .88rem }
table { border-collapse: collapse; margin: .6rem 0 1rem } td, th { padding: .25rem .8rem; text-align: right }
th { font-weight: 600; font-size: .82rem; color: var(--soft); border-bottom: 1px solid #9aa4ab }
td { border-bottom: 1px solid var(--line) } .left, td:first-child, th:first-child { text-align: left }
td:first-child, th:first-child { padding-left: 0 } tr.sum td { font-weight: 600; border-bottom: 0 }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; margin: 1.2rem 0 0 }
.facts div { min-width: 5rem } .facts b { display: block; font-size: 1.25rem; font-weight: 600 }
.facts span { color: var(--soft); font-size: .82rem }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em }
.bar { display: inline-block; height: .6em; border-radius: 2px; vertical-align: baseline }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.3rem; font-size: .88rem; margin: .3rem 0 }
figure { margin: .4rem 0 1rem } svg { display: block; max-width: 100%; height: auto }
svg text { font-size: 11px; fill: var(--soft) } svg .end { text-anchor: end } svg .mid { text-anchor: middle }
.grid { stroke: var(--line); fill: none } .line { fill: none; stroke-linejoin: round; stroke-linecap: round }
.block { stroke: #edf0f2; fill: none } .frame { fill: none; stroke: #9aa4ab } .tick { stroke: #9aa4ab }
.dots { fill-opacity: .75 } .inner { stroke: #fff; stroke-width: .6 }
.ring { fill: none; stroke: #b00020; stroke-width: 1.6 }
svg .ringed { fill: #b00020; font-weight: 600 }
.panels { display: grid; grid-template-columns: repeat(auto-fill, 226px); gap: .5rem .6rem }
.panels figure { margin: 0 } .panels figcaption { font-size: .8rem; padding-left: 8px }
.panels .wide { grid-column: span 2; grid-row: span 2 } .panels .wide figcaption { padding-left: 46px }
@media (max-width: 520px) { .panels .wide { grid-column: span 1 } }
.sides { display: flex; flex-wrap: wrap; gap: 0 4rem }
@media print { body { margin: 0 } h2 { break-after: avoid } figure, tr { break-inside: avoid } }
"""


class Overview:
    """What the page tells of ``quality.csv``, gathered in one pass: a million rows never stand in memory.

    Attributes:
        rows: how many there were.
        quality: float64 (K,), sums per class.
        low: int64 (K,), samples below 0.5.
        taken: int64 (K, K), samples of the first class whose neighbours have the second one.
        bins: int64 (BINS, K), samples by quality.
        worst: the rows to look at first, worst first.
        mapped: at most ``MAPPED`` rows, an even draw by id.
    """

    def __init__(self, rows: Iterable[Row], names: Sequence[str]) -> None:
        classes = len(names)
        number = {name: place for place, name in enumerate(names)}
        self.rows = 0
        self.quality, self.low = np.zeros(classes), np.zeros(classes, np.int64)
        self.taken, self.bins = np.zeros((classes, classes), np.int64), np.zeros((BINS, classes), np.int64)
        self.worst: list[Row] = []
        self.mapped: list[Row] = []
        for row in rows:
            own, other = number[row.label], number.get(row.neighbours)
            self.rows += 1
            self.quality[own] += row.quality
            self.low[own] += row.quality < 0.5
            self.bins[min(int(row.quality * BINS), BINS - 1), own] += 1
            if other is not None:
                self.taken[own, other] += 1
            if row.quality < 1:
                self.worst.append(row)
            self.mapped.append(row)
            if self.rows % MAPPED == 0:
                self._trim()
        self._trim()

    def _trim(self) -> None:
        self.worst = heapq.nsmallest(WORST, self.worst, key=lambda row: (row.quality, row.id))
        self.mapped = heapq.nsmallest(MAPPED, self.mapped, key=lambda row: row.id)


def samples_page(spec: SamplesSpec, table: Table, overview: Overview) -> str:
    """The page of a samples folder: a function of the samples alone.

    Args:
        spec: ``samples.json``.
        table: ``statistics.json``.
        overview: of ``quality.csv``.
    """
    sections = [
        _head(spec),
        _section("Classes", _classes(spec, overview)),
        _section("Series by class", _series(spec, table)),
        _section("Map", _map(spec, overview)),
        _section("Label quality", _quality(spec, overview)),
        _section("What became of the input", _ledgers(spec)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Samples</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _section(title: str, *parts: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def _head(spec: SamplesSpec) -> str:
    first, last = spec.steps[0].label, spec.steps[-1].label
    facts = [
        (_count(spec.samples), "samples"),
        (len(spec.classes), "classes"),
        (len(spec.steps), f"time steps, {first} to {last}" if len(spec.steps) > 1 else f"time step, {first}"),
        (len(spec.bands), "bands" if len(spec.bands) > 1 else "band"),
        (f"{spec.patch} × {spec.patch}", "pixels a patch"),
    ]
    cells = "".join(f"<div><b>{value}</b><span>{html.escape(name)}</span></div>" for value, name in facts)
    note = (
        "Each sample has its own time interval; the dates are nominal. " if spec.interval else ""
    ) + f"Bands: {', '.join(band.name for band in spec.bands)}. Grid: {_crs_name(spec.grid.crs)}."
    return f'<h1>Samples</h1><div class="facts">{cells}</div><p class="soft">{html.escape(note)}</p>'


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u2009")


def _crs_name(wkt: str) -> str:
    """The name of a CRS, or of its projection where it has none."""
    name = re.search(r'"([^"]+)"', wkt)
    if name and name[1].lower() not in ("unknown", "unnamed"):
        return name[1]
    method = re.search(r'(?:METHOD|PROJECTION)\["([^"]+)"', wkt)
    return f"{method[1]} projection" if method else "a CRS without a name"


def _swatch(name: str, colour: str) -> str:
    return f'<span class="swatch" style="background:{colour}"></span>{html.escape(name)}'


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (), total: bool = False
) -> str:
    """A table of cells that are HTML already; ``left`` are columns of text."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=left' if place in left else ''}>{cell}</{tag}>" for place, cell in enumerate(row)
        )

    body = [f"<tr>{cells('td', row)}</tr>" for row in rows]
    if total:
        body[-1] = body[-1].replace("<tr>", "<tr class=sum>", 1)
    return (
        f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table>"
    )


def _classes(spec: SamplesSpec, overview: Overview) -> str:
    most = max(spec.class_counts)
    lines = []
    for row, count in zip(spec.classes.rows, spec.class_counts, strict=True):
        bar = f'<span class="bar" style="width:{9 * count / most:.2f}rem;background:{row.colour}"></span>'
        mean = f"{overview.quality[row.id] / count:.3f}" if count else "–"
        others = overview.taken[row.id].copy()
        others[row.id] = 0
        at = int(others.argmax())
        taken = f"{html.escape(spec.classes.names[at])} ({others[at]})" if others[at] else "–"
        share = f"{count / spec.samples:.1%}"
        shown = [_swatch(row.name, row.colour), str(row.value), _count(count), share, bar]
        lines.append([*shown, mean, _count(int(overview.low[row.id])), taken])
    mean = f"{overview.quality.sum() / spec.samples:.3f}"
    lines.append(["all", "", _count(spec.samples), "", "", mean, _count(int(overview.low.sum())), ""])
    head = ("class", "value", "samples", "share", "", "mean quality", "below 0.5", "taken for")
    return (
        _table(head, lines, left=(4, 7), total=True)
        + '<p class="soft">Taken for: the class that the nearest neighbours have most often where it is not '
        "the sample’s own, and how many samples that are. Quality is explained below.</p>"
    )


def _series(spec: SamplesSpec, table: Table) -> str:
    at = positions(table.steps)
    dates = table.steps[0], table.steps[-1]
    parts = [
        "<p>Mean over samples at the centre pixel. The dark band holds the middle half of the class’s "
        "samples, the light one nine tenths; thin grey lines are the other classes. Gaps are steps without "
        "any valid observation.</p>",
        _legend(spec),
    ]
    for number, band in enumerate(spec.bands):
        limits = band_limits(table, number)
        means = [
            (one.bands[number].mean, row.colour)
            for one, row in zip(table.classes, spec.classes.rows, strict=True)
        ]
        panel = series_panel(None, means, "", at, dates, limits, (461, 306), True)
        panels = [f'<figure class="wide"><figcaption>means of all classes</figcaption>{panel}</figure>']
        for one, row in zip(table.classes, spec.classes.rows, strict=True):
            grey = [
                (other.bands[number].mean, "#b9c1c7")
                for other in table.classes
                if other is not one and len(table.classes) <= 12
            ]
            panel = series_panel(one.bands[number], grey, row.colour, at, dates, limits, (226, 138), False)
            title = f"{_swatch(row.name, row.colour)} <span class=soft>{one.samples}</span>"
            panels.append(f"<figure><figcaption>{title}</figcaption>{panel}</figure>")
        parts.append(f'<h3>{html.escape(band.name)}</h3><div class="panels">{"".join(panels)}</div>')
    how = (
        "from quantile sketches of tfx-bsl"
        if table.quantiles_by == BY_SKETCH
        else "by numpy (tfx-bsl is not installed)"
    )
    drawn = f", over an even draw of about {SKETCHED} samples" if spec.samples > SKETCHED else ""
    parts.append(f'<p class="soft">Quantiles are {how}{drawn}; all figures are in statistics.json.</p>')
    return "\n".join(parts)


def _map(spec: SamplesSpec, overview: Overview) -> str:
    colours = {row.name: row.colour for row in spec.classes.rows}
    ringed = overview.worst[:RINGED]
    few = f"{MAPPED} of the {_count(spec.samples)} samples, drawn evenly. "
    caption = (
        (few if len(overview.mapped) < spec.samples else "")
        + (f"Ringed: the {len(ringed)} samples of lowest quality, numbered as below. " if ringed else "")
        + ("A dot within a dot: classes of several intervals at one pixel. " if spec.interval else "")
        + f"Light lines: borders of the blocks of {spec.block_size:g} map units that splits can keep whole."
    )
    picture = sample_map(overview.mapped, ringed, colours, spec.block_size)
    return f"{_legend(spec)}<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _legend(spec: SamplesSpec) -> str:
    entries = "".join(f"<span>{_swatch(row.name, row.colour)}</span>" for row in spec.classes.rows)
    return f'<div class="legend">{entries}</div>'


def _quality(spec: SamplesSpec, overview: Overview) -> str:
    colours = {row.name: row.colour for row in spec.classes.rows}
    every = spec.samples <= REFERENCES
    among = "the other samples" if every else f"an even draw of {REFERENCES} samples"
    text = (
        f"<p>The share of a sample’s {NEIGHBOURS} nearest neighbours among {among} that have its class, near "
        "ones counting more. Series are compared in z-scores per band, gaps filled; bands and dates that "
        "tell the classes apart count more. Samples of one feature do not judge each other, unless they are "
        "all there is of their class. A low quality is a reason to look again: a wrong label, a mixed pixel, "
        "a place that changed, or a rare kind of its class.</p>"
    )
    picture = f"<figure>{quality_histogram(overview.bins, list(colours.values()))}</figure>"
    if not overview.worst:
        return text + picture + "<p>No sample is contradicted by a neighbour.</p>"
    lines = [
        [
            str(place),
            f"{row.quality:.3f}",
            _swatch(row.label, colours[row.label]),
            _swatch(row.neighbours, colours[row.neighbours]) if row.neighbours else "–",
            f"{row.x:.10g}",
            f"{row.y:.10g}",
            f"<code>{html.escape(row.id)}</code>",
        ]
        for place, row in enumerate(overview.worst, 1)
    ]
    head = ("", "quality", "label", "neighbours say", "x", "y", "id")
    title = f"<h3>The {len(lines)} samples to look at first</h3>"
    return (
        f"{text}{picture}{title}{_table(head, lines, left=(2, 3, 6))}"
        '<p class="soft">All samples are in quality.csv; training can leave out the worst (--min-quality) or '
        "let samples weigh by their quality (--quality-weights).</p>"
    )


def _ledgers(spec: SamplesSpec) -> str:
    return (
        '<div class="sides">'
        + _ledger("Features of the vector file", "used", spec.features)
        + _ledger("Candidate pixels", "samples", spec.candidates)
        + '</div><p class="soft">Every rejected feature and pixel is in rejected.csv.</p>'
    )


def _ledger(title: str, used: str, ledger: Ledger) -> str:
    lines = [[used, str(ledger.used)]]
    lines += [[html.escape(reason), str(count)] for reason, count in ledger.rejected.items()]
    lines.append(["in", str(ledger.total)])
    return f"<div><h3>{title}</h3>{_table(('', 'number'), lines, total=True)}</div>"
