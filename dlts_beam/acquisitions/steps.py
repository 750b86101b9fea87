"""Files to time steps: what belongs to one acquisition, and what is another one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlts_beam.acquisitions.lattice import Box
from dlts_beam.acquisitions.naming import Image, first_few
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.dates import natural_key
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window


@dataclass(frozen=True)
class Step:
    """The files of one time step in natural order of their names: earlier ones win where they overlap."""

    time: str | None
    images: tuple[Image, ...]


def group_steps(images: Sequence[Image], boxes: Mapping[str, Box], settings: SeriesSettings) -> list[Step]:
    """Group files to time steps in chronological order (natural order of names where undated).

    Files of one day that do not overlap, or that have the same time of day, are one time step. Files of
    one day that overlap are several time steps where their times are known, and refused where not.

    Args:
        images: with times and labels.
        boxes: path -> place on the lattice.
        settings: ``same_day`` decides what is refused otherwise.

    Raises:
        DltsError: images of one day overlap, and their times of day are not known.
    """
    images = sorted(images, key=lambda image: natural_key(image.name))
    if settings.undated:
        keys = sorted({image.key for image in images}, key=natural_key)
        groups = [[image for image in images if image.key == key] for key in keys]
        return [Step(None, tuple(group)) for group in groups]
    steps: list[Step] = []
    days = sorted({image.day or "" for image in images})
    for day in days:
        steps += _split_day([image for image in images if image.day == day], boxes, settings, len(days))
    return sorted(steps, key=lambda step: step.time or "")


def _split_day(
    images: list[Image], boxes: Mapping[str, Box], settings: SeriesSettings, days: int
) -> list[Step]:
    """The time steps of the images of one day."""
    times = sorted({image.time or "" for image in images})
    overlapping = _overlap(images, boxes)
    if overlapping is None or settings.same_day == "merge":
        return [Step(times[0] if len(times) == 1 else times[-1][:10], tuple(images))]
    if all(len(time) > 10 for time in times) and len(times) > 1:
        return [Step(time, tuple(image for image in images if image.time == time)) for time in times]
    if len(times) == 1 and len(times[0]) > 10 and days > 1 and settings.same_day is None:
        doubled = _doubled(images, boxes)
        if doubled is None:
            return [Step(times[0], tuple(images))]
        raise DltsError(
            f"two images have the same time and place: {doubled[0].name} and {doubled[1].name} at {times[0]};"
            " remove one, or give --same-day merge (the first valid pixel wins) or --same-day separate"
        )
    if settings.same_day == "separate":
        return [
            Step(time, tuple(group))
            for time in times
            for group in _layers([image for image in images if image.time == time], boxes)
        ]
    names = f"{overlapping[0].name} and {overlapping[1].name}"
    if days == 1:
        raise DltsError(
            f"all {len(images)} images bear the date {images[0].day} and overlap ({names}): this date"
            " does not tell their order; give --undated to number them by name, --dates TABLE.csv (columns"
            " file,date), --pattern with {date}, or --same-day merge if they are pieces of one acquisition"
        )
    raise DltsError(
        f"images of one day overlap and their times of day are not known: {names} on {images[0].day};"
        " give --same-day merge (one time step, the first valid pixel wins), --same-day separate (one time"
        " step each, in order of names), or their times with --dates TABLE.csv (columns file,date)"
    )


def _overlap(images: Sequence[Image], boxes: Mapping[str, Box]) -> tuple[Image, Image] | None:
    """Two images of the same band that share pixels, or None."""
    ordered = sorted(images, key=lambda image: boxes[image.header.path].top)
    for number, one in enumerate(ordered):
        box = boxes[one.header.path]
        for other in itertools.islice(ordered, number + 1, None):
            if boxes[other.header.path].top >= box.bottom:
                break
            if one.label == other.label and box.overlaps(boxes[other.header.path]):
                first, second = sorted((one, other), key=lambda image: natural_key(image.name))
                return first, second
    return None


def _doubled(images: Sequence[Image], boxes: Mapping[str, Box]) -> tuple[Image, Image] | None:
    """Two images of the same band at the same place, or None."""
    seen: dict[tuple[str | None, Window], Image] = {}
    for image in images:
        other = seen.setdefault((image.label, boxes[image.header.path].outer()), image)
        if other is not image:
            return other, image
    return None


def _layers(images: Sequence[Image], boxes: Mapping[str, Box]) -> list[list[Image]]:
    """Spread images over as few groups as their order allows, none with an overlap in it."""
    groups: list[list[Image]] = []
    for image in images:
        for group in groups:
            if _overlap([*group, image], boxes) is None:
                group.append(image)
                break
        else:
            groups.append([image])
    return groups


def check_names(images: Sequence[Image]) -> None:
    """Refuse two files that differ in their extension only: one image in two formats.

    Raises:
        DltsError: names both files.
    """
    seen: dict[str, Image] = {}
    for image in images:
        other = seen.setdefault(image.name, image)
        if other is not image:
            raise DltsError(
                "two files are the same image in two formats:"
                f" {first_few([other.header.path, image.header.path])}; remove one of them"
            )
