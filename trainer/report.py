"""``report.html``: one page about a training that needs nothing beside itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from trainer import evaluate

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; margin: .8rem 0 } td, th { padding: .25rem .7rem; text-align: right }
th { border-bottom: 2px solid #888 } td { border-bottom: 1px solid #eee }
td:first-child, th:first-child { text-align: left } img { max-width: 100% }
.figures td + td { white-space: nowrap } .told tr > * { text-align: left }
.told td { overflow-wrap: anywhere }
.big { font-size: 2rem; font-weight: 600 } .note { background: #fff6dd; padding: .6rem .9rem }
.note::first-letter { text-transform: uppercase }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border: 1px solid #999 }
.bar { display: inline-block; height: .7em; background: #0072b2; vertical-align: middle }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """A whole HTML page of the given sections."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return f"<h2>{html.escape(title)}</h2>\n" + "\n".join(parts)


def note(text: str) -> str:
    """A sentence that must not be overlooked; the page begins it large, where the terminal does not."""
    return f'<p class="note">{html.escape(text.removesuffix("."))}.</p>'


def picture(png: bytes, alt: str) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode("ascii")
    return f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></p>'


def rows_table(head: Sequence[str], rows: Sequence[Sequence[Any]], style: str = "") -> str:
    """A table; cells are escaped. In the style ``figures`` none breaks, in ``told`` all are at the left."""
    top = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    kind = f' class="{style}"' if style else ""
    return f'<table{kind}><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>'


def accuracy_section(found: Mapping[str, Any], colours: Sequence[str], split: str, png: bytes) -> str:
    """Accuracy in all and per class, with the confusion matrix."""
    overall = found["overall_accuracy"]
    rows = []
    for (name, row), colour in zip(found["classes"].items(), colours, strict=True):
        cells = "".join(f"<td>{_with_interval(row[key])}</td>" for key in ("precision", "recall", "f1"))
        width = round(6 * (row["f1"]["value"] or 0), 2)
        rows.append(
            f'<tr><td><span class="swatch" style="background:{colour}"></span>{html.escape(name)}</td>{cells}'
            f'<td>{row["support"]}</td><td style="text-align:left">'
            f'<span class="bar" style="width:{width}em;background:{colour}"></span></td></tr>'
        )
    titles = ("class", "precision (user's)", "recall (producer's)", "F1", "samples", "")
    head = "".join(f"<th>{title}</th>" for title in titles)
    per_class = (
        f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table>"
    )
    summary = (
        f'<p><span class="big">{_value(overall["value"])}</span> overall accuracy {_interval(overall)} on '
        f"{html.escape(samples_of(found['samples'], split))}; "
        f"kappa {_with_interval(found['kappa'])}, macro F1 {_with_interval(found['macro_f1'])}</p>"
    )
    return section("Accuracy", summary, _how_measured(found), per_class, picture(png, "confusion matrix"))


def _how_measured(found: Mapping[str, Any]) -> str:
    """Which saved model the figures are of, and what the intervals are."""
    told = []
    if "model" in found:
        told.append(f"Measured with {found['model']}_model.keras, which maps are made with by default.")
    if found["overall_accuracy"].get("low") is not None:
        told.append(
            f"In parentheses: 95 % intervals, by a bootstrap over the {found['groups']:,} independent groups "
            "of these samples."
        )
    return f"<p>{' '.join(told)}</p>" if told else ""


def samples_of(count: int, split: str) -> str:
    """How many samples of what were measured; beside the splits there are ``new`` ones and ``all``."""
    told = {"new": f"{count} new samples", "all": f"{count} samples"}
    return told.get(split, f"{count} samples of the {split} split")


def comparison_section(found: Mapping[str, Any]) -> str:
    """The model beside the random forest, on the split and in cross-validation; empty where there is none."""
    rows = [("this model", found)]
    if "random_forest" in found:
        forest = found["random_forest"]
        rows.append((_with_note("random forest, same samples", forest), forest))
    cross = found.get("cross_validation")
    if cross:
        rows.append((f"this model, {cross['how']}", cross))
        if "random_forest" in cross:
            forest = cross["random_forest"]
            rows.append((_with_note(f"random forest, {cross['how']}", forest), forest))
    if len(rows) == 1:
        return ""
    keys = ("overall_accuracy", "kappa", "macro_f1")
    cells = [[title, *(_with_interval(one[key]) for key in keys)] for title, one in rows]
    parts = [rows_table(("", "overall accuracy", "kappa", "macro F1"), cells, "figures")]
    parts += [note(told) for _, told in evaluate.remarks(found)]
    if cross:
        head = list(cross["folds"][0])
        parts.append(rows_table(head, [[row.get(name, "") for name in head] for row in cross["folds"]]))
    return section("Beside a random forest" if "random_forest" in found else "Cross-validation", *parts)


def _with_note(title: str, found: Mapping[str, Any]) -> str:
    return f"{title}; {found['note']}" if "note" in found else title


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(entry: Mapping[str, float | None]) -> str:
    if entry.get("low") is None:
        return ""
    return f"({_value(entry['low'])} to {_value(entry['high'])})"


def _with_interval(entry: Mapping[str, float | None]) -> str:
    return f"{_value(entry['value'])} {_interval(entry)}".strip()
