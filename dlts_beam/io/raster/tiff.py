"""Whether the header of a TIFF file is all there: GDAL passes over tags that lie past the end of the file."""

from __future__ import annotations

import struct
from typing import BinaryIO

# Bytes per value of each TIFF data type.
_TYPE_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_MAX_DIRECTORIES = 4096
_MAX_DIRECTORY_BYTES = 1 << 22


def header_end(file: BinaryIO) -> int | None:
    """The least size that the file must have for all its directories and tags; None where it is no TIFF.

    Image data are not looked at, only what describes them.
    """
    file.seek(0)
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 8:
        return None
    version = struct.unpack(f"{order}H", start[2:4])[0]
    if version not in (42, 43) or (version == 43 and len(start) < 16):
        return None
    big = version == 43
    directory = (
        struct.unpack(f"{order}Q", start[8:16])[0] if big else struct.unpack(f"{order}I", start[4:8])[0]
    )
    count_format, entry_format, next_format = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    inline = 8 if big else 4
    end = len(start) if big else 8
    seen: set[int] = set()
    while directory and directory not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(directory)
        file.seek(directory)
        head = file.read(struct.calcsize(f"{order}{count_format}"))
        if len(head) < struct.calcsize(f"{order}{count_format}"):
            return directory + 8
        count = struct.unpack(f"{order}{count_format}", head)[0]
        entry_size = struct.calcsize(f"{order}{entry_format}")
        size = count * entry_size + struct.calcsize(f"{order}{next_format}")
        end = max(end, directory + len(head) + size)
        # A damaged count may ask for more than there is memory; no real directory is that long.
        body = file.read(size) if size <= _MAX_DIRECTORY_BYTES else b""
        if len(body) < size:
            return end
        for number in range(count):
            _, kind, length, value = struct.unpack_from(f"{order}{entry_format}", body, number * entry_size)
            wanted = _TYPE_SIZES.get(kind, 0) * length
            if wanted > inline:
                end = max(end, value + wanted)
        directory = struct.unpack_from(f"{order}{next_format}", body, count * entry_size)[0]
    return end
