"""The real sets of `benchmarks.accuracy`, and how their READMEs say to use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trainer.dataset import Samples


@dataclass(frozen=True)
class RealSet:
    """One labelled set and how its README says to use it.

    Attributes:
        name: its folder.
        title: in the table.
        series: flags of step 1; ``{}`` stands for the set's folder.
        samples: flags of step 2.
        grouping: what its samples are grouped by.
        groups: gives the group of each sample; None where every sample stands alone.
        training: 0 for folds; else so many samples train, in random splits as in the published comparison.
    """

    name: str
    title: str
    series: tuple[str, ...]
    samples: tuple[str, ...]
    grouping: str
    groups: Callable[[Samples], NDArray[Any]] | None
    training: int = 0

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.name}_{self.training}" if self.training else self.name

    def in_order(self, samples: Samples) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[Any]]:
        """Places of the samples in the order of their file, then their class ids and groups in that order."""
        order = np.argsort(samples.features, kind="stable")
        groups = np.arange(len(order)) if self.groups is None else self.groups(samples)[order]
        return order, samples.class_ids[order], groups


def _locations(samples: Samples) -> NDArray[Any]:
    return samples.kept["location"].astype(np.int64)


def _cells(samples: Samples) -> NDArray[Any]:
    east, north = (np.floor(samples.kept[name].astype(float) / 0.25) for name in ("longitude", "latitude"))
    return np.char.add(np.char.add(east.astype(int).astype(str), "_"), north.astype(int).astype(str))


def _blocks(samples: Samples) -> NDArray[Any]:
    part = samples.parts[0]
    rows, cols = np.empty_like(part.rows), np.empty_like(part.cols)
    rows[part.place], cols[part.place] = part.rows, part.cols
    return rows // 5 * 1000 + cols // 5


PORTO = (
    "porto_dos_gauchos_modis_2007_2013", "Porto dos Gauchos 2007-2013, MODIS (6 bands)",
    ("-i", "{}/series", "--stacked", "--dates", "{}/original/timeline", "-b", "1", "3", "4", "5", "6", "7"),
    ("-s", "{}/points.gpkg", "--start-column", "start_date", "--end-column", "end_date", "--steps", "23"),
)  # fmt: skip
SETS = (
    RealSet(
        "mato_grosso_modis_samples", "Mato Grosso, MODIS (4 bands)",
        ("-i", "{}/mosaic/images", "-b", "1", "2", "3", "4", "--undated"),
        ("-s", "{}/mosaic/points.gpkg", "--keep", "location"), "location", _locations,
    ),
    RealSet(
        "rondonia_sentinel2_samples", "Rondonia, Sentinel-2 (11 bands)",
        ("-i", "{}/mosaic/images"), ("-s", "{}/mosaic/points.gpkg"), "sample", None,
    ),
    RealSet(
        "bahia_cbers4_2019", "Bahia, CBERS-4 (6 bands)",
        ("-i", "{}/mosaic/images"), ("-s", "{}/mosaic/points.gpkg", "--keep", "longitude", "latitude"),
        "cell of 0.25 degrees", _cells,
    ),
    RealSet(*PORTO, "block of 5 x 5 pixels", _blocks),
    RealSet(
        "porto_dos_gauchos_modis_2012", "Porto dos Gauchos 2012, MODIS (6 bands)",
        ("-i", "{}/images", "-b", "1", "2", "3", "4", "5", "6"),
        ("-s", "{}/samples/points.gpkg"), "block of 5 x 5 pixels", _blocks,
    ),
    RealSet(*PORTO, "none: random splits", None, training=62),
)  # fmt: skip
