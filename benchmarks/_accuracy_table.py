"""The table of `benchmarks.accuracy`, from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._accuracy_runs import AUTO, FOREST, PAIRS, ROWS, Record, Run, collect, digits, lead


@dataclass(frozen=True)
class Reference:
    """What was measured on a set before this code was written, with the same recipe.

    Attributes:
        pair, pair_spread, three_pairs: overall accuracy.
        pair_f1, three_pairs_f1: macro F1.
    """

    pair: float
    pair_spread: float
    three_pairs: float
    pair_f1: float
    three_pairs_f1: float


REFERENCE = {
    "mato_grosso_modis_samples": Reference(0.9828, 0.0017, 0.9842, 0.9828, 0.9837),
    "rondonia_sentinel2_samples": Reference(0.8836, 0.0091, 0.8857, 0.8434, 0.8488),
    "bahia_cbers4_2019": Reference(0.9512, 0.0047, 0.9534, 0.9491, 0.9512),
    "porto_dos_gauchos_modis_2007_2013": Reference(0.9873, 0.0019, 0.9867, 0.9833, 0.9824),
    "porto_dos_gauchos_modis_2012": Reference(0.9622, 0.0034, 0.9656, 0.9683, 0.9708),
}
# What others published for the same samples.
PUBLISHED = {
    "mato_grosso_modis_samples": "0.9673: a random forest in five folds that do not heed places",
    "porto_dos_gauchos_modis_2007_2013_62": "0.9781 ± 0.0166: time-weighted dynamic time warping, 100 splits",
}
HEAD = """\
# Accuracy on real series

Written by `python -m benchmarks.accuracy` from a file of results, which holds every prediction (here
`accuracy.jsonl`). To run it anew:

    python -m benchmarks.accuracy --models auto random_forest --results mine.jsonl

writes `mine.md` beside it, within an hour of processor time; the other rows are one name each for
`--models`, and `conv_bilstm` takes several hours. What is in the results already is not run again.

Each set goes through steps 1 and 2 of the product; the trainer's own functions prepare, train and label.
Five folds, made as in the README of the set; a group (a place, a cell, a block) is never on both sides.
Accuracy is that of the pooled test predictions of all folds. All networks are trained with one
configuration, that of `--model auto`: AdamW, 0.001 with warm-up and cosine decay, batches of 32, label
smoothing 0.05, 80 epochs within 800 to 6,000 updates, no early stopping and no validation split. Means ±
standard deviations are over the seeds, which are all listed; the 95 % interval is the bootstrap over groups
of the first seed's predictions. Seconds are of the processor, for one fold, on a machine shared with other
work.

