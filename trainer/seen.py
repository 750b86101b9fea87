"""Which samples a model has seen: what ``splits.csv`` keeps of them, and what it says of others.

A sample is known by its pixel and its season, so that it is found again in a series that was made anew. The
same pixel in another season is a sample that the model has not seen, though it may flatter: how many of these
there are is told.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import dated
from trainer import split
from trainer.dataset import Samples
from trainer.options import sample_groups


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model knows of some samples.

    Attributes:
        used: bool (n,): it was trained or validated on them, or they were too poor to train on.
        trained_elsewhen: bool (n,): it was trained or validated on their pixels, in other seasons alone.
    """

    used: NDArray[np.bool_]
    trained_elsewhen: NDArray[np.bool_]


def splits_table(samples: Samples, splits: NDArray[np.str_], class_names: Sequence[str]) -> str:
    """``splits.csv`` of a training."""
    classes = [class_names[k] for k in samples.class_ids.tolist()]
    return split.to_csv(samples.ids, splits, classes, sample_groups(samples, "sample"), seasons(samples))


def table_digest(text: str) -> str:
    """SHA-256 (hex) of a ``splits.csv``, which `dlts_beam.spec.ModelSpec` keeps."""
    return hashlib.sha256(text.encode()).hexdigest()


def seasons(samples: Samples) -> list[split.Season | None]:
    """First and last date of each sample's own series; None where it has numbered steps only."""
    days = samples.days
    ends = np.floor(days[:, [0, -1]]).astype(np.int64).tolist()
    has_dates = [dated(part.spec.steps) for part in samples.parts]
    return [
        (_date(first), _date(last)) if has_dates[folder] else None
        for (first, last), folder in zip(ends, samples.folders.tolist(), strict=True)
    ]


def seen(lines: Sequence[split.Line], samples: Samples, where: str) -> Seen:
    """What the lines of a model's ``splits.csv`` say of the samples; ``where`` is that file.

    A file that an older version wrote has ids alone: they tell no season, so that a sample counts as used
    whatever its season.

    Raises:
        DltsError: such a file has one id in two splits.
    """
    if any(line.pixel is None for line in lines):
        known = _by_id(lines, where)
        used = np.array([known.get(name, "test") != "test" for name in samples.ids.tolist()], bool)
        return Seen(used, np.zeros(len(samples), bool))
    trained: dict[str, list[split.Season | None]] = {}
    unused: dict[str, list[split.Season | None]] = {}
    for line in lines:
        if line.split != "test":
            kept = unused if line.split == split.UNUSED else trained
            kept.setdefault(str(line.pixel), []).append(line.season)
    used, elsewhen = np.zeros(len(samples), bool), np.zeros(len(samples), bool)
    pixels = sample_groups(samples, "sample").tolist()
    for k, (pixel, season) in enumerate(zip(pixels, seasons(samples), strict=True)):
        in_training = any(same_season(season, other) for other in trained.get(pixel, ()))
        used[k] = in_training or any(same_season(season, other) for other in unused.get(pixel, ()))
        elsewhen[k] = pixel in trained and not in_training
    return Seen(used, elsewhen)


def same_season(one: split.Season | None, other: split.Season | None) -> bool:
    """Whether two series share more than half of the shorter one's days."""
    if one is None or other is None:
        return True  # nothing tells them apart, and a sample too few is better than one that flatters
    shared = (min(one[1], other[1]) - max(one[0], other[0])).days + 1
    shorter = min((last - first).days + 1 for first, last in (one, other))
    return 2 * shared > shorter


def _by_id(lines: Sequence[split.Line], where: str) -> dict[str, str]:
    known: dict[str, str] = {}
    for line in lines:
        before = known.setdefault(line.id, line.split)
        if before != line.split:
            raise DltsError(
                f"{where} has sample {line.id} in two splits, {before} and {line.split}: an older version "
                "wrote it, which did not tell the seasons of one pixel apart, so that nobody knows which "
                "samples the model has seen; train it again"
            )
    return known


def _date(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)
