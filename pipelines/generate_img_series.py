"""Step 1: dated images to one series (``dlts generate-img-series``)."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlts_beam import storage
from dlts_beam.acquisitions.header import Unusable
from dlts_beam.acquisitions.naming import first_few, pattern_matches, relative_name
from dlts_beam.acquisitions.settings import EXTENTS, RESAMPLING, SAME_DAY, SeriesSettings
from dlts_beam.acquisitions.summary import summary
from dlts_beam.acquisitions.table import read_dates
from dlts_beam.command import crash_told, leave
from dlts_beam.errors import DltsError
from dlts_beam.spec.series import MaskRule, Reading, SeriesSpec
from pipelines._main import NumbersParser, run_beam_main

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

DESCRIPTION = """\
Step 1: put the images of a folder into one series.

Finds when each image was acquired, checks that all of them lie on one pixel grid and agree on
their bands, and writes series.json, which the next steps read, and ts_b<k>.vrt for each band k,
one layer per time step, which QGIS and GDAL open. Pixels stay in the images: nothing is copied.
"""
EPILOG = """\
examples:
  one GeoTIFF with all bands per date (MOD13Q1_20111101_subset.tif …), bands 1 to 6:
    dlts generate-img-series -i images -b 1 2 3 4 5 6 -o series
  one file per band and date, told apart by a pattern:
    dlts generate-img-series -i images --pattern '{date}_{band}' -o series
  images without dates (step01.tif, step02.tif …):
    dlts generate-img-series -i images --undated -o series
  one file per band that holds all dates already, and a file with one date a line:
    dlts generate-img-series -i stacks --stacked --dates timeline.txt -o series
  Sentinel-2 with its scene classification as band 11, clouds and shadows dropped with two pixels round them:
    dlts generate-img-series -i images --mask-band 11 --mask-drop 3 8 9 10 --mask-dilate 2 -o series
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of step 1."""
    parser = NumbersParser(
        prog="dlts generate-img-series",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-i",
        "--input-dir",
        required=True,
        metavar="DIR",
        help="folder of the images, any format that GDAL reads; local or gs://",
    )
    parser.add_argument(
        "-b",
        "--bands",
        nargs="+",
        type=int,
        metavar="K",
        help="band numbers from 1, in the order wanted (default: all, without the mask band and an alpha "
        "band); an alpha band that is named is a band like the others and hides no pixels",
    )
    parser.add_argument(
        "--band-names",
        nargs="+",
        metavar="NAME",
        help="names of these bands, in the same order (default: from the files); models know bands by name",
    )
    parser.add_argument(
        "-o",
        "--output-dir",
        required=True,
        metavar="DIR",
        help="folder for series.json and the VRTs; local or gs://",
    )
    parser.add_argument("--recursive", action="store_true", help="look for images in subfolders, too")

    times = parser.add_argument_group(
        "dates",
        "Taken from file names (20180812, 2018-08-12, 2018_8, 201808, 2018224, a time of day "
        "may follow as T101530), else from metadata.",
    )
    times.add_argument(
        "--dates",
        metavar="FILE",
        help="table of dates: CSV with columns file,date; with --stacked also one date a line",
    )
    times.add_argument(
        "--undated",
        action="store_true",
        help="number the time steps in natural order of the file names (step2 before step10)",
    )
    times.add_argument(
        "--pattern",
        metavar="TEXT",
        help="form of the file names, such as '*_{date}_{band}': {date} and {band} are parts, * is "
        "anything; other files are left out",
    )
    times.add_argument(
        "--same-day",
        choices=SAME_DAY,
        help="overlapping images of one day without times: merge them into one time step (the "
        "first valid pixel wins) or make a time step of each",
    )
    times.add_argument(
        "--stacked", action="store_true", help="each file is one band, each of its layers one time step"
    )

    grid = parser.add_argument_group("grid")
    grid.add_argument(
        "--extent",
        choices=EXTENTS,
        help="area of the series: union of all images (default), their intersection, the first "
        "time step's, or that of --like FILE (default with --like)",
    )
    grid.add_argument(
        "--align",
        action="store_true",
        help="resample images that are off the pixel lattice; without it they are refused",
    )
    grid.add_argument(
        "--like", metavar="FILE", help="raster whose lattice the series takes (default: the finest image's)"
    )
    grid.add_argument(
        "--resampling",
        choices=RESAMPLING,
        default="nearest",
        help="for images that --align resamples (default: %(default)s); a mask band is always nearest",
    )
    grid.add_argument(
        "--crs",
        metavar="CRS",
        help="coordinate reference system of images (and of --like) that have none, such as EPSG:32720",
    )

    reading = parser.add_argument_group(
        "reading", "Rules that belong to the series: every later step reads its pixels by them."
    )
    reading.add_argument(
        "--nodata", type=float, metavar="V", help="value that means missing, in place of the files' own"
    )
    reading.add_argument(
        "--scale", type=float, metavar="S", help="values are stored x S + O, in place of the files' own"
    )
    reading.add_argument("--offset", type=float, metavar="O", help="see --scale")
    reading.add_argument(
        "--valid-range",
        nargs=2,
        type=float,
        metavar=("MIN", "MAX"),
        help="values (after scale and offset) outside are missing; -inf or inf is no bound on that side",
    )
    reading.add_argument(
        "--mask-band", metavar="K", help="number or name of a band of codes, such as Sentinel-2's SCL"
    )
    reading.add_argument(
        "--mask-drop",
        nargs="+",
        type=int,
        metavar="CODE",
        help="codes of the mask band whose pixels are missing",
    )
    reading.add_argument(
        "--mask-dilate", type=int, default=0, metavar="N", help="also drop pixels up to N away from them"
    )
    reading.add_argument(
        "--hash-content",
        action="store_true",
        help="keep a SHA-256 of each image, so that a copy with another date still counts as the same",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run step 1 and return its exit status."""
    return run_beam_main(build_parser, run, argv)


