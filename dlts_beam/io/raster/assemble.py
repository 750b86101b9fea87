"""From part files to one raster: a VRT over the parts, then a Cloud-Optimized GeoTIFF or ERDAS Imagine."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from dlts_beam import storage
from dlts_beam.certificate import TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Tile
from dlts_beam.io.raster.georeference import misplacement
from dlts_beam.io.raster.handles import GDAL_CACHE_BYTES
from dlts_beam.io.raster.hfa import check_size, check_transform, write_hfa
from dlts_beam.io.raster.parts import MAP, PROBABILITIES, checksum_of, part_name
from dlts_beam.spec import ClassTable

AUX = ".aux.xml"
DRIVERS = {".tif": "COG", ".tiff": "COG", ".img": "HFA"}
OVERVIEW_BLOCK = 512
_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
_GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16"}


@dataclass(frozen=True)
class Mosaic:
    """What a raster over parts looks like.

    Attributes:
        grid: of the whole raster.
        dtype: uint8 or uint16.
        nodata: of every band; also what parts that are absent give.
        bands: names of the bands.
        suffix: which of a tile's files.
        classes: colours and names of a map; None for probabilities.
    """

    grid: Grid
    dtype: str
    nodata: int
    bands: tuple[str, ...]
    suffix: str
    classes: ClassTable | None = None

    @classmethod
    def of_map(cls, grid: Grid, classes: ClassTable) -> Mosaic:
        """The class map."""
        return cls(grid, classes.map_dtype, classes.nodata, ("class",), MAP, classes)

    @classmethod
    def of_probabilities(cls, grid: Grid, classes: ClassTable, nodata: int) -> Mosaic:
        """One band per class."""
        return cls(grid, "uint16", nodata, classes.names, PROBABILITIES)


def output_driver(path: str) -> str:
    """GDAL driver for an output by its extension.

    Raises:
        DltsError: the extension is none of ours.
    """
    extension = os.path.splitext(storage.name(path))[1].lower()
    if extension not in DRIVERS:
        raise DltsError(
            f"cannot write {path}: the name must end in .tif (Cloud-Optimized GeoTIFF) or .img (ERDAS)"
        )
    return DRIVERS[extension]


def check_output_size(path: str, mosaic: Mosaic) -> None:
    """Refuse a raster that its format cannot hold, before anything is computed for it.

    Raises:
        DltsError: it is an ERDAS Imagine file that may reach 2 GB, or whose columns run from east to west.
    """
    if output_driver(path) == "HFA":
        check_transform(path, mosaic.grid.transform)
        pixel_bytes = len(mosaic.bands) * np.dtype(mosaic.dtype).itemsize
        check_size(path, mosaic.grid.height, mosaic.grid.width, pixel_bytes)


def vrt_text(mosaic: Mosaic, tiles: Iterable[Tile], rat: bool = True) -> str:
    """A VRT that lies in the folder of the parts and names them relative to itself.

    ``rat`` adds a raster attribute table. ERDAS Imagine's rows stand for pixel values, whatever the
    table says, so there colours and category names must do.
    """
    grid = mosaic.grid
    a, b, c, d, e, f = grid.transform
    lines = [
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">',
        f"<SRS>{escape(grid.crs)}</SRS>" if grid.crs else "",
        f"<GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>",
    ]
    kept = list(tiles)
    for number, name in enumerate(mosaic.bands, start=1):
        lines += _band(mosaic, number, name, kept, rat)
    return "\n".join(line for line in [*lines, "</VRTDataset>"] if line) + "\n"


def _band(mosaic: Mosaic, number: int, name: str, tiles: Sequence[Tile], rat: bool) -> list[str]:
    dtype = _GDAL_TYPES[mosaic.dtype]
    lines = [
        f'<VRTRasterBand dataType="{dtype}" band="{number}">',
        f"<Description>{escape(name)}</Description>",
        f"<NoDataValue>{mosaic.nodata}</NoDataValue>",
    ]
    if mosaic.classes is not None:
        lines.append('<Metadata><MDI key="LAYER_TYPE">thematic</MDI></Metadata>')
        lines += _colours(mosaic.classes)
        # A list of 65,535 names helps nobody where an attribute table has them.
        lines += _names(mosaic.classes) if mosaic.dtype == "uint8" or not rat else []
        lines += _attributes(mosaic.classes) if rat else []
    for tile in tiles:
        row, col, height, width = tile.window
        lines += [
            "<SimpleSource>",
            f'<SourceFilename relativeToVRT="1">{part_name(tile, mosaic.suffix)}</SourceFilename>',
            f"<SourceBand>{number}</SourceBand>",
            f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="{dtype}"'
            ' BlockXSize="256" BlockYSize="256"/>',
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>',
            f'<DstRect xOff="{col}" yOff="{row}" xSize="{width}" ySize="{height}"/>',
            "</SimpleSource>",
        ]
    return [*lines, "</VRTRasterBand>"]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _colours(classes: ClassTable) -> list[str]:
    chosen = {row.value: (*_rgb(row.colour), 255) for row in classes.rows}
    lines = ["<ColorInterp>Palette</ColorInterp>", "<ColorTable>"]
    for value in range(classes.nodata + 1):
        red, green, blue, alpha = chosen.get(value, (0, 0, 0, 0))
        lines.append(f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="{alpha}"/>')
    return [*lines, "</ColorTable>"]


def _names(classes: ClassTable) -> list[str]:
    names = {row.value: row.name for row in classes.rows}
    lines = [f"<Category>{escape(names.get(value, ''))}</Category>" for value in range(max(names) + 1)]
    return ["<CategoryNames>", *lines, "</CategoryNames>"]


def _attributes(classes: ClassTable) -> list[str]:
    """A raster attribute table: GDAL's (type, usage) codes of integer 0 and text 2 columns."""
    columns = (("Value", 0, 5), ("Class_Name", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
    lines = ['<GDALRasterAttributeTable tableType="thematic">']
    for index, (name, kind, usage) in enumerate(columns):
        lines.append(
            f'<FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type>'
            f"<Usage>{usage}</Usage></FieldDefn>"
        )
    for index, row in enumerate(sorted(classes.rows, key=lambda each: each.value)):
        cells = "".join(f"<F>{escape(str(cell))}</F>" for cell in (row.value, row.name, *_rgb(row.colour)))
        lines.append(f"<Row index={quoteattr(str(index))}>{cells}</Row>")
    return [*lines, "</GDALRasterAttributeTable>"]


def assemble(
    parts: str,
    mosaic: Mosaic,
    records: Sequence[TileRecord],
    output: str,
    when_built: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Build the raster beside its name, read it back, and rename it; readers never see half of it.

    Args:
        parts: folder of the tiles' files.
        records: of all tiles; quarantined ones and those that have none are nodata.
        output: ends in .tif or .img.
        when_built: called when the raster is sound and about to replace what bears its name.
        check: called before ``when_built`` and before each file gets its name; what it raises prevents that.

    Returns:
        By name, the SHA-256 of the raster that was built, and of its side file where it has one.

    Raises:
        DltsError: a part cannot be read, or the raster cannot be written or does not hold the tiles.
    """
    driver = output_driver(output)
    present = [record for record in records if record.quarantined is None]
    tiles = [record.tile for record in present]
    with (
        # On gs:// GDAL would fetch one part after the other, at a request's delay for each.
        storage.local_copies(parts, [part_name(tile, mosaic.suffix) for tile in tiles]) as near,
        storage.staged(output) as aside,
        tempfile.TemporaryDirectory(
            dir=os.path.dirname(aside), prefix=f"{os.path.basename(aside)}."
        ) as folder,
    ):
        # Under its own name: ERDAS Imagine keeps the name of the file inside it.
        built = os.path.join(folder, storage.name(output))
        vrt = storage.join(near, f"mosaic{mosaic.suffix.removesuffix('.tif')}.vrt")
        storage.write_text(vrt, vrt_text(mosaic, tiles, rat=driver != "HFA"))
        try:
            with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
                if driver == "COG":
                    _write_cog(vrt, built, mosaic)
                else:
                    write_hfa(vrt, built, Resampling.mode if mosaic.classes else Resampling.average)
            _check_complete(built, output)
            with rasterio.open(built) as dataset:
                misplaced = misplacement(dataset, mosaic.grid)
            # Some drivers lose what a full disk refuses without a word.
            wrong = _first_difference(built, mosaic, present)
        except (RasterioError, CPLE_BaseError) as error:
            if _disk_is_full(folder):
                raise storage.explain_os_error(_FULL, output, "write") from error
            raise DltsError(f"cannot write {output}: {error}") from error
        if misplaced is not None:
            raise DltsError(
                f"cannot write {output}: the raster that GDAL made does not lie on the grid of the series"
                f" ({misplaced}){'; use a name that ends in .tif' if driver == 'HFA' else ''}"
            )
        if wrong is not None:
            if _disk_is_full(folder):
                raise storage.explain_os_error(_FULL, output, "write")
            raise DltsError(
                f"cannot write {output}: tile {wrong} did not arrive in it; run the command again"
            )
        # Of these files: under the output's name another run's may lie by the time they could be read again.
        names = [name for name in (built, built + AUX) if os.path.exists(name)]
        digests = {storage.name(name): storage.digest(name) for name in names}
        check()
        when_built()
        check()
        if os.path.exists(built + AUX):
            storage.upload(built + AUX, output + AUX)
        else:
            storage.remove(output + AUX)  # an older raster's
        os.replace(built, aside)
        check()
    return digests


def _first_difference(built: str, mosaic: Mosaic, records: Iterable[TileRecord]) -> str | None:
    """Name of the first tile whose pixels in the raster have another checksum than in its record."""
    with rasterio.open(built) as dataset:
        for record in records:
            wanted = record.checksum if mosaic.suffix == MAP else record.probabilities
            row, col, height, width = record.window
            strips = (
                RasterWindow(col, row + start, width, min(OVERVIEW_BLOCK, height - start))
                for start in range(0, height, OVERVIEW_BLOCK)
            )
            found = checksum_of(np.moveaxis(dataset.read(window=strip), 0, -1) for strip in strips)
            if found != wanted:
                return record.name
    return None


def _check_complete(built: str, output: str) -> None:
    """Only the raster and its side file get their names: pixels in any other file would be lost."""
    known = os.path.basename(built)
    others = sorted(set(os.listdir(os.path.dirname(built))) - {known, known + AUX})
    if others:
        raise DltsError(
            f"cannot write {output}: GDAL spread it over further files ({', '.join(others)}), which is not"
            " supported; use a name that ends in .tif"
        )


def _disk_is_full(folder: str) -> bool:
    """GDAL tells a full disk in many words or in none, so ask the system."""
    return shutil.disk_usage(folder).free < 1 << 16


def _write_cog(vrt: str, aside: str, mosaic: Mosaic) -> None:
    resampling = "MODE" if mosaic.classes is not None else "AVERAGE"
    rasterio.shutil.copy(
        vrt,
        aside,
        driver="COG",
        BLOCKSIZE=OVERVIEW_BLOCK,
        COMPRESS="DEFLATE",
        PREDICTOR="NO" if mosaic.classes is not None else "YES",
        OVERVIEWS="IGNORE_EXISTING",
        OVERVIEW_RESAMPLING=resampling,
        BIGTIFF="IF_SAFER",
        NUM_THREADS="1",
        STATISTICS="NO",
    )
