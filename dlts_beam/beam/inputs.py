"""What a run reads must be what step 1 saw, from its beginning to its end, and must not be written over."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from dlts_beam import storage
from dlts_beam.beam.assembly import in_threads
from dlts_beam.errors import DltsError
from dlts_beam.io.raster.handles import check_unchanged
from dlts_beam.io.raster.reader import UnreadableSourceError
from dlts_beam.spec import SeriesSpec


def take_stock(series: SeriesSpec, bands: Sequence[str], quarantine: bool) -> frozenset[int]:
    """Before a run: numbers of the files of these bands that are as step 1 saw them.

    Raises:
        DltsError: one is not, and the run does not go on after errors.
    """
    if quarantine:
        return good_inputs(series, bands)
    check_inputs(series, bands)
    return frozenset(series.used_files(bands))


def check_stock(series: SeriesSpec, bands: Sequence[str], quarantine: bool, good: Iterable[int]) -> None:
    """After a run: an image that changed under our eyes must not end in a certificate.

    Raises:
        DltsError: one did, or went away in a run that does not go on after errors.
    """
    if quarantine:
        check_still_good(series, good)
    else:
        check_inputs(series, bands)


def check_inputs(series: SeriesSpec, bands: Sequence[str]) -> None:
    """Compare every file of these bands with its fingerprint, its content too where the series keeps a hash.

    Raises:
        DltsError: one is gone or changed after step 1.
    """
    for _ in in_threads(lambda number: _check(series, number), series.used_files(bands)):
        pass


def good_inputs(series: SeriesSpec, bands: Sequence[str]) -> frozenset[int]:
    """Numbers of the files that are as step 1 saw them: all that a run may read that goes on after errors."""

    def good(number: int) -> int | None:
        try:
            _check(series, number)
        except DltsError:
            return None
        return number

    found = in_threads(good, series.used_files(bands))
    return frozenset(number for number in found if number is not None)


def check_still_good(series: SeriesSpec, good: Iterable[int]) -> None:
    """Compare files that were good again, after a run that goes on after errors.

    A file that went away was read, if at all, while it was good, and tiles that came later are quarantined;
    of one that changed nobody knows which pixels went into the map.

    Raises:
        DltsError: one changed.
    """

    def check(number: int) -> None:
        try:
            _check(series, number)
        except UnreadableSourceError:
            return

    for _ in in_threads(check, sorted(good)):
        pass


def check_output(output: str, others: Iterable[str]) -> None:
    """The map must not be written over what it is made from.

    Args:
        output: a raster that will be written.
        others: paths of the images and of the files that the user's flags name.

    Raises:
        DltsError: it is one of them, or a folder.
    """
    if not storage.exists(output):
        return
    if storage.is_folder(output):
        raise DltsError(f"cannot write {output}: it is a folder; give the name of a file")
    if any(storage.same_file(output, other) for other in others):
        raise DltsError(f"cannot write {output}: the map is made from this file; choose another name")


def _check(series: SeriesSpec, number: int) -> None:
    file = series.files[number]
    check_unchanged(file)
    if file.sha256 is not None and storage.stat(file.path).stamp != file.stamp:
        digest = hashlib.sha256(storage.read_bytes(file.path)).hexdigest()
        if digest != file.sha256:
            raise DltsError(
                f"image {file.path} changed after the series was made: run generate-img-series again"
            )
