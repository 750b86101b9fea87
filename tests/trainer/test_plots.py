"""Pictures take names as they are."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from trainer import plots


def test_a_class_name_is_no_formula() -> None:
    name = "a $\\frac$ b"
    png = plots.confusion_png(np.eye(2, dtype=np.int64), [name, "other"], f"split of {name}")
    assert png.startswith(b"\x89PNG")
    mean = np.zeros(3)
    wrong = plots.WrongSample(
        f"x: {name}", np.ones(3, np.float32), name, (name, mean, "#112233"), ("b", mean, "#332211")
    )
    assert plots.wrong_png(range(3), [wrong]).startswith(b"\x89PNG")
    assert matplotlib.rcParams["text.parse_math"]  # as other users of matplotlib expect it


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures of the pictures that are made, as they stand before they become bytes."""
    figures: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(plots, "_png", keep)
    return figures


def test_rows_of_the_confusion_matrix_are_the_reference(drawn: list[Figure]) -> None:
    plots.confusion_png(np.array([[3, 1], [0, 2]]), ["soy", "maize"], "title")
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "reference")
    for names in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [name.get_text() for name in names] == ["soy", "maize"]
    # Shares of the reference class, the first class above: places are (x, y), columns go to the right.
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert axes.yaxis_inverted()
    assert not axes.xaxis_inverted()
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "3", (1, 0): "1", (0, 1): "0", (1, 1): "2"}


def test_the_curves_are_called_what_they_are(drawn: list[Figure]) -> None:
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    history = [{"epoch": e, **{name: e + k / 10 for k, name in enumerate(names)}} for e in (1, 2, 3)]
    plots.history_png(history, {"loss": 2, "acc": 3, "last": 1})
    for axes, name, best in zip(drawn[0].axes, ("loss", "accuracy"), (2, 3), strict=True):
        assert axes.get_title() == name
        lines = {str(line.get_label()): line for line in axes.lines}
        assert list(lines) == ["training", "validation", f"best: epoch {best}"]
        for label, column in (("training", name), ("validation", f"val_{name}")):
            assert lines[label].get_xdata().tolist() == [1, 2, 3]
            assert lines[label].get_ydata().tolist() == [row[column] for row in history]
        assert list(lines[f"best: epoch {best}"].get_xdata()) == [best, best]


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_epochs_are_whole(drawn: list[Figure], epochs: int) -> None:
    history = [{"epoch": e, "loss": 0.5, "accuracy": 0.5} for e in range(1, epochs + 1)]
    plots.history_png(history, {"loss": 1})
    for axes in drawn[0].axes:
        first, last = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if first <= tick <= last]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)


def test_titles_of_small_pictures_stay_apart(drawn: list[Figure]) -> None:
    mean = np.zeros(3)
    long = "Soybean followed by millet as cover on rainfed land".upper()
    names = ((f"{long} {k}", mean, "#112233") for k in range(2))
    reference, predicted = names
    title = f"7f588f950f68abfe: {long}, taken for {long}"
    wrong = plots.WrongSample(title, np.ones(3, np.float32), "b1", reference, predicted)
    plots.wrong_png(range(0, 48, 16), [wrong] * 9)
    drawn[0].draw_without_rendering()
    for k, axes in enumerate(drawn[0].axes):
        box = axes.title.get_window_extent()
        assert box.x0 >= 0 if k % 3 == 0 else box.x0 > drawn[0].axes[k - 1].title.get_window_extent().x1
        assert axes.get_xlabel() == "days since the first date"
        assert axes.title.get_text().startswith("7f588f950f68abfe: ")
        labels = axes.get_legend().get_window_extent()
        assert labels.width < axes.get_window_extent().width
