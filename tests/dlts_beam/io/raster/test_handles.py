from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.io.raster import handles
from dlts_beam.io.raster.handles import HandlePool, default_handle_limit, gdal_env
from tests.dlts_beam.io.raster.scenes import Scene


def test_block_cache_is_megabytes():
    """rasterio hands GDAL a bare number of bytes: a cache of 128 bytes decodes every block again."""
    with gdal_env(remote=False):
        assert rasterio._env.get_gdal_config("GDAL_CACHEMAX") == 128 * 2**20


@pytest.mark.parametrize(
    ("soft", "limit"), [(256, 40), (1024, 232), (100, 4), (10**6, 512), (resource.RLIM_INFINITY, 512)]
)
def test_handle_limit_is_a_share_of_what_may_be_open(monkeypatch: pytest.MonkeyPatch, soft: int, limit: int):
    monkeypatch.setattr(handles.resource, "getrlimit", lambda _: (soft, soft))
    assert default_handle_limit() == limit


def test_least_recently_used_handle_is_closed_first(tmp_path: Path):
    scene = Scene(tmp_path)
    for value in range(3):
        scene.add(np.full((6, 7), value, np.uint8))
    pool = HandlePool(scene.grid, limit=2)
    first, second, third = scene.files
    one, two = pool.get(first, None), pool.get(second, None)
    assert pool.get(first, None) is one
    pool.get(third, None)
    assert (one.closed, two.closed) == (False, True)
    pool.discard(first, None)
    assert one.closed
    pool.close()
    assert pool.get(first, None) is not one
    pool.close()


def test_one_file_may_be_seen_in_several_ways(tmp_path: Path):
    scene = Scene(tmp_path)
    pixels = np.arange(42, dtype=np.uint8).reshape(6, 7)
    scene.add(pixels, 0.5, 0.5, warp="bilinear")
    scene.register(Path(scene.files[0].path), 0, 0, 6, 7, "nearest")
    pool = HandlePool(scene.grid)
    views = [pool.get(scene.files[0], None), pool.get(scene.files[0], 0.0), pool.get(scene.files[1], None)]
    assert len({id(view) for view in views}) == 3
    assert [view.count for view in views] == [2, 1, 2]
    pool.close()
    assert all(view.closed and view.src_dataset.closed for view in views)
