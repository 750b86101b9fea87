"""From flags to specs: preparation, groups, sizes."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import crs_key
from dlts_beam.sampling import block_ids
from dlts_beam.spec import IndexSpec, PreparationSpec, SamplesSpec, Timeline, sample_id
from dlts_beam.tensors.preparation import band_positions
from dlts_beam.tensors.timeline import timeline_days
from trainer.dataset import Samples

MOST_STEPS = 10_000  # of a timeline: a day each for 27 years


def parse_preparation(
    spec: SamplesSpec,
    bands: Sequence[str] | None,
    indices: Sequence[str],
    timeline: Timeline | None,
    min_valid: int,
) -> PreparationSpec:
    """The preparation as asked for; its fill values are NaN until the training split is known.

    Raises:
        DltsError: a band is unknown, given twice, or an index cannot be read.
    """
    have = [band.name for band in spec.bands]
    chosen = list(bands) if bands else have
    band_positions(have, chosen)
    parsed = tuple(_parse_index(text, have, chosen) for text in indices)
    names = [*chosen, *(index.name for index in parsed)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DltsError(f"{', '.join(twice)} is named twice among bands and indices: every name must differ")
    if timeline is not None and timeline.by is not None and timeline.by not in names:
        raise DltsError(
            f"--composite max:{timeline.by}: there is no such band or index among {', '.join(names)}"
        )
    if min_valid < 1:
        raise DltsError(f"--min-valid must be 1 or more; got {min_valid}")
    fill = (float("nan"),) * len(names)
    return PreparationSpec(tuple(chosen), fill, parsed, timeline, min_valid)


def parse_timeline(text: str | None, composite: str, spec: SamplesSpec) -> Timeline | None:
    """The timeline of ``--timeline`` and ``--composite``; None where none is asked for.

    Raises:
        DltsError: the text cannot be read.
    """
    method, _, by = composite.partition(":")
    if text is None:
        if composite != "interpolate":
            raise DltsError(
                f"--composite {composite} needs --timeline START/END/STEP: it fills the steps of one"
            )
        return None
    start, step, count, relative = _regular_steps(text, spec)
    if count > MOST_STEPS:
        raise DltsError(f"--timeline {text} has {count:,} time steps: give {MOST_STEPS:,} or fewer")
    try:
        return Timeline(start, step, count, relative, method, by or None)
    except ValueError as error:
        raise DltsError(f"--timeline {text} --composite {composite}: {error}") from error


def _regular_steps(text: str, spec: SamplesSpec) -> tuple[float, float, int, bool]:
    """What ``--timeline`` says: start and step in days, the number of steps, whether days are relative."""
    wrong = DltsError(
        f"--timeline must look like 0/352/16 (days after the first time step), 09-01/08-28/16 (month-day) "
        f"or be a number of steps; got {text!r}"
    )
    try:
        if "/" not in text:
            count = int(text)
            span = spec.steps[-1].day - spec.steps[0].day
            if count < 2:
                raise wrong
            return 0.0, span / (count - 1), count, True
        first, last, step_text = text.split("/")
        step = float(step_text)
        relative = "-" not in first
        start, end = (float(first), float(last)) if relative else (_day_of_year(first), _day_of_year(last))
        if not relative and end <= start:
            end += 365
        if not all(map(math.isfinite, (start, end, step))) or step <= 0 or end < start:
            raise wrong
        return start, step, int((end - start) / step + 1e-9) + 1, relative
    except (ValueError, OverflowError) as error:
        raise wrong from error


def prepared_days(samples: Samples, preparation: PreparationSpec) -> tuple[float, ...]:
    """Days from the first time step of the model's input to each one; the median sample's."""
    days = samples.days.T
    if preparation.timeline is not None:
        days = timeline_days(preparation.timeline, days)
    relative = np.median(days - days[0], axis=1)
    return tuple(float(day) for day in np.maximum.accumulate(relative))


def sample_groups(samples: Samples, by: str, flag: str = "--split-by") -> NDArray[np.str_]:
    """The group of each sample, as text.

    ``sample`` means the pixel: two seasons of one pixel are no independent samples. Features that share a
    pixel, in seasons of their own, are one ``polygon`` for the same reason. Of several folders, a ``block``
    is of the largest size that any of them has: sizes follow from the extent, and blocks of two overlap.
    Blocks of different coordinate systems are kept apart, as `blocks_caution` says.

    Raises:
        DltsError: there is no such attribute in the samples, or some have no value for it: what is unknown is
            not alike.
    """
    if by == "sample":
        return _pixels(samples)
    if by == "block":
        return _blocks(samples)
    if by == "polygon":
        pairs = zip(samples.folders.tolist(), samples.features.tolist(), strict=True)
        features = np.array([f"{folder}:{feature}" for folder, feature in pairs], np.str_)
        return joined(features, _pixels(samples))
    if by in samples.kept:
        unknown = int((np.char.strip(samples.kept[by]) == "").sum())
        if unknown:
            raise DltsError(
                f"{flag} {by}: {unknown} of {len(samples)} samples have no value in that column, so that "
                "nobody knows where they belong: fill it in the vector file, or take these features out of "
                "it, and extract the samples again; or name another column"
            )
        return samples.kept[by]
    known = ", ".join(["sample", "block", "polygon", *samples.kept])
    raise DltsError(
        f"{flag} {by}: the samples carry no attribute of that name (there are: {known}); "
        f"extract them again with --keep {by}"
    )


def blocks_caution(samples: Samples, by: str | None) -> str | None:
    """What to say of samples that are grouped ``by`` block in several coordinate systems; else None."""
    keys = sorted({crs_key(part.spec.grid.crs) for part in samples.parts})
    if by != "block" or len(keys) == 1:
        return None
    return (
        f"the samples are in {len(keys)} coordinate systems ({', '.join(keys)}), whose blocks are kept "
        "apart: places near their border may lie on both sides of a split"
    )


def _blocks(samples: Samples) -> NDArray[np.str_]:
    if len(samples.parts) == 1:
        return samples.blocks
    keys = [crs_key(part.spec.grid.crs) for part in samples.parts]
    # As in their ids, or a pixel on a border of blocks may lie on either side by the grid it was read from.
    x, y = np.round(samples.x, 6), np.round(samples.y, 6)
    groups = np.empty(len(samples), object)
    for key in dict.fromkeys(keys):
        folders = [number for number, other in enumerate(keys) if other == key]
        inside = np.isin(samples.folders, folders)
        # Not that of all folders: metres are no degrees.
        size = max(samples.parts[number].spec.block_size for number in folders)
        name = "" if len(set(keys)) == 1 else f"{key} "
        groups[inside] = [f"{name}{block}" for block in block_ids(x[inside], y[inside], size)]
    return groups.astype(np.str_)


def _pixels(samples: Samples) -> NDArray[np.str_]:
    pairs = zip(samples.x.tolist(), samples.y.tolist(), strict=True)
    return np.array([sample_id(x, y) for x, y in pairs], np.str_)


def joined(groups: NDArray[np.str_], places: NDArray[np.str_]) -> NDArray[np.str_]:
    """Groups (n,) of which those with a place in common are one, named by the first of them in order."""
    names, group = np.unique(groups, return_inverse=True)
    place = np.unique(places, return_inverse=True)[1]
    lowest = np.arange(len(names))
    while True:
        by_place = np.full(len(groups), len(names))
        np.minimum.at(by_place, place, lowest[group])
        before = lowest.copy()
        np.minimum.at(lowest, group, by_place[place])
        if (lowest == before).all():
            return names[lowest[group]]


def read_config(given: str | None) -> dict[str, Any]:
    """Sizes of the architecture from a JSON file, or from the JSON itself.

    Raises:
        DltsError: there is no such file, or it is not a JSON object.
    """
    if given is None:
        return {}
    inline = given.lstrip().startswith("{")
    if not inline and not storage.exists(given):
        raise DltsError(
            f'--model-config takes a JSON file, or JSON such as {{"units": 64}}; there is no file {given}'
        )
    try:
        config = json.loads(given if inline else storage.read_text(given))
    except ValueError as error:
        raise DltsError(f"{given} (--model-config) is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise DltsError(f'{given} (--model-config) must hold an object such as {{"units": 64}}')
    return config


def _parse_index(text: str, have: Sequence[str], chosen: Sequence[str]) -> IndexSpec:
    name, equals, pair = text.partition("=")
    first, comma, second = pair.partition(",")
    if not (name and equals and comma and first and second):
        raise DltsError(f"--index must look like NDVI=NIR,RED; got {text!r}")
    band_positions(have, (first, second))
    left_out = [band for band in dict.fromkeys((first, second)) if band not in chosen]
    if left_out:
        raise DltsError(
            f"--index {text} needs {' and '.join(left_out)}, which --bands leaves out: name all bands of an "
            "index there"
        )
    return IndexSpec(name, first, second)


def _day_of_year(text: str) -> float:
    """0 for 1 January, in a year without 29 February."""
    return float((dt.date.fromisoformat(f"2001-{text}") - dt.date(2001, 1, 1)).days)