def run(arguments: argparse.Namespace, options: PipelineOptions) -> None:
    """Check the flags, list the images, run the pipeline and print what it made.

    Raises:
        DltsError: anything that the user can act on.
    """
    root = _absolute(arguments.input_dir)
    folder = _absolute(arguments.output_dir)
    settings = make_settings(arguments, root)
    entries, left_out = _list_images(root, settings, arguments.recursive)

    import apache_beam as beam

    from dlts_beam.beam.dataflow import describe_detached, is_detached
    from dlts_beam.beam.runner import check_submission, run_pipeline
    from dlts_beam.beam.series import SERIES_FILE, WriteSeries
    from dlts_beam.io.raster.headers import read_header
    from dlts_beam.io.raster.vrt import vrt_name

    reference = None
    if arguments.like is not None:
        like = _absolute(arguments.like)
        record = read_header(storage.FileEntry(like, *storage.stat(like)))
        if isinstance(record, Unusable):
            raise DltsError(f"--like {arguments.like} is not a raster that can be read: {record.reason}")
        reference = record
    check_submission(options, {"--input-dir": root, "--output-dir": folder})
    storage.check_writable(folder)

    def build(pipeline: beam.Pipeline) -> None:
        files = pipeline | "ListImages" >> beam.Create(entries)
        files | "WriteSeries" >> WriteSeries(folder, settings, reference, arguments.hash_content)

    run_pipeline(build, options)
    if is_detached(options):
        print(f"{describe_detached(options)}: {len(entries)} files to look at")
        return
    path = storage.join(folder, SERIES_FILE)
    spec = SeriesSpec.from_json(storage.read_bytes(path), path)
    print(summary(spec, root))
    used = {file.path for file in spec.files}
    left_out += [entry.path for entry in entries if entry.path not in used]
    if left_out:
        names = first_few((relative_name(name, root) for name in left_out), 5)
        print(f"left out: {names}")
    vrts = ", ".join(vrt_name(band) for band in spec.bands)
    print(f"written: {path} and {vrts}")


