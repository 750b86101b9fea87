"""The bands of a series: which raster band of which file they are, and that all dates agree on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dlts_beam.acquisitions.header import BandHeader, Header
from dlts_beam.acquisitions.naming import Image, first_few
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.dates import natural_key
from dlts_beam.errors import DltsError
from dlts_beam.spec.series import Band

V = TypeVar("V", bound=Hashable)
COMPLEX_INT = "complex_int16"  # what rasterio calls GDAL's CInt16, which numpy has no type for


@dataclass(frozen=True)
class BandPlan:
    """The bands of a series and the mask band.

    Attributes:
        bands: in the order asked for.
        labels: band number -> label, where each band is a file of its own; else empty.
        mask: number of the mask band, or None.
        mask_dtype: its data type.
    """

    bands: tuple[Band, ...]
    labels: Mapping[int, str]
    mask: int | None
    mask_dtype: str

    def indexes(self, image: Image, number: int) -> int | None:
        """The raster band of ``image`` that holds band ``number``, or None."""
        if not self.labels:
            return number
        return 1 if image.label == self.labels[number] else None

    def reads(self, image: Image) -> set[int]:
        """The raster bands of ``image`` that are bands of the series, or its mask band."""
        numbers = [band.number for band in self.bands] + ([self.mask] if self.mask is not None else [])
        return {index for number in numbers if (index := self.indexes(image, number)) is not None}


def plan_bands(images: Sequence[Image], settings: SeriesSettings) -> BandPlan:
    """Choose and check the bands of the series.

    Raises:
        DltsError: a band is missing, or its data type, nodata, scale or offset differs between files.
    """
    labelled = any(image.label is not None for image in images)
    labels = (
        dict(enumerate(sorted({image.label or "" for image in images}, key=natural_key), start=1))
        if labelled
        else {}
    )
    count = len(labels) if labelled else _common_count(images, settings)
    mask = _mask_number(settings, labels, count, images)
    alpha = None if labelled or settings.bands else _alpha_number(images, mask)
    numbers = settings.bands or tuple(n for n in range(1, count + 1) if n not in (mask, alpha))
    wrong = [number for number in numbers if not 1 <= number <= count]
    if wrong:
        raise DltsError(f"there is no band {wrong[0]}: the images have bands 1 to {count}; check --bands")
    if len(set(numbers)) != len(numbers):
        raise DltsError(f"--bands names a band twice: {' '.join(map(str, numbers))}")
    if not numbers:
        raise DltsError("the images have no band beside a mask band or an alpha band")
    if alpha is not None:
        _check_no_fourth_of_bytes(images, alpha, numbers)
    names = _names(images, labels, count) | chosen_names(numbers, settings)
    bands = []
    for number in numbers:
        holders = _holders(images, labels, number)
        bands.append(make_band(number, names[number], holders, settings))
    dtype = "uint8"
    if mask is not None:
        holders = _holders(images, labels, mask)
        dtype = _agreed(mask, "data type", holders, lambda band: band.dtype, "")
    return BandPlan(tuple(bands), labels, mask, dtype)


def chosen_names(numbers: Sequence[int], settings: SeriesSettings) -> dict[int, str]:
    """Band number -> the name that the user gave it; empty where none was given.

    Raises:
        DltsError: there are more or fewer names than bands, or one comes twice.
    """
    names = settings.band_names
    if names is None:
        return {}
    if len(names) != len(numbers):
        raise DltsError(f"--band-names gives {len(names)} names for {len(numbers)} bands: give one for each")
    if len(set(names)) != len(names):
        raise DltsError(f"--band-names gives a name twice: {' '.join(names)}")
    return dict(zip(numbers, names, strict=True))


def make_band(
    number: int, name: str, holders: Sequence[tuple[str, BandHeader]], settings: SeriesSettings
) -> Band:
    """One band from all (path, band header) that hold it, with what the settings override.

    Raises:
        DltsError: the files do not agree.
    """
    dtype = _agreed(number, "data type", holders, lambda band: band.dtype, "; convert them to one type")
    if dtype == COMPLEX_INT or np.dtype(dtype).kind not in "iuf":
        raise DltsError(f"band {number} has data type {dtype}, which is no plain number: convert the images")
    nodata = settings.nodata
    if nodata is None:
        nodata = _agreed_nodata(number, holders)
    if nodata is not None and not math.isfinite(nodata):
        nodata = None  # NaN and infinities are never valid, whatever the header says
    scale, offset = settings.scale, settings.offset
    if scale is None:
        scale = _agreed(number, "scale", holders, lambda band: band.scale, "; give --scale")
    if offset is None:
        offset = _agreed(number, "offset", holders, lambda band: band.offset, "; give --offset")
    if not scale or not math.isfinite(scale) or not math.isfinite(offset):
        raise DltsError(f"band {number} has scale {scale} and offset {offset}; give --scale and --offset")
    return Band(number, name, dtype, None if nodata is None else float(nodata), float(scale), float(offset))


def _common_count(images: Sequence[Image], settings: SeriesSettings) -> int:
    """Number of bands of all images; with chosen bands, what the poorest image has."""
    counts: dict[int, list[str]] = {}
    for image in images:
        counts.setdefault(len(image.header.bands), []).append(image.header.path)
    least = min(counts)
    if len(counts) > 1 and not (settings.bands and max(settings.bands) <= least):
        listed = "; ".join(
            f"{number} bands in {first_few(paths, 2)}" for number, paths in sorted(counts.items())
        )
        raise DltsError(f"images differ in their number of bands: {listed}; choose common ones with --bands")
    return least


def _mask_number(
    settings: SeriesSettings, labels: Mapping[int, str], count: int, images: Sequence[Image]
) -> int | None:
    text = settings.mask_band
    if text is None:
        return None
    if text.isdigit():
        number = int(text)
    else:
        names = _names(images, labels, count)
        found = [number for number, name in names.items() if name.casefold() == text.casefold()]
        if not found:
            raise DltsError(f"--mask-band {text}: there is no such band among {', '.join(names.values())}")
        number = found[0]
    if not 1 <= number <= count:
        raise DltsError(f"--mask-band {number}: the images have bands 1 to {count}")
    return number


def _alpha_number(images: Sequence[Image], mask: int | None) -> int | None:
    """Number of the band that tells which pixels are observed: no feature, unless it is asked for.

    Raises:
        DltsError: the images do not agree on it.
    """
    found: dict[int | None, list[str]] = {}
    for image in images:
        alpha = image.header.alpha if image.header.alpha != mask else None
        found.setdefault(alpha or None, []).append(image.header.path)
    if len(found) > 1:
        number = max(alpha for alpha in found if alpha is not None)
        others = [path for alpha, paths in found.items() if alpha != number for path in paths]
        raise DltsError(
            f"band {number} is an alpha band in {first_few(found[number], 2)} and not in"
            f" {first_few(others, 2)}; choose the bands with --bands"
        )
    return next(iter(found))


def _check_no_fourth_of_bytes(images: Sequence[Image], alpha: int, others: Sequence[int]) -> None:
    """Refuse to guess what the fourth of four bands of bytes is, which GDAL calls alpha by itself.

    Raises:
        DltsError: names both ways to say it.
    """
    for image in images:
        if alpha == 4 and [band.dtype for band in image.header.bands] == ["uint8"] * 4:
            told = " ".join(map(str, others))
            raise DltsError(
                f"band 4 of {image.header.path} is marked as an alpha band, and GDAL marks the fourth band of"
                f" any 8-bit image so: give -b {told} if it is one (its zeros then hide pixels), or"
                f" -b {told} 4 if it is a band like the others"
            )


def _names(images: Sequence[Image], labels: Mapping[int, str], count: int) -> dict[int, str]:
    """Band names: labels of file names, descriptions that all files share, or b1, b2 …."""
    if labels:
        return dict(labels)
    described = {tuple(band.description for band in image.header.bands[:count]) for image in images}
    if len(described) == 1:
        names = next(iter(described))
        if all(names) and len(set(names)) == len(names):
            return {number: name or "" for number, name in enumerate(names, start=1)}
    return {number: f"b{number}" for number in range(1, count + 1)}


def _holders(images: Sequence[Image], labels: Mapping[int, str], number: int) -> list[tuple[str, BandHeader]]:
    if labels:
        return [
            (image.header.path, image.header.bands[0]) for image in images if image.label == labels[number]
        ]
    return [(image.header.path, image.header.bands[number - 1]) for image in images]


def _agreed(
    number: int,
    what: str,
    holders: Sequence[tuple[str, BandHeader]],
    value_of: Callable[[BandHeader], V],
    remedy: str,
) -> V:
    """The one value that all files give.

    Raises:
        DltsError: they differ; the rarer values are listed with their files.
    """
    found: dict[V, list[str]] = {}
    for path, band in holders:
        found.setdefault(value_of(band), []).append(path)
    if len(found) > 1:
        by_count = sorted(found.items(), key=lambda item: len(item[1]))
        listed = "; ".join(f"{value} in {first_few(paths, 2)}" for value, paths in by_count)
        raise DltsError(f"band {number} differs between images in its {what}: {listed}{remedy}")
    return next(iter(found))


def _agreed_nodata(number: int, holders: Sequence[tuple[str, BandHeader]]) -> float | None:
    """The nodata value that all files give, compared as the band's own data type holds it."""
    remedy = "; give --nodata VALUE for all of them"

    def told(band: BandHeader) -> str:
        if band.nodata is None:
            return "none"
        if np.dtype(band.dtype).kind == "f":
            with np.errstate(over="ignore"):
                return str(np.dtype(band.dtype).type(band.nodata))
        return str(band.nodata)

    numbers = [(path, band) for path, band in holders if told(band) not in ("nan", "inf", "-inf")]
    if not numbers:
        return None
    _agreed(number, "nodata value", numbers, told, remedy)
    return numbers[0][1].nodata


def stacked_bands(headers: Sequence[Header], names: Sequence[str], settings: SeriesSettings) -> list[Band]:
    """Bands of a series whose files are bands and whose layers are time steps.

    Raises:
        DltsError: layers of one file differ in what makes a band.
    """
    numbers = settings.bands or tuple(range(1, len(headers) + 1))
    wrong = [number for number in numbers if not 1 <= number <= len(headers)]
    if wrong:
        raise DltsError(f"there is no band {wrong[0]}: {len(headers)} files make bands 1 to {len(headers)}")
    given = chosen_names(numbers, settings)
    return [
        make_band(
            number,
            given.get(number, names[number - 1]),
            [
                (f"layer {layer} of {headers[number - 1].path}", band)
                for layer, band in enumerate(headers[number - 1].bands, start=1)
            ],
            settings,
        )
        for number in numbers
    ]
