"""Headers of image files, read through GDAL; broken images are told from files that are no images."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow

from dlts_beam import storage
from dlts_beam.acquisitions.header import BandHeader, Header, Unusable, acquisition_time
from dlts_beam.acquisitions.lattice import Box, box_in
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.io.raster.handles import gdal_env
from dlts_beam.io.raster.tiff import header_end
from dlts_beam.io.raster.vrt import is_own_vrt

# Files with these endings were meant to be images: what GDAL does not recognise there is broken.
_IMAGE_ENDINGS = frozenset(
    {".tif", ".tiff", ".gtiff", ".jp2", ".j2k", ".img", ".vrt", ".hdf", ".h4", ".h5", ".hdf5", ".he5", ".nc"}
    | {
        ".nc4",
        ".ntf",
        ".bil",
        ".bip",
        ".bsq",
        ".dat",
        ".envi",
        ".grd",
        ".asc",
        ".rst",
        ".pix",
        ".ecw",
        ".sid",
    }
    | {".kea", ".dt0", ".dt1", ".dt2", ".grib", ".grb", ".grb2", ".sdat", ".bt", ".n1", ".cub", ".map"}
)
# Never images, though GDAL or its plugins might open some.
_OTHER_ENDINGS = frozenset(
    {".xml", ".csv", ".tsv", ".txt", ".md", ".html", ".htm", ".pdf", ".json", ".geojson", ".yaml", ".yml"}
    | {
        ".gpkg",
        ".shp",
        ".shx",
        ".dbf",
        ".prj",
        ".cpg",
        ".qpj",
        ".sbn",
        ".sbx",
        ".kml",
        ".kmz",
        ".ovr",
        ".msk",
    }
    | {".hdr", ".rdc", ".tfw", ".tifw", ".wld", ".jgw", ".pgw", ".j2w", ".rda", ".parquet", ".qml", ".qgz"}
    | {".qgs", ".sld", ".py", ".ipynb", ".log", ".zip", ".gz", ".tgz", ".tar", ".sha256", ".md5", ".tmp"}
    | {".lock", ".aux", ".idx", ".enp", ".sta"}
)
# Pictures beside the images (quicklooks); images themselves only where there is nothing else.
_PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
_UNKNOWN = "not recognized as being in a supported file format"
# Formats that are plain arrays: GDAL reads zeros past the end of the file without a word.
_PLAIN_ARRAYS = ("ENVI", "EHdr", "GenBin", "PAux", "RRASTER")
_LAST_PIXELS = 1 << 20

# The check of step 1 tells of missing references itself. Filters belong to the whole process, so that setting
# and resetting them for each file would race between worker threads.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def image_files(entries: Iterable[storage.FileEntry]) -> list[storage.FileEntry]:
    """Return the files of a listing that may be images; sidecars, tables and quicklooks are left out."""
    entries = [entry for entry in entries if not storage.name(entry.path).startswith(".")]
    names = {storage.name(entry.path) for entry in entries}
    found = []
    for entry in entries:
        name = storage.name(entry.path)
        # A text document, unless the header of an Idrisi raster lies beside it.
        document = _ending(name) == ".rst" and f"{name[:-4]}.rdc" not in names
        own = "series.json" in names and is_own_vrt(name)
        if _ending(name) not in _OTHER_ENDINGS and not document and not own:
            found.append(entry)
    pictures = [entry for entry in found if _ending(entry.path) in _PICTURE_ENDINGS]
    return found if len(pictures) == len(found) else [entry for entry in found if entry not in pictures]


def check_masks(images: Iterable[storage.FileEntry], listing: Iterable[storage.FileEntry]) -> None:
    """Refuse images whose mask is a file beside them: no fingerprint tells that it changed.

    Args:
        images: the files that are used.
        listing: all files of their folders.

    Raises:
        DltsError: names the first such image, and says what to do.
    """
    masks = {entry.path.casefold() for entry in listing if _ending(entry.path) == ".msk"}
    for image in images:
        if f"{image.path}.msk".casefold() in masks:
            name = storage.name(image.path)
            raise DltsError(
                f"the mask of image {image.path} lies in a file beside it, and only one inside the image can"
                f" be obeyed: put it there with gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES {name}"
                f" NEW.tif and use that one, or remove {name}.msk"
            )


def read_header(entry: storage.FileEntry, hash_content: bool = False) -> Header | Unusable:
    """Open one file, check that its data are all there, and return its header.

    Args:
        entry: path and fingerprint, from a listing.
        hash_content: also compute the content's SHA-256, which reads all of it.
    """
    try:
        with (
            gdal_env(storage.is_remote(entry.path)),
            rasterio.open(storage.gdal_path(entry.path)) as dataset,
        ):
            header = _header_of(dataset, entry)
            _check_complete(dataset, entry)
    except (RasterioError, CRSError, CPLE_BaseError, DltsError) as error:
        detail = str(error.__cause__ or error)
        unknown = _UNKNOWN in detail
        if unknown:
            detail = "it is in no format that GDAL knows" if entry.size else "it is empty"
        return Unusable(entry.path, detail, not unknown or _ending(entry.path) in _IMAGE_ENDINGS)
    if hash_content:
        header = replace(header, sha256=storage.digest(entry.path))
    return header


def unify_crs(headers: Sequence[Header]) -> list[Header]:
    """Return the headers with one spelling for CRSs that mean the same."""
    known: list[tuple[CRS, str]] = []
    spelled: dict[str, str] = {}
    for text in sorted({header.crs for header in headers if header.crs is not None}):
        crs = CRS.from_user_input(text)
        spelled[text] = next((other for same, other in known if same == crs), text)
        known.append((crs, spelled[text]))
    return [header if header.crs is None else header.with_crs(spelled[header.crs]) for header in headers]


def parse_crs(text: str) -> str:
    """Return the WKT of a CRS given as ``EPSG:4326``, WKT or PROJ text.

    Raises:
        DltsError: it is none of these.
    """
    try:
        return CRS.from_user_input(text).to_wkt()
    except CRSError as error:
        raise DltsError(f"--crs {text!r} is not a coordinate reference system: {error}") from error


def crs_name(wkt: str) -> str:
    """A short name of a CRS for messages: its EPSG code, or the name in its WKT."""
    crs = CRS.from_user_input(wkt)
    code = crs.to_epsg()
    if code is not None:
        return f"EPSG:{code}"
    name = re.search(r'"([^"]+)"', crs.to_wkt())
    return name.group(1) if name else wkt[:40]


def warped_box(header: Header, lattice: Grid) -> Box:
    """The box that an image off the lattice may touch, in fractional pixels of the lattice.

    Raises:
        DltsError: its corners cannot be brought into the lattice's CRS.
    """
    grid = header.grid
    if header.crs == lattice.crs:
        corners = [grid.xy(row, col) for row in (0, grid.height) for col in (0, grid.width)]
        return box_in(lattice, corners)
    try:
        left, bottom, right, top = transform_bounds(
            CRS.from_user_input(grid.crs), CRS.from_user_input(lattice.crs), *grid.bounds(), densify_pts=41
        )
    except (RasterioError, CPLE_BaseError) as error:
        raise DltsError(f"cannot bring image {header.path} into the CRS of the grid: {error}") from error
    if not np.isfinite([left, bottom, right, top]).all():
        raise DltsError(f"image {header.path} does not lie where the CRS of the grid is defined")
    return box_in(lattice, [(x, y) for x in (left, right) for y in (bottom, top)])


def _header_of(dataset: Any, entry: storage.FileEntry) -> Header:
    if dataset.count == 0:
        raise DltsError(
            "it holds subdatasets, not bands: write each to a GeoTIFF with gdal_translate"
            if dataset.subdatasets
            else "it holds no band"
        )
    tags = dict(dataset.tags())
    for space in ("IMAGERY", "EO"):
        tags.update(dataset.tags(ns=space))
    if dataset.crs and dataset.crs.to_wkt():
        crs = dataset.crs.to_wkt()
    else:
        crs = None
    bands = tuple(
        BandHeader(str(dtype), nodata, scale, offset, description or None)
        for dtype, nodata, scale, offset, description in zip(
            dataset.dtypes,
            dataset.nodatavals,
            dataset.scales,
            dataset.offsets,
            dataset.descriptions,
            strict=True,
        )
    )
    return Header(
        path=entry.path,
        crs=crs,
        transform=tuple(dataset.transform)[:6],
        height=dataset.height,
        width=dataset.width,
        bands=bands,
        block=tuple(dataset.block_shapes[0]),
        acquired=acquisition_time(tags),
        size=entry.size,
        stamp=entry.stamp,
        sensed=acquisition_time(tags, last_resort=False),
        alpha=_alpha_of(dataset),
    )


def _alpha_of(dataset: Any) -> int | None:
    """Number of the alpha band, 0 for a mask of the whole file, None where there is neither."""
    interpreted, flags = list(dataset.colorinterp), dataset.mask_flag_enums
    if ColorInterp.alpha not in interpreted:
        return 0 if MaskFlags.per_dataset in flags[0] else None
    alpha = interpreted.index(ColorInterp.alpha) + 1
    if MaskFlags.per_dataset in flags[alpha - 1]:
        raise DltsError(
            f"it has a mask and an alpha band, band {alpha}, and only one can say which pixels it has:"
            " drop the mask with gdal_translate -mask none, or say that the band is no alpha band with"
            f" gdal_edit.py -colorinterp_{alpha} undefined"
        )
    return alpha


def _check_complete(dataset: Any, entry: storage.FileEntry) -> None:
    """Raise where the file ends before its data do, without decoding more than one block per band."""
    if dataset.driver == "GTiff":
        if not storage.is_remote(entry.path):  # there, bytes by place are dear, and uploads are whole
            with storage.open_read(entry.path) as file:
                need = header_end(file)
            if need is not None and need > entry.size:
                raise DltsError(f"it is cut short: it has {entry.size} bytes and needs {need}")
        _check_tiff_blocks(dataset, entry)
    elif dataset.driver in _PLAIN_ARRAYS:
        pixel = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
        need = pixel * dataset.height * dataset.width
        if entry.size < need:
            raise DltsError(f"it is cut short: it has {entry.size} bytes and needs {need}")
    height, width = (
        min(block, size) for block, size in zip(dataset.block_shapes[-1], dataset.shape, strict=True)
    )
    row, col = (dataset.height - 1) // height * height, (dataset.width - 1) // width * width
    if height * width > _LAST_PIXELS:
        row, col = dataset.height - 1, max(0, dataset.width - _LAST_PIXELS)
    last = RasterWindow(col, row, dataset.width - col, dataset.height - row)
    dataset.read(window=last)
    if _alpha_of(dataset) == 0:
        dataset.read_masks(1, window=last)


def _check_tiff_blocks(dataset: Any, entry: storage.FileEntry) -> None:
    """Compare where every block ends with the size of the file: parts may lie in any order in it."""
    pixelwise = dataset.interleaving is not None and dataset.interleaving.name == "pixel"
    for band in [1] if pixelwise else dataset.indexes:
        height, width = dataset.block_shapes[band - 1]
        for row in range(-(-dataset.height // height)):
            for col in range(-(-dataset.width // width)):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band)
                if offset and length and int(offset) + int(length) > entry.size:
                    raise DltsError(
                        f"it is cut short: it has {entry.size} bytes, and band {band} reaches beyond them"
                    )


def _ending(path: str) -> str:
    stem, dot, ending = storage.name(path).rpartition(".")
    return f".{ending.casefold()}" if dot and stem else ""
