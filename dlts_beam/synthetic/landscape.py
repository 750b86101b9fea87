"""The ground of the demo scene: a river, a fishbone of roads and lots, and a farming district."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlts_beam.synthetic.noise import smooth_noise

FOREST, PASTURE, CROP, WATER, CLEARING = range(5)

# Sizes in shares of the scene's side.
_ROAD_GAP = 0.15
_LOT_LENGTH = 0.05
_FIELD = (0.085, 0.062)
_PIVOT_RADIUS = 0.04
_TURN = np.radians(17.0)


@dataclass(frozen=True)
class Landscape:
    """What covers each pixel, and which parcel it belongs to.

    Attributes:
        cover: uint8 (H, W), one of FOREST, PASTURE, CROP, WATER, CLEARING: the truth.
        parcel: int32 (H, W): pixels of one parcel are managed alike.
        parcels: parcel numbers run from 0 to parcels - 1.
        relief: float32 (H, W): heights, with the scene's side as the unit.
    """

    cover: np.ndarray
    parcel: np.ndarray
    parcels: int
    relief: np.ndarray


class _Parcels:
    """Hands out ranges of parcel numbers, so that no two patterns share one."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, count: int) -> int:
        first = self.count
        self.count += count
        return first


def build_landscape(rng: np.random.Generator, size: int) -> Landscape:
    """Draw the ground of a scene of ``size`` x ``size`` pixels."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    u, v = np.meshgrid(centres, centres)
    bend = [0.012 * smooth_noise(rng, size, 4) for _ in range(2)]
    # p runs across the main road, along the side roads; q runs along the main road.
    p = np.cos(_TURN) * (u - 0.5) + np.sin(_TURN) * (v - 0.5) + bend[0]
    q = -np.sin(_TURN) * (u - 0.5) + np.cos(_TURN) * (v - 0.5) + bend[1]
    numbers = _Parcels()
    cover = np.full((size, size), FOREST, np.uint8)
    # Unopened forest is parcel 0.
    parcel = np.full((size, size), numbers.take(1), np.int32)

    _draw_burnt_blobs(rng, numbers, cover, parcel, u, v)
    _draw_fishbone(rng, numbers, cover, parcel, p, q)
    _draw_fields(rng, numbers, cover, parcel, p, q, u, v)
    _draw_water(rng, numbers, cover, parcel, u, v)
    relief = 0.02 * smooth_noise(rng, size, 5, octaves=4, roughness=0.45)
    return Landscape(cover, parcel, numbers.count, relief)


def _draw_burnt_blobs(
    rng: np.random.Generator,
    numbers: _Parcels,
    cover: np.ndarray,
    parcel: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> None:
    """Clearings without a road: irregular blobs in the forest."""
    size = len(cover)
    blob = smooth_noise(rng, size, 9, octaves=2) > 1.55
    first = numbers.take(25)
    cover[blob] = CLEARING
    parcel[blob] = (first + (v * 5).astype(np.int32) * 5 + (u * 5).astype(np.int32))[blob]


def _draw_fishbone(
    rng: np.random.Generator,
    numbers: _Parcels,
    cover: np.ndarray,
    parcel: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
) -> None:
    """Lots on both sides of side roads: old ones near the main road, young ones at the far end.

    A lot is opened from its road backwards; behind some old pastures the forest fell this year.
    """
    roads, places = 17, 40
    road = np.rint(q / _ROAD_GAP).astype(np.int32)
    depth = np.abs(q - road * _ROAD_GAP)
    side = (q > road * _ROAD_GAP).astype(np.int32)
    across = p + 0.08
    place = np.floor(across / _LOT_LENGTH).astype(np.int32)
    lot = ((road + roads // 2) * 2 + side) * places + place + places // 2
    count = roads * 2 * places
    reach = rng.uniform(0.18, 0.5, roads)[road + roads // 2]
    away = np.abs((place + 0.5) * _LOT_LENGTH) / reach
    share = rng.uniform(size=(5, count))
    opened = (away < 1) & (share[0][lot] < 0.88)
    old_depth = 0.022 + 0.04 * share[1][lot]
    young = share[2][lot] < 0.02 + 0.65 * away**2
    behind = old_depth + np.where(share[3][lot] < 0.55, 0.008 + 0.03 * share[4][lot], 0)

    first_old, first_young = numbers.take(count), numbers.take(count)
    old = opened & ~young & (depth < old_depth)
    cover[old], parcel[old] = PASTURE, (first_old + lot)[old]
    fresh = opened & ~old & (depth < np.where(young, old_depth, behind))
    cover[fresh], parcel[fresh] = CLEARING, (first_young + lot)[fresh]
    # A few old lots were given up long ago: young forest now.
    abandoned = old & (rng.uniform(size=count)[lot] < 0.08)
    cover[abandoned] = FOREST


def _draw_fields(
    rng: np.random.Generator,
    numbers: _Parcels,
    cover: np.ndarray,
    parcel: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> None:
    """The farming district: large fields, some pasture, legal reserves, this year's clearings, pivots."""
    size = len(cover)
    edge = smooth_noise(rng, size, 3, octaves=2)
    district = u + 0.55 * v + 0.09 * edge > 1.0
    rows = np.floor(q / _FIELD[1]).astype(np.int32) + 14
    # Fields of neighbouring rows do not line up.
    shift = rng.uniform(0, _FIELD[0], 32)[rows]
    columns = np.floor((p + shift) / _FIELD[0]).astype(np.int32) + 12
    field = rows * 32 + columns
    count = 32 * 32
    inside = np.bincount(field.ravel(), district.ravel(), count) / np.maximum(
        np.bincount(field.ravel(), minlength=count), 1
    )
    kind = rng.choice([CROP, PASTURE, FOREST, CLEARING], count, p=[0.64, 0.12, 0.10, 0.14]).astype(np.uint8)
    chosen = inside[field] > 0.5
    first = numbers.take(count)
    cover[chosen], parcel[chosen] = kind[field][chosen], (first + field)[chosen]

    pivots = 5
    first = numbers.take(pivots)
    for number, (x, y) in enumerate(rng.uniform((0.66, 0.3), (0.93, 0.93), (pivots, 2))):
        circle = ((u - x) ** 2 + (v - y) ** 2 < _PIVOT_RADIUS**2) & chosen
        cover[circle], parcel[circle] = CROP, first + number


def _draw_water(
    rng: np.random.Generator,
    numbers: _Parcels,
    cover: np.ndarray,
    parcel: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> None:
    """A meandering river inside its belt of forest, and a lake."""
    size = len(cover)
    wobble = smooth_noise(rng, size, 6, octaves=3)
    middle = (
        0.16 + 0.10 * v + 0.045 * np.sin(2 * np.pi * (1.4 * v + 0.1)) + 0.014 * np.sin(2 * np.pi * 4.3 * v)
    )
    distance = np.abs(u - middle + 0.004 * wobble)
    width = 0.010 + 0.006 * v
    lake_shape = np.hypot(u - 0.30, 1.3 * (v - 0.80)) + 0.022 * wobble
    belt = (distance < width + 0.018) | (lake_shape < 0.085)
    cover[belt] = FOREST
    parcel[belt] = numbers.take(1)
    water = (distance < width) | (lake_shape < 0.066)
    cover[water] = WATER
    parcel[water] = numbers.take(1)
