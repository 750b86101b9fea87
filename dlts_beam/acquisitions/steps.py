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

    Files of one day that do not overlap are one time step. Where they overlap, each time of day is one,
    and files of one time and place are refused; so are those whose times are not known. ``same_day`` makes
    one time step of the whole day (merge), or one of each of the files that overlap (separate), also where
    they have the same time of day.

    Args:
        images: with times and labels.
        boxes: path -> place on the lattice.
        settings: ``same_day`` decides what is refused otherwise.

    Raises:
        DltsError: images of one day overlap, and their times of day are not known or not different.
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
    groups = [(time, [image for image in images if image.time == time]) for time in times]
    if settings.same_day == "separate":
        return [Step(time, tuple(layer)) for time, group in groups for layer in _layers(group, boxes)]
    # One time that all images of the series share is not their acquisition.
    if all(len(time) > 10 for time in times) and (len(times) > 1 or days > 1):
        for time, group in groups:
            _check_doubled(time, group, boxes)
        return [Step(time, tuple(group)) for time, group in groups]
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


def _check_doubled(time: str, images: Sequence[Image], boxes: Mapping[str, Box]) -> None:
    """Refuse two images of one time and the same band at the same place: one would hide the other."""
    seen: dict[tuple[str | None, Window], Image] = {}
    for image in images:
        other = seen.setdefault((image.label, boxes[image.header.path].outer()), image)
        if other is not image:
            raise DltsError(
                f"two images have the same time and place: {other.name} and {image.name} at {time};"
                " remove one, or give --same-day merge (one time step of the whole day, the first valid pixel"
                " wins) or --same-day separate (one time step each)"
            )


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
