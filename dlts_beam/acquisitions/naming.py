"""What file names tell: acquisition times and, where each band is a file of its own, band labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dlts_beam import storage
from dlts_beam.acquisitions.header import Header
from dlts_beam.acquisitions.lattice import box_in
from dlts_beam.acquisitions.pattern import dated_parts, match_parts
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.acquisitions.words import BAND_WORD, SEPARATORS, label_words, varying_words
from dlts_beam.dates import AmbiguousDatesError, choose_stamps, natural_key
from dlts_beam.errors import DltsError

CHOICES = "give --dates TABLE.csv (columns file,date), --pattern with {date}, or --undated"


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
    if settings.undated:
        return _label_undated(images)
    return _label_dated(images) if settings.dates is not None else _label_found(images)


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
    """Times from names, else from metadata."""
    try:
        return [stamp.iso for stamp in choose_stamps(stems)]
    except AmbiguousDatesError as error:
        acquired = [header.acquired for header in headers]
        if any(time is None for time in acquired):
            raise DltsError(f"cannot tell the acquisition dates: {error}; {CHOICES}") from error
        return [time for time in acquired if time is not None]


def _label_found(images: list[Image]) -> list[Image]:
    """Find band labels, and the times of day that names do not tell and metadata do.

    Metadata may differ between the bands of one acquisition. So they tell acquisitions of one day apart only
    where each of their times has all bands; else the dates of the names decide what belongs together, if
    they find the same bands.

    Raises:
        DltsError: bands are missing on some dates.
    """
    alone = [replace(image, time=_finer_time([image])) for image in images]
    labelled, gaps = _find_labels(alone)
    if labelled is not None and not gaps:
        return labelled
    dated, day_gaps = _find_labels(images)
    if labelled is not None and (dated is None or _labels(dated) != _labels(labelled)):
        _refuse_gaps(gaps)
    if dated is None:
        return alone
    _refuse_gaps(day_gaps)
    return [
        replace(image, time=_finer_time(cluster)) for cluster in _acquisitions(dated) for image in cluster
    ]


def _labels(images: Iterable[Image]) -> set[str | None]:
    return {image.label for image in images}


def _refuse_gaps(gaps: Sequence[str]) -> None:
    """Raise where bands are missing on some dates."""
    if gaps:
        raise DltsError(f"not every date has a file for every band: {first_few(gaps)}; add or remove files")


def _finer_time(images: Sequence[Image]) -> str | None:
    """The time of the files of one acquisition, with the time of day that all their metadata agree on."""
    time = images[0].time
    told = {image.header.sensed for image in images}
    finer = told.pop()
    same_day = time is not None and finer is not None and len(finer) > 10 and finer.startswith(time)
    return finer if same_day and not told else time


def _acquisitions(images: Iterable[Image]) -> list[list[Image]]:
    """Images of the same time and place together."""
    by_time: dict[str | None, list[list[Image]]] = {}
    for image in images:
        places = by_time.setdefault(image.time, [])
        for cluster in places:
            if _same_place(cluster[0].header, image.header):
                cluster.append(image)
                break
        else:
            places.append([image])
    return [cluster for places in by_time.values() for cluster in places]


def _label_dated(images: list[Image]) -> list[Image]:
    """The images with band labels where they have them.

    Raises:
        DltsError: bands are missing on some dates.
    """
    labelled, gaps = _find_labels(images)
    _refuse_gaps(gaps)
    return labelled if labelled is not None else images


def _find_labels(images: list[Image]) -> tuple[list[Image] | None, list[str]]:
    """Images with band labels where each date has the same single-band files on one place, and what lacks."""
    if any(len(image.header.bands) > 1 for image in images):
        return None, []
    clusters = _acquisitions(images)
    spans = {varying_words([image.name for image in cluster]) for cluster in clusters if len(cluster) > 1}
    span = next(iter(spans)) if len(spans) == 1 else None
    if span is None:
        return None, []
    labels = [[label_words(image.name, span) for image in cluster] for cluster in clusters]
    sets = [frozenset(found) for found in labels]
    every = sorted(frozenset().union(*sets), key=natural_key)
    distinct = all(len(found) == len(cluster) for found, cluster in zip(sets, clusters, strict=True))
    words = all(BAND_WORD.fullmatch(label) for label in every)
    # On one date only, or on few of them, the words that differ may be anything: they must look like bands.
    if "" in every or not distinct or not (words or (len(clusters) > 1 and len(set(sets)) == 1)):
        return None, []
    gaps = [
        f"{cluster[0].time} lacks {', '.join(label for label in every if label not in found)}"
        for cluster, found in zip(clusters, sets, strict=True)
        if len(found) < len(every)
    ]
    return [
        replace(image, label=label)
        for cluster, found in zip(clusters, labels, strict=True)
        for image, label in zip(cluster, found, strict=True)
    ], gaps


def _label_undated(images: list[Image]) -> list[Image]:
    """Find band labels by their words: every undated time step must have the same set of them."""
    if any(len(image.header.bands) > 1 for image in images):
        return images
    found: list[Image] = []
    for image in images:
        words = image.name.split("_") if "_" in image.name else SEPARATORS.split(image.name)
        labels = [word for word in words if BAND_WORD.fullmatch(word)]
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
