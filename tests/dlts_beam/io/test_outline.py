"""Regions of interest: exact in their own CRS, whatever that of the grid, and however the grid is cut."""

from __future__ import annotations

import pickle
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer

from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Window, split_window
from dlts_beam.io.outline import Outline

WGS84 = "EPSG:4326"
LOCAL = 'LOCAL_CS["mine",UNIT["metre",1]]'


def grid_of(crs: str, left: float, top: float, pixel: float, height: int = 150, width: int = 210) -> Grid:
    wkt = crs if crs == LOCAL else CRS.from_user_input(crs).to_wkt("WKT1_GDAL")
    return Grid(wkt, (pixel, 0.0, left, 0.0, -pixel, top), height, width)


UTM = grid_of("EPSG:32721", 300_000.0, 8_000_000.0, 3000.0)
GRIDS = {
    "utm": UTM,
    "antimeridian": grid_of("EPSG:32601", 200_000.0, 7_400_000.0, 3000.0),
    "pole": grid_of("EPSG:3413", -1_000_000.0, 700_000.0, 9000.0),
    "disk": grid_of("+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84", -5.7e6, 5.7e6, 60_000.0, 190, 190),
    "degrees": grid_of("EPSG:4674", -60.0, -10.0, 0.01),
}


def write(path: Path, *shapes: shapely.Geometry, crs: str | None = WGS84, **where: str) -> str:
    gpd.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(path, **where)
    return str(path)


