"""Pictures of a training: PNG bytes made by matplotlib, without a display."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TITLE = 42  # letters in a line above a small picture: more reach into the next one
MOST_NAME = 30  # letters of a class in its legend
_AS_IT_IS = {"text.parse_math": False}  # a class may be called $US: that is no formula


@matplotlib.rc_context(_AS_IT_IS)
def confusion_png(matrix: NDArray[np.int64], names: Sequence[str], title: str) -> bytes:
    """A confusion matrix: colours are shares of the reference class (row), numbers are samples."""
    count = len(names)
    side = min(2.2 + 0.62 * count, 16)
    figure = Figure(figsize=(side + 1.2, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / totals
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("reference")
    axes.set_title(title, fontsize=10)
    if count <= 25:
        for row, column in np.ndindex(matrix.shape):
            colour = "white" if shares[row, column] > 0.55 else "black" if matrix[row, column] else "#b0b0b0"
            axes.text(
                column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=9
            )
    figure.colorbar(image, label="share of the reference class", shrink=0.8)
    return _png(figure)


@matplotlib.rc_context(_AS_IT_IS)
def history_png(history: Sequence[Mapping[str, float]], best: Mapping[str, int]) -> bytes:
    """Loss and accuracy by epoch, training and validation, with the chosen epochs marked."""
    figure = Figure(figsize=(9, 3.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    _curves(left, history, "loss", best.get("loss"))
    _curves(right, history, "accuracy", best.get("acc"))
    return _png(figure)


@dataclass(frozen=True, eq=False)
class WrongSample:
    """A sample that the model got wrong, ready to be drawn.

    Attributes:
        title: what stands above it.
        series: float (T,), in the band that tells the two classes apart best.
        band: its name.
        reference, predicted: name, mean (T,) and colour of the two classes.
    """

    title: str
    series: NDArray[np.float32]
    band: str
    reference: tuple[str, NDArray[np.float32], str]
    predicted: tuple[str, NDArray[np.float32], str]


@matplotlib.rc_context(_AS_IT_IS)
def wrong_png(days: Sequence[float], samples: Sequence[WrongSample]) -> bytes:
    """The series of wrong samples, each beside the means of the class it has and the one it got.

    A mean of NaN, of a class without samples, is left out.
    """
    columns = min(3, len(samples))
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.5 * rows), dpi=110, layout="constrained")
    for axes, sample in zip(np.ravel(figure.subplots(rows, columns)), samples, strict=False):
        for (name, mean, colour), style in ((sample.reference, "-"), (sample.predicted, "--")):
            if np.isnan(mean).all():
                continue
            label = f"mean of {_shortened(name)}"
            axes.plot(days, mean, style, color=colour, linewidth=2.5, alpha=0.6, label=label)
        axes.plot(days, sample.series, color="black", linewidth=1, marker=".", markersize=4)
        axes.set_title(textwrap.fill(sample.title, MOST_TITLE, max_lines=4, placeholder=" …"), fontsize=8)
        axes.set_xlabel("days since the first date", fontsize=8)
        axes.set_ylabel(sample.band, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=6)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(samples) :]:
        axes.set_visible(False)
    return _png(figure)


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_NAME else name[: MOST_NAME - 1] + "…"


def _curves(axes: Axes, history: Sequence[Mapping[str, float]], name: str, chosen: int | None) -> None:
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) == 1 else None
    axes.plot(epochs, [row[name] for row in history], color="#0072b2", label="training", marker=marker)
    if history and f"val_{name}" in history[0]:
        values = [row[f"val_{name}"] for row in history]
        axes.plot(epochs, values, color="#d55e00", label="validation", marker=marker)
    if chosen is not None:
        axes.axvline(chosen, color="#7f7f7f", linewidth=1, linestyle=":", label=f"best: epoch {chosen}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(name, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # Without the version string the same figure is the same bytes on every installation of a version.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
