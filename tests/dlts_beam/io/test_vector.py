"""Vector files of many kinds to places on the grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely

from dlts_beam.accounts import NO_GEOMETRY, NO_PIXEL, OUTSIDE, PIXEL, UNSUPPORTED
from dlts_beam.candidates import Places
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.io.polygons import PolygonRule
from dlts_beam.io.vector import Columns, read_places
from tests.helpers import TRANSFORM, UTM, pixel_centres

GRID = Grid(UTM, TRANSFORM, 20, 30)
PIXELS = [(0, 0), (3, 4), (19, 29), (7, 11)]
X, Y = pixel_centres(GRID, PIXELS)


def frame(geometry: list | None = None, crs: str | None = UTM, **columns: list) -> gpd.GeoDataFrame:
    shapes = [shapely.Point(x, y) for x, y in zip(X, Y, strict=True)] if geometry is None else geometry
    return gpd.GeoDataFrame({"class": [1, 2, 1, 3][: len(shapes)], **columns}, geometry=shapes, crs=crs)


def places_of(path: Path, **settings: object) -> Places:
    return read_places(str(path), GRID, Columns("class"), **settings)


def pixels_of(places: Places) -> list[tuple[int, int]]:
    return list(zip(places.row.tolist(), places.col.tolist(), strict=True))


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson", "a.parquet", "a.fgb"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857", "EPSG:32722"])
def test_formats_and_crs_give_the_same_places(tmp_path: Path, name: str, crs: str):
    path, given = tmp_path / name, frame().to_crs(crs)
    given.to_parquet(path) if name.endswith("parquet") else given.to_file(path)
    places = places_of(path)
    assert sorted(zip(places.labels, pixels_of(places), strict=True)) == sorted(
        zip([1, 2, 1, 3], PIXELS, strict=True)
    )
    assert sum(len(part.feature) for part in places.refused) == 0


def test_a_table_with_coordinates_needs_a_crs(tmp_path: Path):
    points = frame().to_crs("EPSG:4326").geometry
    table = pd.DataFrame({"Longitude": points.x, "Latitude": points.y, "class": ["b", "a", "b", "c"]})
    table.to_csv(tmp_path / "a.csv", index=False)
    places = places_of(tmp_path / "a.csv", crs="EPSG:4326")
    assert pixels_of(places) == PIXELS
    assert places.labels == ["b", "a", "b", "c"]
    with pytest.raises(DltsError, match="names no CRS: give it with --samples-crs"):
        places_of(tmp_path / "a.csv")
    with pytest.raises(DltsError, match="--samples-crs nonsense is no CRS"):
        places_of(tmp_path / "a.csv", crs="nonsense")
    pd.DataFrame({"class": [1]}).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DltsError, match="holds no geometry: name its columns of coordinates one of x,lon"):
        places_of(tmp_path / "b.csv")


def test_multipoints_keep_their_places_inside(tmp_path: Path):
    inside, outside = shapely.Point(X[1], Y[1]), shapely.Point(0, 0)
    shapes = [shapely.MultiPoint([inside, outside, shapely.Point(X[0], Y[0])]), shapely.MultiPoint([outside])]
    frame(shapes).to_file(tmp_path / "a.gpkg")
    places = places_of(tmp_path / "a.gpkg")
    assert pixels_of(places) == [PIXELS[1], PIXELS[0]]
    told = {(part.ledger, part.reason): part.feature.tolist() for part in places.refused if len(part.feature)}
    assert told == {("feature", OUTSIDE): [1], (PIXEL, OUTSIDE): [0]}


def test_points_and_polygons_may_be_mixed(tmp_path: Path):
    square = shapely.box(X[1] - 31, Y[1] - 31, X[1] + 31, Y[1] + 31)
    shapes = [square, shapely.Point(X[0], Y[0]), shapely.box(0, 0, 1, 1), shapely.Point(X[3], Y[3]).buffer(2)]
    frame(shapes).to_file(tmp_path / "a.gpkg")
    places = places_of(tmp_path / "a.gpkg", rule=PolygonRule(per_polygon=4))
    assert places.feature.tolist() == [0, 0, 0, 0, 1, 3]
    assert pixels_of(places)[4:] == [PIXELS[0], PIXELS[3]]
    told = {part.reason: part.feature.tolist() for part in places.refused if len(part.feature)}
    assert told == {OUTSIDE: [2]}


def test_a_polygon_between_the_centres_has_no_pixel(tmp_path: Path):
    frame([shapely.box(X[0] + 1, Y[0] + 1, X[0] + 5, Y[0] + 5)]).to_file(tmp_path / "a.gpkg")
    (part,) = [part for part in places_of(tmp_path / "a.gpkg").refused if len(part.feature)]
    assert part.reason == NO_PIXEL


def test_geometries_that_are_none_are_told(tmp_path: Path):
    bow = shapely.Polygon([(X[0], Y[0]), (X[0] + 9, Y[0] + 9), (X[0] + 9, Y[0]), (X[0], Y[0] + 9)])
    shapes = [None, shapely.Point(), bow, shapely.LineString([(X[0], Y[0]), (X[1], Y[1])])]
    frame(shapes).to_parquet(tmp_path / "a.parquet")
    places = places_of(tmp_path / "a.parquet")
    told = {part.reason: part.feature.tolist() for part in places.refused if len(part.feature)}
    assert told == {NO_GEOMETRY: [0, 1, 2], UNSUPPORTED: [3]}
    assert not len(places.row)


def test_attributes_are_kept_as_text(tmp_path: Path):
    whole = [1.0, np.nan, 3.0, 4.0]
    given = frame(farm=["a", None, "ç", ""], number=whole, size=[0.5, 1.25, 2, np.nan])
    given.to_file(tmp_path / "a.gpkg")
    places = read_places(str(tmp_path / "a.gpkg"), GRID, Columns("class", ("farm", "number", "size")))
    assert places.kept == (("a", "", "ç", ""), ("1", "", "3", "4"), ("0.5", "1.25", "2", ""))


def test_intervals_may_be_texts_or_dates(tmp_path: Path):
    texts = ["2020-01-01", "2020/02/01", None, "2020-03-01T12:00:00"]
    ends = pd.to_datetime(["2020-12-31T00:00"] * 3 + ["2020-12-31T06:00"])
    frame(start=texts, end=ends).to_file(tmp_path / "a.gpkg")
    columns = Columns("class", (), ("start", "end"))
    assert read_places(str(tmp_path / "a.gpkg"), GRID, columns).intervals == (
        ("2020-01-01", "2020-12-31"), ("2020-02-01", "2020-12-31"), None,
        ("2020-03-01T12:00:00", "2020-12-31T06:00:00"),
    )  # fmt: skip
    frame(start=["2021-01-01"] * 4, end=ends).to_file(tmp_path / "b.gpkg")
    with pytest.raises(DltsError, match=r"feature 0 of .*b\.gpkg has no proper interval: .* ends before"):
        read_places(str(tmp_path / "b.gpkg"), GRID, columns)


@pytest.mark.parametrize(
    ("columns", "flag"),
    [
        (Columns("kind"), "'kind' (-c/--column-label); it has class, farm"),
        (Columns("class", ("x",)), "'x' (--keep)"),
        (Columns("class", (), ("farm", "to")), "'to' (--end-column)"),
    ],
)
def test_a_missing_column_is_told_with_those_there(tmp_path: Path, columns: Columns, flag: str):
    frame(farm=["a"] * 4).to_file(tmp_path / "a.gpkg")
    with pytest.raises(DltsError) as caught:
        read_places(str(tmp_path / "a.gpkg"), GRID, columns)
    assert flag in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path: Path):
    with pytest.raises(DltsError, match="there is no vector file"):
        places_of(tmp_path / "none.gpkg")
    for name in ("a.gpkg", "a.parquet", "a.geojson"):
        (tmp_path / name).write_bytes(b"this is no vector file")
        with pytest.raises(DltsError, match=f"cannot read .*{name}"):
            places_of(tmp_path / name)
    frame().to_file(tmp_path / "b.gpkg")
    with pytest.raises(DltsError, match="cannot read layer 'other'"):
        places_of(tmp_path / "b.gpkg", layer="other")
    frame().iloc[:0].to_file(tmp_path / "c.gpkg")
    with pytest.raises(DltsError, match="holds no features"):
        places_of(tmp_path / "c.gpkg")


def test_the_layer_asked_for_is_read(tmp_path: Path):
    frame().to_file(tmp_path / "a.gpkg", layer="first")
    frame().iloc[:2].to_file(tmp_path / "a.gpkg", layer="second")
    assert len(places_of(tmp_path / "a.gpkg", layer="second").labels) == 2


def test_of_several_layers_one_must_be_named(tmp_path: Path):
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(pd.DataFrame({"style": ["dots"]}), path, layer="layer_styles")
    frame().to_file(path, layer="first", mode="a")
    assert pixels_of(places_of(path)) == PIXELS  # a layer without geometry is no choice
    frame().iloc[:2].to_file(path, layer="second", mode="a")
    with pytest.raises(DltsError, match="holds 2 layers: first, second; name one with --layer"):
        places_of(path)


def test_a_broken_geometry_is_rejected_by_itself(tmp_path: Path):
    ring = {"type": "Polygon", "coordinates": [[[-57.0, -18.1], [-56.9, -18.2]]]}
    point = {"type": "Point", "coordinates": list(frame().to_crs("EPSG:4326").geometry[1].coords[0])}
    features = [
        {"type": "Feature", "properties": {"class": 1}, "geometry": shape} for shape in (ring, point)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (tmp_path / "a.geojson").write_text(text)
    with pytest.warns(RuntimeWarning, match="Non closed ring"):
        places = places_of(tmp_path / "a.geojson")
    told = {part.reason: part.feature.tolist() for part in places.refused if len(part.feature)}
    assert told == {NO_GEOMETRY: [0]}
    assert pixels_of(places) == [PIXELS[1]]


def test_a_collection_of_one_kind_is_that_kind(tmp_path: Path):
    points = [shapely.Point(x, y) for x, y in zip(X, Y, strict=True)]
    square = points[3].buffer(20, cap_style="square")
    collections = [points[:2], [square], [points[2], square], [shapely.LineString(points[:2])]]
    frame([shapely.GeometryCollection(parts) for parts in collections]).to_file(tmp_path / "a.gpkg")
    places = places_of(tmp_path / "a.gpkg")
    assert pixels_of(places)[:3] == [*PIXELS[:2], PIXELS[3]]
    assert places.feature.tolist() == [0, 0, 1]
    told = {part.reason: part.feature.tolist() for part in places.refused if len(part.feature)}
    assert told == {UNSUPPORTED: [2, 3]}


def test_every_kind_of_nothing_is_no_label(tmp_path: Path):
    given = frame()
    given["class"] = pd.array([7, None, 9, 7], dtype="Int64")
    given.to_parquet(tmp_path / "a.parquet")
    assert places_of(tmp_path / "a.parquet").labels == [7, None, 9, 7]


def test_texts_in_another_encoding_are_told(tmp_path: Path):
    given = frame(place=["São João"] * 4)
    given["class"] = ["Várzea", "Milho", "Várzea", "Soja"]
    given.to_file(tmp_path / "a.shp", encoding="ISO-8859-1")
    assert places_of(tmp_path / "a.shp").labels == ["Várzea", "Milho", "Várzea", "Soja"]
    (tmp_path / "a.cpg").write_text("UTF-8")
    table = "lon,lat,class\n" + "".join(f"{x},{y},Várzea\n" for x, y in zip(X, Y, strict=True))
    (tmp_path / "b.csv").write_bytes(table.encode("latin-1"))
    for name in ("a.shp", "b.csv"):
        with pytest.raises(DltsError, match=rf"the texts of .*{name} are not in .* save it as UTF-8"):
            places_of(tmp_path / name, crs=UTM)


def test_a_grid_without_a_place_on_earth_is_told(tmp_path: Path):
    frame(crs="EPSG:32720").to_file(tmp_path / "a.gpkg")
    local = 'LOCAL_CS["plan of the farm",UNIT["metre",1]]'
    path, grid = str(tmp_path / "a.gpkg"), replace(GRID, crs=local)
    with pytest.raises(DltsError, match="cannot be reprojected from WGS 84 / UTM zone 20S to plan of the"):
        read_places(path, grid, Columns("class"))
    assert pixels_of(read_places(path, grid, Columns("class"), crs=local)) == PIXELS