def lonlat(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Of all pixel centres, asked one by one."""
    rows, cols = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    a, b, c, d, e, f = grid.transform
    there = Transformer.from_crs(grid.crs, WGS84, always_xy=True)
    return there.transform(a * cols + b * rows + c, d * cols + e * rows + f)


def star(lon: float, lat: float, size: float) -> shapely.Polygon:
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    reach = np.where(np.arange(16) % 2, 1.0, 0.3) * size
    return shapely.Polygon(np.stack([lon + reach * np.cos(angle), lat + reach * np.sin(angle)], axis=-1))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("size", [0.2, 3.0, 40.0])
def test_every_pixel_is_answered_by_its_own_centre(name: str, size: float, tmp_path: Path) -> None:
    grid = GRIDS[name]
    lon, lat = lonlat(grid)
    middle = (lon[100, 70], lat[100, 70]) if np.isfinite(lon[100, 70]) else (0.0, 0.0)
    shape = star(middle[0] + 0.0013, middle[1] + 0.0017, size)  # no corner on a pixel's centre
    want = shapely.contains_xy(shape, lon, lat)
    outline = Outline.load(write(tmp_path / "roi.geojson", shape), grid)
    if shape.bounds[0] > -180 and shape.bounds[2] < 180:
        np.testing.assert_array_equal(outline.inside(grid.window), want)
    again = pickle.loads(pickle.dumps(outline))
    cut = np.zeros_like(want)
    for window in split_window(grid.window, 37, 91):
        cut[window.slices] = again.inside(window)
    np.testing.assert_array_equal(cut, outline.inside(grid.window))


def test_edges_are_straight_in_the_file_not_on_the_grid(tmp_path: Path) -> None:
    """Brought onto the grid by its four corners alone, this box would miss its southern edge by a bow."""
    lon, lat = lonlat(UTM)
    south = float(lat[75].mean())
    roi = write(tmp_path / "roi.gpkg", shapely.box(-63, south, -51, -10))
    found = Outline.load(roi, UTM).inside(UTM.window)
    np.testing.assert_array_equal(found, (lat > south) & (lon > -63) & (lon < -51))
    assert 0 < found.sum() < found.size


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_world_holds_every_pixel_on_earth(name: str, tmp_path: Path) -> None:
    grid = GRIDS[name]
    world = Outline.load(write(tmp_path / "world.geojson", shapely.box(-180, -90, 180, 90)), grid)
    on_earth = np.isfinite(lonlat(grid)[0])
    assert on_earth.all() == (name != "disk")
    np.testing.assert_array_equal(world.inside(grid.window), on_earth)


def test_longitudes_beyond_180_degrees_go_round(tmp_path: Path) -> None:
    grid = GRIDS["antimeridian"]
    lon = lonlat(grid)[0] % 360
    across = shapely.box(179, 40, 182, 89)
    halves = [shapely.box(179, 40, 180, 89), shapely.box(-180, 40, -178, 89)]
    for name, shapes in (("whole", [across]), ("halves", halves)):
        found = Outline.load(write(tmp_path / f"{name}.geojson", *shapes), grid).inside(grid.window)
        np.testing.assert_array_equal(found, (lon > 179) & (lon < 182))
    assert 0 < found.sum() < found.size


@pytest.mark.parametrize("crs", [WGS84, "EPSG:4258"])
@pytest.mark.parametrize("left", [178.0, -182.0])
def test_a_grid_in_degrees_may_run_beyond_180(left: float, crs: str, tmp_path: Path) -> None:
    """Polygons find the same pixels in the CRS of the grid as in another."""
    grid = grid_of(WGS84, left, 50.0, 0.04, 40, 100)
    shapes = {
        "across": ([shapely.box(179, 40, 181, 89)], range(25, 75)),
        "beyond": ([shapely.box(-181, 40, -179, 89)], range(25, 75)),
        "halves": ([shapely.box(179, 40, 180, 89), shapely.box(-180, 40, -179, 89)], range(25, 75)),
        "east": ([shapely.box(-179, 40, -170, 89)], range(75, 100)),
    }
    for name, (parts, cols) in shapes.items():
        outline = Outline.load(write(tmp_path / f"{name}.gpkg", *parts, crs=crs), grid)
        found = outline.inside(grid.window)
        assert np.flatnonzero(found.all(axis=0)).tolist() == list(cols), name
        assert (found.all(axis=0) == found.any(axis=0)).all(), name


def test_polygons_from_0_to_360_find_a_grid_in_the_west(tmp_path: Path) -> None:
    grid = grid_of(WGS84, -60.0, -10.0, 0.1, 50, 50)
    roi = write(tmp_path / "roi.gpkg", shapely.box(301, -90, 302, 90))
    found = Outline.load(roi, grid).inside(grid.window)
    assert np.flatnonzero(found.all(axis=0)).tolist() == list(range(10, 20))


def test_a_far_part_does_not_spoil_a_near_one(tmp_path: Path) -> None:
    """Antarctica has no place on many grids."""
    near = shapely.box(-58, -20, -57, -19)
    far = shapely.box(-180, -90, 180, -60)
    both = Outline.load(write(tmp_path / "both.geojson", near, far), UTM).inside(UTM.window)
    one = Outline.load(write(tmp_path / "one.geojson", near), UTM).inside(UTM.window)
    assert one.any()
    np.testing.assert_array_equal(both, one)


def test_polygons_in_collections_count_and_other_kinds_do_not(tmp_path: Path) -> None:
    left, top = 300_000.0, 8_000_000.0

    def box(first: int, last: int) -> shapely.Polygon:
        return shapely.box(left + 3000 * first, top - 3000 * 150, left + 3000 * last, top)

    inner = shapely.GeometryCollection([shapely.MultiPolygon([box(10, 20)]), shapely.Point(0, 0)])
    shapes = (box(0, 5), shapely.GeometryCollection([inner, box(30, 31)]), box(100, 110).exterior)
    path = tmp_path / "roi.gpkg"
    columns = Outline.load(write(path, *shapes, crs="EPSG:32721"), UTM).inside(UTM.window)
    assert np.flatnonzero(columns.any(axis=0)).tolist() == [*range(5), *range(10, 20), 30]
    assert (columns.all(axis=0) == columns.any(axis=0)).all()


def test_the_layer_of_several_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "roi.gpkg"
    write(path, shapely.box(-58, -20, -57, -19), layer="fields")
    write(path, shapely.box(10, 20, 11, 21), layer="lakes")
    with pytest.raises(DltsError, match="holds 2 layers: fields, lakes; name one with --roi-layer"):
        Outline.load(str(path), UTM)
    assert Outline.load(str(path), UTM, "fields").inside(UTM.window).any()
    assert not Outline.load(str(path), UTM, "lakes").inside(UTM.window).any()
    with pytest.raises(DltsError, match="cannot read layer 'seas' of"):
        Outline.load(str(path), UTM, "seas")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_what_holds_no_area_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "roi.csv"
    table.write_text("value,name\n1,a\n")
    with pytest.raises(DltsError, match=r"roi\.csv holds no geometry"):
        Outline.load(str(table), UTM)
    with pytest.raises(DltsError, match="holds no polygons"):
        Outline.load(write(tmp_path / "points.gpkg", shapely.Point(1, 2)), UTM)
    with pytest.raises(DltsError, match="has no CRS"):
        Outline.load(write(tmp_path / "nowhere.gpkg", shapely.box(0, 0, 1, 1), crs=None), UTM)


def test_a_grid_without_a_place_on_earth_takes_its_own_coordinates_only(tmp_path: Path) -> None:
    grid = grid_of(LOCAL, 0.0, 40.0, 1.0, 40, 40)
    with pytest.raises(DltsError, match=r"no transformation is known .* \(WGS 84 is that of"):
        Outline.load(write(tmp_path / "roi.gpkg", shapely.box(0, 0, 10, 10)), grid)
    own = Outline(grid, shapely.to_wkb(shapely.box(0, 30, 10, 40)))
    assert own.inside(Window(0, 0, 40, 40)).nonzero()[0].size == 100