def make_settings(arguments: argparse.Namespace, root: str) -> SeriesSettings:
    """The settings of the command line.

    Raises:
        DltsError: flags contradict each other or have no sense.
    """
    if arguments.undated and arguments.dates is not None:
        raise DltsError("--undated and --dates exclude each other: give one of them")
    if arguments.stacked and arguments.pattern is not None:
        raise DltsError("--stacked and --pattern exclude each other: stacked files are bands, not dates")
    if arguments.bands is not None and min(arguments.bands) < 1:
        raise DltsError(f"--bands counts from 1; got {min(arguments.bands)}")
    if (arguments.mask_band is None) != (arguments.mask_drop is None):
        raise DltsError("--mask-band and --mask-drop belong together: give the band and the codes to drop")
    if arguments.mask_dilate < 0:
        raise DltsError(f"--mask-dilate must be 0 or more; got {arguments.mask_dilate}")
    if arguments.scale is not None and (arguments.scale == 0 or not math.isfinite(arguments.scale)):
        raise DltsError(f"--scale must be a number other than 0; got {arguments.scale}")
    if arguments.offset is not None and not math.isfinite(arguments.offset):
        raise DltsError(f"--offset must be a finite number; got {arguments.offset}")
    extent = arguments.extent or ("like" if arguments.like else "union")
    if extent == "like" and arguments.like is None:
        raise DltsError("--extent like needs --like FILE")
    low, high = arguments.valid_range or (-math.inf, math.inf)
    # NaN is neither up to anything nor beyond it.
    if not low <= high or low == math.inf or high == -math.inf:
        raise DltsError(f"--valid-range must have MIN up to MAX; got {low:g} {high:g}")
    mask = None
    if arguments.mask_drop is not None:
        mask = MaskRule(1, tuple(sorted(set(arguments.mask_drop))), arguments.mask_dilate)
    crs = None
    if arguments.crs is not None:
        from dlts_beam.io.raster.headers import parse_crs

        crs = parse_crs(arguments.crs)
    return SeriesSettings(
        root=root,
        bands=tuple(arguments.bands) if arguments.bands else None,
        band_names=tuple(arguments.band_names) if arguments.band_names else None,
        pattern=arguments.pattern,
        dates=read_dates(arguments.dates) if arguments.dates is not None else None,
        undated=arguments.undated,
        stacked=arguments.stacked,
        same_day=arguments.same_day,
        extent=extent,
        align=arguments.align,
        resampling=arguments.resampling,
        crs=crs,
        nodata=arguments.nodata,
        scale=arguments.scale,
        offset=arguments.offset,
        mask_band=arguments.mask_band,
        reading=Reading(low if low > -math.inf else None, high if high < math.inf else None, mask),
    )


def _list_images(
    root: str, settings: SeriesSettings, recursive: bool
) -> tuple[list[storage.FileEntry], list[str]]:
    """The files that may be images, and the paths of those that are none."""
    from dlts_beam.io.raster.headers import check_masks, image_files

    if not storage.is_folder(root):
        raise DltsError(f"there is no folder {root}: check --input-dir")
    everything = storage.list_files(root, recursive=recursive)
    entries = image_files(everything)
    if settings.pattern is not None and entries:
        fitting = [entry for entry in entries if pattern_matches(entry.path, settings)]
        if not fitting:
            first = relative_name(entries[0].path, root)
            raise DltsError(f"no image fits --pattern {settings.pattern!r}; the first one is {first}")
        entries = fitting
    if not entries:
        hint = "; images in subfolders need --recursive" if not recursive else ""
        raise DltsError(f"there are no images in {root}{hint}")
    check_masks(entries, everything)
    kept = {entry.path for entry in entries}
    return entries, [entry.path for entry in everything if entry.path not in kept]


def _absolute(path: str) -> str:
    return path.rstrip("/") if storage.is_remote(path) else os.path.abspath(path)


if __name__ == "__main__":
    leave(crash_told(main))
