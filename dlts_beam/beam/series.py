"""Step 1 as one transform: image files -> headers, in parallel -> one check -> VRTs and series.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam

from dlts_beam import storage
from dlts_beam.acquisitions.header import Header, Unusable
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.errors import DltsError
from dlts_beam.io.raster.headers import read_header
from dlts_beam.io.raster.plan import plan_series
from dlts_beam.io.raster.vrt import is_own_vrt, warped_folder, write_vrts
from dlts_beam.spec.series import SeriesSpec

SERIES_FILE = "series.json"


class ReadHeader(beam.DoFn):
    """`FileEntry` -> `Header` or `Unusable`: nothing is raised, so that all problems are told together."""

    def __init__(self, hash_content: bool = False) -> None:
        self._hash_content = hash_content
        self._images = beam.metrics.Metrics.counter("series", "images")

    def process(self, element: storage.FileEntry) -> Iterator[Header | Unusable]:
        """Yield one record."""
        record = read_header(element, self._hash_content)
        if isinstance(record, Header):
            self._images.inc()
        yield record


class WriteSeries(beam.PTransform):
    """PCollection of `FileEntry` (image files) -> PCollection with the path of the one ``series.json``.

    Raises when run:
        DltsError: the images do not make a series, or the folder cannot be written, or another run writes it.
    """

    def __init__(
        self,
        folder: str,
        settings: SeriesSettings,
        reference: Header | None = None,
        hash_content: bool = False,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._settings = settings
        self._reference = reference
        self._hash_content = hash_content

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        """Wire the stages."""
        return (
            files
            | "Spread" >> beam.Reshuffle()
            | "ReadHeaders" >> beam.ParDo(ReadHeader(self._hash_content))
            | "GatherHeaders" >> beam.combiners.ToList()
            | "CheckAndWrite" >> beam.Map(self._check_and_write)
        )

    def _check_and_write(self, records: Iterable[Header | Unusable]) -> str:
        spec = plan_series(list(records), self._settings, self._reference)
        _check_apart(spec, self._folder)
        text = spec.to_json()  # what cannot be written must not cost the series that is there
        path = storage.join(self._folder, SERIES_FILE)
        with storage.exclusive(path + ".lock", self._folder) as check_lock:
            # A series.json that is there stands for a series that is whole: gone first, written last.
            storage.remove(path)
            for entry in storage.list_files(self._folder) + storage.list_files(warped_folder(self._folder)):
                if is_own_vrt(storage.name(entry.path)):
                    storage.remove(entry.path)
            write_vrts(spec, self._folder)
            check_lock()
            storage.write_text(path, text)
        return path


def _check_apart(spec: SeriesSpec, folder: str) -> None:
    """Refuse to write over an image of the series itself.

    Raises:
        DltsError: names the image.
    """
    for file in spec.files:
        if storage.parent(file.path) == folder and is_own_vrt(storage.name(file.path)):
            raise DltsError(f"the output would replace the image {file.path}: choose another --output-dir")
