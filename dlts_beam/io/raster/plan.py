"""All headers of a folder to the spec of the series: the one check of step 1."""

from __future__ import annotations

from collections.abc import Sequence

from dlts_beam.acquisitions.build import build_series
from dlts_beam.acquisitions.header import Header, Unusable
from dlts_beam.acquisitions.naming import first_few, relative_name
from dlts_beam.acquisitions.placing import place_images
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.acquisitions.stacked import build_stacked
from dlts_beam.errors import DltsError
from dlts_beam.io.raster.headers import crs_name, unify_crs, warped_box
from dlts_beam.spec.series import SeriesSpec


def plan_series(
    records: Sequence[Header | Unusable], settings: SeriesSettings, reference: Header | None = None
) -> SeriesSpec:
    """Check all headers together and return the spec of the series.

    Args:
        records: headers and unusable files, in any order.
        settings: what the user asked for.
        reference: header of the image that gives the lattice (``--like``).

    Raises:
        DltsError: broken images (all of them are named), no image at all, images without CRS, off the
            lattice or all of them off the reference's grid, without dates, or different in their bands.
    """
    root = settings.root
    broken = sorted((r for r in records if isinstance(r, Unusable) and r.is_image), key=lambda r: r.path)
    if broken:
        listed = [f"{relative_name(record.path, root)} ({record.reason})" for record in broken]
        what = "1 image is" if len(broken) == 1 else f"{len(broken)} images are"
        raise DltsError(f"{what} unreadable or cut short: {first_few(listed, 8)}; replace or remove them")
    headers = sorted((r for r in records if isinstance(r, Header)), key=lambda header: header.path)
    if not headers:
        raise DltsError(f"there is no image in {root}: no file there is in a format that GDAL reads")
    bare = [header for header in headers if header.crs is None]
    if bare and settings.crs is None:
        raise DltsError(
            f"{first_few((relative_name(header.path, root) for header in bare), 3)} has no coordinate"
            " reference system: give --crs (such as EPSG:32720) if you know it"
        )
    if settings.crs is not None:
        crs = settings.crs
        headers = [header if header.crs is not None else header.with_crs(crs) for header in headers]
    if reference is not None:
        if reference.crs is None and settings.crs is None:
            raise DltsError(
                f"--like {reference.path} has no coordinate reference system: give --crs (such as EPSG:32720)"
                " if you know it"
            )
        if reference.crs is None and settings.crs is not None:
            reference = reference.with_crs(settings.crs)
        reference, *headers = unify_crs([reference, *headers])
    else:
        headers = unify_crs(headers)
    placed = place_images(headers, settings, reference, warped_box, crs_name)
    unknown = {header.path for header in bare} & placed.warped
    if unknown:
        raise DltsError(
            f"{first_few((relative_name(path, root) for path in sorted(unknown)), 3)} must be resampled and"
            " has no coordinate reference system of its own: write it into the file with gdal_edit -a_srs"
        )
    spec = (build_stacked if settings.stacked else build_series)(headers, placed, settings)
    if reference is not None and not any(layer for step in spec.sources for layer in step):
        raise DltsError(
            f"no image lies on the grid of --like {reference.path}: choose another file, or give --extent"
            " union"
        )
    return spec
