"""``ts_b<k>.vrt``: one virtual raster per band, one layer per time step, for people, QGIS and GDAL.

The VRTs show stored values: nodata, scale and offset travel with them, valid range and mask band do not. Our
own readers open the source files instead. An image that is resampled onto the grid, or that has a mask or an
alpha band, has a small VRT of its own in ``ts_warped/``, which GDAL computes as it is read, with the same
settings as our reader: pixels that the mask hides are nodata there. Where nothing says nodata they are 0, and
GDAL lets such a 0 hide an image below it where the small VRT has other than 2 or 4 bands.
"""

from __future__ import annotations

import os
import re
import tempfile
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.io.raster.handles import gdal_env, open_warped
from dlts_beam.spec.series import Band, SeriesSpec, Source, SourceFile
from dlts_beam.tensors.reading import holds

_GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32",
    "int32": "Int32", "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip


def vrt_name(band: Band) -> str:
    """File name of a band's VRT."""
    return f"ts_b{band.number}.vrt"


def warped_folder(folder: str) -> str:
    """Where the VRTs of resampled and of masked images lie."""
    return storage.join(folder, "ts_warped")


def is_own_vrt(name: str) -> bool:
    """True for file names that `write_vrts` gives."""
    return re.fullmatch(r"ts_(b\d+|f\d+(_\d+)?)\.vrt", name) is not None


def write_vrts(spec: SeriesSpec, folder: str) -> list[str]:
    """Write one VRT per band (and one per resampled or masked file) and return the paths of the former.

    Raises:
        DltsError: a file cannot be written, or an image to be resampled cannot be opened.
    """
    warped = _write_warped(spec, folder)
    paths = []
    for position, band in enumerate(spec.bands):
        path = storage.join(folder, vrt_name(band))
        storage.write_text(path, band_vrt(spec, position, folder, warped))
        paths.append(path)
    return paths


def band_vrt(
    spec: SeriesSpec, position: int, folder: str, warped: dict[tuple[int, float | None], str] | None = None
) -> str:
    """The VRT of one band as XML.

    Args:
        spec: the series.
        position: of the band in ``spec.bands``.
        folder: where the VRT will lie; local sources are named relative to it.
        warped: (file number, nodata) -> path of the VRT that resamples it, or that hides what it masks.
    """
    grid, band = spec.grid, spec.bands[position]
    nodata = _shown_nodata(band)
    lines = [
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">',
        f"  <SRS>{escape(grid.crs)}</SRS>",
        f"  <GeoTransform>{_geotransform(grid.transform)}</GeoTransform>",
        f'  <Metadata><MDI key="BAND_NAME">{escape(band.name)}</MDI></Metadata>',
    ]
    for step in spec.steps:
        lines += [
            f'  <VRTRasterBand dataType="{_GDAL_TYPES[band.dtype]}" band="{step.number + 1}">',
            f"    <Description>{escape(step.label)}</Description>",
        ]
        if step.time is not None:
            lines.append(f'    <Metadata><MDI key="ACQUISITION_TIME">{escape(step.time)}</MDI></Metadata>')
        if nodata is not None:
            lines.append(f"    <NoDataValue>{nodata}</NoDataValue>")
        if band.scale != 1 or band.offset != 0:
            lines += [f"    <Offset>{band.offset!r}</Offset>", f"    <Scale>{band.scale!r}</Scale>"]
        # GDAL paints sources one over the other, so the first, which wins in the series, comes last.
        for source in reversed(spec.sources[step.number][position]):
            lines += _source(spec, source, band, folder, warped or {})
        lines.append("  </VRTRasterBand>")
    lines.append("</VRTDataset>")
    return "\n".join(lines) + "\n"


