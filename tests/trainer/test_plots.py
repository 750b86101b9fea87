"""Pictures take names as they are."""

from __future__ import annotations

import matplotlib
import numpy as np

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
