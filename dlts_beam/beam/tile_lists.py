"""Lists of tiles as files: what is to be computed, out of the way of the pipeline itself.

Services refuse descriptions of pipelines beyond some megabytes, and every tile inside one is packed, copied
and sent with it; so only the names of the lists travel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
import msgspec

from dlts_beam import storage
from dlts_beam.beam.stage import TileTask

TILES_PER_LIST = 4096
_NAME = "tiles-{number:05d}.json"


def tile_list_paths(folder: str, tasks: Sequence[TileTask]) -> list[str]:
    """Where `write_tile_lists` writes so many tasks."""
    lists = -(-len(tasks) // TILES_PER_LIST)
    return [storage.join(folder, _NAME.format(number=number)) for number in range(lists)]


def write_tile_lists(folder: str, tasks: Sequence[TileTask]) -> list[str]:
    """Write the tasks, some thousand to a file, into the folder of the parts; gives the files' paths."""
    paths = tile_list_paths(folder, tasks)
    for path, start in zip(paths, range(0, len(tasks), TILES_PER_LIST), strict=True):
        storage.write_bytes(path, msgspec.json.encode(tasks[start : start + TILES_PER_LIST]))
    return paths


class ReadTileLists(beam.PTransform):
    """Paths of lists -> TileTask; a retry reads the same file again."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__()
        self._paths = list(paths)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[TileTask]:
        return (
            pipeline
            | "NameLists" >> beam.Create(self._paths, reshuffle=False)
            | "ReadLists" >> beam.FlatMap(read_tile_list).with_output_types(TileTask)
        )


def read_tile_list(path: str) -> Iterator[TileTask]:
    """The tasks of one list."""
    yield from msgspec.json.decode(storage.read_bytes(path), type=list[TileTask])