def _source(
    spec: SeriesSpec, source: Source, band: Band, folder: str, warped: dict[tuple[int, float | None], str]
) -> list[str]:
    file = spec.files[source.file]
    shown = file.window.intersect(spec.grid.window)
    if shown is None:
        return []
    nodata = _held_nodata(band)
    if not _is_viewed(file, nodata):
        path, box, size = file.path, shown.within(file.window), (file.height, file.width)
    else:
        path, box, size = warped[source.file, nodata], shown, (spec.grid.height, spec.grid.width)
    hidden = _shown_nodata(band)
    masked = nodata is None and (file.warp is not None or file.alpha is not None)
    kind = "ComplexSource" if hidden is not None or masked else "SimpleSource"
    name, relative = _named_from(path, folder)
    return [
        f"    <{kind}>",
        f'      <SourceFilename relativeToVRT="{relative}">{escape(name)}</SourceFilename>',
        f"      <SourceBand>{source.index}</SourceBand>",
        # With the properties at hand GDAL opens a source only when its pixels are wanted.
        f'      <SourceProperties RasterXSize="{size[1]}" RasterYSize="{size[0]}"'
        f" DataType={quoteattr(_GDAL_TYPES[band.dtype])}"
        f' BlockXSize="{file.block[1]}" BlockYSize="{file.block[0]}"/>',
        f"      <SrcRect {_rectangle(box.row, box.col, box.height, box.width)}/>",
        f"      <DstRect {_rectangle(shown.row, shown.col, shown.height, shown.width)}/>",
        *([f"      <NODATA>{hidden}</NODATA>"] if hidden is not None else []),
        *(["      <UseMaskBand>true</UseMaskBand>"] if masked else []),
        f"    </{kind}>",
    ]


def _is_viewed(file: SourceFile, nodata: float | None) -> bool:
    """True where a file is seen through a VRT of its own: GDAL obeys a nodata value or a mask, not both."""
    return file.warp is not None or bool(file.alpha) or (file.alpha == 0 and nodata is not None)


def _write_warped(spec: SeriesSpec, folder: str) -> dict[tuple[int, float | None], str]:
    """Write a VRT for each viewed file and nodata value: (file number, nodata) -> path."""
    wanted: dict[tuple[int, float | None], None] = {}
    for step in spec.sources:
        for band, layer in zip(spec.bands, step, strict=True):
            for source in layer:
                nodata = _held_nodata(band)
                if _is_viewed(spec.files[source.file], nodata):
                    wanted[source.file, nodata] = None
    paths: dict[tuple[int, float | None], str] = {}
    for number, nodata in wanted:
        file = spec.files[number]
        earlier = sum(other == number for other, _ in paths)
        suffix = f"_{earlier + 1}" if earlier else ""
        path = storage.join(warped_folder(folder), f"ts_f{number:05d}{suffix}.vrt")
        _write_warped_file(spec, file, nodata, path)
        paths[number, nodata] = path
    return paths


def _write_warped_file(spec: SeriesSpec, file: SourceFile, nodata: float | None, path: str) -> None:
    try:
        with (
            gdal_env(storage.is_remote(file.path)),
            rasterio.open(storage.gdal_path(file.path)) as dataset,
            open_warped(dataset, spec.grid, file, nodata) as view,
            tempfile.TemporaryDirectory() as scratch,
        ):
            aside = os.path.join(scratch, "view.vrt")
            rasterio.shutil.copy(view, aside, driver="VRT")
            with open(aside, encoding="utf-8") as text:
                xml = text.read()
    except (RasterioError, CPLE_BaseError) as error:
        raise DltsError(f"cannot resample image {file.path}: {error}") from error
    name, relative = _named_from(file.path, storage.parent(path))
    # GDAL names the source from the place where the VRT was made; we name it from where it lies.
    xml = re.sub(
        r'<SourceDataset relativeToVRT="\d">.*?</SourceDataset>',
        lambda _: f'<SourceDataset relativeToVRT="{relative}">{escape(name)}</SourceDataset>',
        xml,
        flags=re.DOTALL,
    )
    storage.write_text(path, xml)


def _named_from(path: str, folder: str) -> tuple[str, int]:
    """How a VRT in ``folder`` names ``path``: (text, 1 where relative)."""
    if storage.is_remote(path) or storage.is_remote(folder):
        return storage.gdal_name(path), 0
    return os.path.relpath(path, folder), 1


def _held_nodata(band: Band) -> float | None:
    """The band's nodata value where its pixels can have it, as the reader sees it."""
    return band.nodata if holds(np.dtype(band.dtype), band.nodata) else None


def _shown_nodata(band: Band) -> str | None:
    """Nodata as VRT text: the band's own, NaN for floats that set none."""
    nodata = _held_nodata(band)
    if np.dtype(band.dtype).kind == "f":
        return "nan" if nodata is None else repr(nodata)
    return None if nodata is None else str(int(nodata))


def _geotransform(transform: tuple[float, ...]) -> str:
    a, b, c, d, e, f = transform
    return ", ".join(repr(float(number)) for number in (c, a, b, f, d, e))


def _rectangle(row: int, col: int, height: int, width: int) -> str:
    return f'xOff="{col}" yOff="{row}" xSize="{width}" ySize="{height}"'
