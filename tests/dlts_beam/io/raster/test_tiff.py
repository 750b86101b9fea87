"""The end of a TIFF's header, found without GDAL."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.io.raster.tiff import header_end
from tests.images import write_image

VALUES = np.random.default_rng(0).integers(0, 9, (2, 40, 50)).astype(np.uint8)


@pytest.mark.parametrize("profile", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"driver": "COG"}])
def test_whole_files_hold_their_header_and_no_cut_into_it_passes(tmp_path: Path, profile: dict):
    path = write_image(tmp_path / "a.tif", VALUES, tags={"NOTE": "words " * 20}, **profile)
    content = path.read_bytes()
    end = header_end(io.BytesIO(content))
    assert end is not None
    assert 200 < end <= len(content)
    for size in range(16, end, 7):
        needed = header_end(io.BytesIO(content[:size]))
        assert needed is not None
        assert needed > size


@pytest.mark.parametrize("content", [b"", b"II", b"MM\0*", b"no TIFF at all....", b"II\x2b\0short"])
def test_what_is_no_tiff_has_no_end(content: bytes):
    assert header_end(io.BytesIO(content)) is None


def test_a_damaged_count_asks_for_no_memory():
    content = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", 2**60)
    end = header_end(io.BytesIO(content))
    assert end is not None
    assert end > 2**60


def test_a_directory_that_points_at_itself_ends():
    content = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"
    assert header_end(io.BytesIO(content)) == 14
