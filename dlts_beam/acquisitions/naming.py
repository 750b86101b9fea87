"""What file names tell: acquisition times and, where each band is a file of its own, band labels."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlts_beam import storage
from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import box_in
from dlts_beam.acquisitions.pattern import dated_parts, match_parts
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.dates import AmbiguousDatesError, choose_stamps, find_stamps, natural_key
from dlts_beam.errors import DltsError

CHOICES = "give --dates TABLE.csv (columns file,date), --pattern with {date}, or --undated"
_SEPARATORS = re.compile(r"[_\-. /#]+")
_BAND_WORD = re.compile(
    r"(sr|st|qa|toa|boa)?_?(b(and)?_?\d{1,2}a?|blue|green|red|nir\d?|swir\d?|mir|tir\d?|pan|coastal|aerosol"
    r"|rededge\d?|re\d|ndvi|evi|evi2|ndwi|ndmi|savi|nbr|vv|vh|hh|hv|scl|qa|fmask|cloud|clouds|cmask|pixel)"
    r"(_?\d{2}m)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Image:
    """One file of the series.

    Attributes:
        header: what the file says of itself.
        name: its path relative to the folder of images, with the full stem but without the extension.
        time: ISO acquisition time, None where the series is undated.
        key: files of one undated time step share it.
        label: band label where each band is a file of its own, else None.
    """

    header: Header
    name: str
    time: str | None
    key: str
    label: str | None = None

    @property
    def day(self) -> str | None:
        """The ISO date."""
        return None if self.time is None else self.time[:10]


def relative_name(path: str, root: str) -> str:
    """The path under the folder of images, with its extension."""
    folder = root.rstrip("/") + "/"
    return path.removeprefix(folder) if path.startswith(folder) else storage.name(path)


def stem(name: str) -> str:
    """The name without its last extension: dots before it belong to the name."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def first_few(names: Iterable[str], limit: int = 4) -> str:
    """Names for a message: the first ones, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def read_names(headers: Sequence[Header], settings: SeriesSettings) -> list[Image]:
    """Give every file its time and, where bands are files, its band label; in natural order of names.

    Raises:
        DltsError: times cannot be found or can be understood in several ways; the table of dates, or the
            pattern, does not fit the files.
    """
    headers = sorted(headers, key=lambda header: natural_key(relative_name(header.path, settings.root)))
    files = [relative_name(header.path, settings.root) for header in headers]
    stems = [stem(file) for file in files]
    if settings.pattern is not None:
        return _read_pattern(headers, files, settings.pattern, settings)
    times: Sequence[str | None]
    if settings.undated:
        times = [None] * len(files)
    elif settings.dates is not None:
        times = _table_times(files, settings.dates)
    else:
        times = _found_times(headers, stems)
    images = [
        Image(header, name, time, name) for header, name, time in zip(headers, stems, times, strict=True)
    ]
    return _label_undated(images) if settings.undated else _label_dated(images)


def pattern_matches(path: str, settings: SeriesSettings) -> dict[str, str] | None:
    """The parts of a file name that fits the pattern (``date``, ``band``), else None.

    The pattern may stand for the name with or without its extension, and with or without subfolders.

    Raises:
        DltsError: the pattern is wrong.
    """
    assert settings.pattern is not None
    forms = _forms(relative_name(path, settings.root))
    return match_parts(settings.pattern, forms, settings.undated or settings.dates is not None)


def _forms(file: str) -> tuple[str, ...]:
    """What a pattern may stand for: a name without and with its extension, with and without folders."""
    return stem(file), stem(storage.name(file)), file, storage.name(file)


def _read_pattern(
    headers: Sequence[Header], files: list[str], pattern: str, settings: SeriesSettings
) -> list[Image]:
    if settings.undated or settings.dates is not None:
        images = _read_undated_pattern(headers, files, pattern, settings)
    else:
        found = dated_parts(pattern, {file: _forms(file) for file in files})
        images = [
            Image(header, stem(file), parts.time, stem(file), parts.band)
            for header, file, parts in zip(headers, files, found, strict=True)
        ]
    if any(image.label is not None for image in images):
        _check_single_bands(images)
    return images


def _read_undated_pattern(
    headers: Sequence[Header], files: list[str], pattern: str, settings: SeriesSettings
) -> list[Image]:
    """Images whose dates the pattern need not tell: there are none, or a table has them."""
    times: Sequence[str | None] = [None] * len(files)
    if settings.dates is not None:
        times = _table_times(files, settings.dates)
    images = []
    for header, file, time in zip(headers, files, times, strict=True):
        groups = match_parts(pattern, _forms(file), True)
        if groups is None:
            raise DltsError(f"image {file} does not fit --pattern {pattern!r}")
        key = groups.get("date") or stem(file).replace(groups.get("band") or "\0", "{band}")
        images.append(Image(header, stem(file), time, key, groups.get("band")))
    return images


def _table_times(files: list[str], rows: Sequence[tuple[str, str]]) -> list[str]:
    """Times from a table of dates: rows name files with or without extension and folder."""
    known: dict[str, int] = {}
    for number, file in enumerate(files):
        for name in {file, stem(file), storage.name(file), stem(storage.name(file))}:
            known[name] = -1 if name in known else number
    times: dict[int, str] = {}
    for name, time in rows:
        if not name:
            raise DltsError("the table of --dates has no column of files: give columns file,date")
        number = known.get(name, known.get(storage.name(name), -2))
        if number == -2:
            raise DltsError(f"the table of --dates names {name}, and there is no such image")
        if number < 0:
            raise DltsError(f"the table of --dates names {name}, and several images are called so")
        if times.setdefault(number, time) != time:
            raise DltsError(f"the table of --dates gives {name} two dates: {times[number]} and {time}")
    missing = [file for number, file in enumerate(files) if number not in times]
    if missing:
        raise DltsError(f"the table of --dates has no date for {first_few(missing)}")
    return [times[number] for number in range(len(files))]


def _found_times(headers: Sequence[Header], stems: list[str]) -> list[str]:
    """Times from names, refined by metadata of the same day; else from metadata alone."""
    try:
        stamps = choose_stamps(stems)
    except AmbiguousDatesError as error:
        acquired = [header.acquired for header in headers]
        if any(time is None for time in acquired):
            raise DltsError(f"cannot tell the acquisition dates: {error}; {CHOICES}") from error
        return [time for time in acquired if time is not None]
    times = []
    for header, stamp in zip(headers, stamps, strict=True):
        refined = header.acquired
        same_day = refined is not None and len(refined) > 10 and refined.startswith(stamp.iso)
        times.append(refined if same_day and refined is not None else stamp.iso)
    return times


def _tokens(name: str) -> list[str]:
    """The words of a name, dates blanked."""
    text = name
    for stamp in reversed(find_stamps(name)):
        text = f"{text[: stamp.start]}#{text[stamp.end :]}"
    return [word for word in _SEPARATORS.split(text) if word]


def _varying_words(names: Sequence[str]) -> tuple[int, int] | None:
    """(start, end): how many words the names of one date and place share before and after what differs."""
    words = [_tokens(name) for name in names]
    columns = list(itertools.zip_longest(*words))
    start = next((number for number, column in enumerate(columns) if len(set(column)) > 1), None)
    if start is None:
        return None
    backwards = itertools.zip_longest(*(reversed(tokens[start:]) for tokens in words))
    return start, next((number for number, column in enumerate(backwards) if len(set(column)) > 1), 0)


def _label(name: str, span: tuple[int, int]) -> str:
    tokens = _tokens(name)
    return "_".join(tokens[span[0] : len(tokens) - span[1]])


def _label_dated(images: list[Image]) -> list[Image]:
    """Find band labels where every date has the same set of single-band files on the same place."""
    if any(len(image.header.bands) > 1 for image in images):
        return images
    by_time: dict[str | None, list[list[Image]]] = {}
    for image in images:
        places = by_time.setdefault(image.time, [])
        for cluster in places:
            if _same_place(cluster[0].header, image.header):
                cluster.append(image)
                break
        else:
            places.append([image])
    clusters = [cluster for places in by_time.values() for cluster in places]
    spans = {_varying_words([image.name for image in cluster]) for cluster in clusters if len(cluster) > 1}
    span = next(iter(spans)) if len(spans) == 1 else None
    if span is None:
        return images
    labels = [[_label(image.name, span) for image in cluster] for cluster in clusters]
    sets = [frozenset(found) for found in labels]
    every = sorted(frozenset().union(*sets), key=natural_key)
    distinct = all(len(found) == len(cluster) for found, cluster in zip(sets, clusters, strict=True))
    words = all(_BAND_WORD.fullmatch(label) for label in every)
    # On one date only, or on few of them, the words that differ may be anything: they must look like bands.
    if "" in every or not distinct or not (words or (len(clusters) > 1 and len(set(sets)) == 1)):
        return images
    gaps = [
        f"{cluster[0].time} lacks {', '.join(label for label in every if label not in found)}"
        for cluster, found in zip(clusters, sets, strict=True)
        if len(found) < len(every)
    ]
    if gaps:
        raise DltsError(f"not every date has a file for every band: {first_few(gaps)}; add or remove files")
    return [
        Image(image.header, image.name, image.time, image.key, label)
        for cluster, found in zip(clusters, labels, strict=True)
        for image, label in zip(cluster, found, strict=True)
    ]


def _label_undated(images: list[Image]) -> list[Image]:
    """Find band labels by their words: every undated time step must have the same set of them."""
    if any(len(image.header.bands) > 1 for image in images):
        return images
    found: list[Image] = []
    for image in images:
        words = image.name.split("_") if "_" in image.name else _SEPARATORS.split(image.name)
        labels = [word for word in words if _BAND_WORD.fullmatch(word)]
        if len(labels) != 1:
            return images
        key = image.name.replace(labels[0], "{band}")
        found.append(Image(image.header, image.name, None, key, labels[0]))
    sets: dict[str, set[str | None]] = {}
    for image in found:
        sets.setdefault(image.key, set()).add(image.label)
    distinct = {frozenset(labels) for labels in sets.values()}
    if len(distinct) != 1 or len(next(iter(distinct))) == 1:
        return images
    return found


def _check_single_bands(images: Sequence[Image]) -> None:
    for image in images:
        if len(image.header.bands) > 1:
            raise DltsError(
                f"--pattern has {{band}}, which needs one band per file, and {image.header.path}"
                f" has {len(image.header.bands)} bands"
            )


def _same_place(one: Header, other: Header) -> bool:
    """True where two images cover the same ground, within a pixel of the coarser one."""
    if one.crs != other.crs or one.crs is None:
        return one.crs == other.crs and one.transform == other.transform
    coarse, fine = sorted((one.grid, other.grid), key=lambda grid: grid.width * grid.height)
    box = box_in(coarse, [fine.xy(0, 0), fine.xy(fine.height, fine.width)])
    whole = (0.0, 0.0, float(coarse.height), float(coarse.width))
    return all(abs(edge - expected) < 1 for edge, expected in zip(box, whole, strict=True))