`auto` is the mean of three attention networks (`ltae`), three dense networks (`mlp`) and one random forest
of 100 trees of at most 8 splits, a third each. Its parts have rows of their own: `three_pairs` its six
networks, `ltae_mlp` one pair of them, `ltae` and `mlp` single ones (three for each seed), `small_forest` its
forest; what they cost is in the seconds of `auto`. The row `random_forest`, the one to be better than, has
500 trees of any depth and sees the same series.
"""


def page(records: Sequence[Record], notes: str = "") -> str:
    """The page as Markdown; only trainings with all their folds count.

    Args:
        notes: what ends the page: what is said of these results alone.
    """
    accuracy, f1, sections = [], [], []
    for told in (record for record in records if "truth" in record):
        runs = collect(told, records)
        if runs:
            classes = int(digits(told["truth"]).max()) + 1
            accuracy.append(_summary(told, runs, classes))
            f1.append(_f1_summary(told, runs, classes))
            sections.append(_section(told, runs, classes))
    referred = ("one pair", "reference", "three pairs", "reference")
    summary = (
        "## In short",
        "",
        "Means of the seeds. The references were measured with the same networks before this code was "
        "written: one pair, and three pairs averaged. `auto` against the forest: by how many test samples, "
        "in brackets the 95 % interval of the same, a bootstrap of the differences over groups; where it "
        "holds 0, the two cannot be told apart.",
        "",
        "Overall accuracy:",
        "",
        *_table("set", AUTO, "forest", "auto against it", *referred),
        *accuracy,
        "",
        "Macro F1:",
        "",
        *_table("set", AUTO, "forest", *referred),
        *f1,
        "",
    )
    return "\n".join([HEAD, *summary, *sections, *([notes] if notes else [])])


def _table(*columns: str) -> tuple[str, str]:
    return f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"


def _summary(told: Record, runs: dict[str, list[Run]], classes: int) -> str:
    def of(row: str) -> str:
        return _shown(float(np.mean(_accuracies(runs[row], classes))) if row in runs else None)

    verdict = "-"
    if FOREST in runs and AUTO in runs:
        ahead, low, high = lead(runs[AUTO], runs[FOREST], told)
        samples = sum(len(test) for test in told["tests"])
        ahead = round(ahead, 1)
        said = "equal" if ahead == 0 else f"{abs(ahead):g} of {samples} {'better' if ahead > 0 else 'worse'}"
        verdict = f"{said} ({low:.1f} to {high:.1f})"
    known = REFERENCE.get(told["set"])
    pair = f"{known.pair:.4f} ± {known.pair_spread:.4f}" if known else "-"
    three = _shown(known.three_pairs if known else None)
    cells = (told["title"], of(AUTO), of(FOREST), verdict, of("ltae_mlp"), pair, of(PAIRS), three)
    return f"| {' | '.join(cells)} |"


def _f1_summary(told: Record, runs: dict[str, list[Run]], classes: int) -> str:
    def of(row: str) -> str:
        return _shown(float(np.mean(_f1_scores(runs[row], classes))) if row in runs else None)

    known = REFERENCE.get(told["set"])
    pair, three = (known.pair_f1, known.three_pairs_f1) if known else (None, None)
    cells = (
        told["title"], of(AUTO), of(FOREST), of("ltae_mlp"), _shown(pair), of(PAIRS), _shown(three),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _section(told: Record, runs: dict[str, list[Run]], classes: int) -> str:
    groups, count = len(set(told["groups"])), len(told["truth"])
    tested = sum(len(test) for test in told["tests"])
    lines = [
        f"## {told['title']}",
        "",
        f"{count} samples, {classes} classes; grouped by {told['grouping']} ({groups} groups).",
        "",
        *([f"Published: {PUBLISHED[told['set']]}.", ""] if told["set"] in PUBLISHED else []),
        *(_by_split(runs, tested) if tested > count else []),
        "| model | overall accuracy | 95 % interval | macro F1 | parameters | s / fold | each run |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_line(row, found, classes) for row, found in runs.items()),
        "",
    ]
    missing = [row for row in ROWS if row not in runs]
    if missing:
        lines += [f"Not run on this set: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def _by_split(runs: dict[str, list[Run]], tested: int) -> list[str]:
    """Splits that overlap: what the deviation over seeds does not show."""
    lines = [
        f"The splits overlap: {tested} predictions of each run are of the same samples. ± is over the seeds; "
        "between the splits, means of the seeds:",
        "",
    ]
    for row in (AUTO, FOREST):
        if row in runs:
            shares = np.mean(
                [
                    [(a == b).mean() for a, b in zip(run.truth, run.predicted, strict=True)]
                    for run in runs[row]
                ],
                axis=0,
            )
            lines.append(f"- {row}: {_spread(list(shares))} ({' '.join(f'{share:.4f}' for share in shares)})")
    return [*lines, ""]


def _line(row: str, runs: Sequence[Run], classes: int) -> str:
    accuracies = _accuracies(runs, classes)
    low, high = runs[0].interval(classes)
    seconds = [second for run in runs for second in run.seconds]
    cells = (
        row,
        _spread(accuracies),
        "-" if low is None else f"{_shown(low)} to {_shown(high)}",
        _spread(_f1_scores(runs, classes)),
        f"{runs[0].parameters:,}" if runs[0].parameters else "-",
        f"{np.mean(seconds):.0f}" if seconds else "-",
        " ".join(f"{value:.4f}" for value in accuracies),
    )
    return f"| {' | '.join(cells)} |"


def _accuracies(runs: Sequence[Run], classes: int) -> list[float]:
    return [run.measures(classes)[0] for run in runs]


def _f1_scores(runs: Sequence[Run], classes: int) -> list[float]:
    return [run.measures(classes)[1] for run in runs]


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f} (one run)"
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
