"""How each cover looks on each day of the year: mixtures of a few pure surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlts_beam.synthetic import landscape as ground
from dlts_beam.synthetic.landscape import Landscape
from dlts_beam.synthetic.noise import smooth_noise

BAND_NAMES = ("blue", "red", "nir", "swir")

# Reflectance of the pure surfaces in the order of BAND_NAMES.
_CANOPY = np.array([0.026, 0.030, 0.300, 0.135], np.float32)
_YOUNG_CANOPY = np.array([0.030, 0.036, 0.350, 0.165], np.float32)
_GREEN_GRASS = np.array([0.040, 0.052, 0.320, 0.185], np.float32)
_DRY_GRASS = np.array([0.070, 0.125, 0.245, 0.290], np.float32)
_LEAFY_CROP = np.array([0.034, 0.040, 0.370, 0.165], np.float32)
_SOIL = np.array([0.078, 0.145, 0.245, 0.310], np.float32)
_ASH = np.array([0.045, 0.062, 0.120, 0.190], np.float32)
_CLEAR_WATER = np.array([0.045, 0.035, 0.025, 0.012], np.float32)
_MUDDY_WATER = np.array([0.065, 0.085, 0.060, 0.020], np.float32)

# Days after 1 August: the height of the rains, and when crops are sown.
_RAIN_PEAK = 190.0
_NEVER = 1e6


@dataclass(frozen=True)
class Calendar:
    """What happens when, per pixel: float32 (H, W) unless said otherwise. Days count from 1 August.

    Attributes:
        cleared: day on which the forest fell; far in the future where it did not.
        burnt: day of a grass fire on old pasture; far in the future where there is none.
        sown: days of first and second sowing, (2, H, W); far in the future where there is none.
        lag: days by which the pixel's season runs late.
        vigour: 0..1, how green grass and crops get.
        bare: 0..1, share of soil among grass, and of soil against straw on fallow fields.
        ashes: 0..1, share of ash on a fresh clearing.
        recovery: days in which grass takes over a clearing (1 - 1/e of it).
        young: 0..1, share of young trees in the forest.
        trees: 0..1, share of trees left standing on pastures, fields and clearings.
        logged: 0..1, share of the canopy that is gone for a while after ``felled``.
        felled: day on which loggers thinned the forest.
        gain: brightness of the surface itself, about 1.
    """

    cleared: np.ndarray
    burnt: np.ndarray
    sown: np.ndarray
    lag: np.ndarray
    vigour: np.ndarray
    bare: np.ndarray
    ashes: np.ndarray
    recovery: np.ndarray
    young: np.ndarray
    trees: np.ndarray
    logged: np.ndarray
    felled: np.ndarray
    gain: np.ndarray


def draw_calendar(rng: np.random.Generator, land: Landscape, events: np.ndarray) -> Calendar:
    """Draw each parcel's year; clearings fall on one of the days in ``events`` (E,)."""
    size, count, parcel = len(land.cover), land.parcels, land.parcel

    def per_parcel(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, count).astype(np.float32)[parcel]

    day = rng.choice(events, count).astype(np.float32)[parcel]
    cleared = np.where(land.cover == ground.CLEARING, day, _NEVER)
    fire = per_parcel(10, 75)
    burnt = np.where((land.cover == ground.PASTURE) & (per_parcel(0, 1) < 0.15), fire, _NEVER)
    first = per_parcel(45, 125)
    second = first + per_parcel(112, 130)
    twice = per_parcel(0, 1) < 0.55
    # Irrigated fields are sown in the dry season, too.
    irrigated = per_parcel(0, 1) < 0.15
    first = np.where(irrigated, first - 75, first)
    sown = np.stack([first, np.where(twice | irrigated, second, _NEVER)])
    sown = np.where(land.cover == ground.CROP, sown, _NEVER).astype(np.float32)
    abandoned = (land.cover == ground.FOREST) & (per_parcel(0, 1) < 0.2)
    return Calendar(
        cleared=cleared.astype(np.float32),
        burnt=burnt.astype(np.float32),
        sown=sown,
        lag=per_parcel(-18, 18) + 8 * smooth_noise(rng, size, 40),
        vigour=np.clip(per_parcel(0.45, 1.0) + 0.10 * smooth_noise(rng, size, 40), 0, 1),
        bare=np.clip(per_parcel(0.0, 0.75) + 0.10 * smooth_noise(rng, size, 40), 0, 1),
        ashes=np.clip(per_parcel(-0.4, 0.8) + 0.15 * smooth_noise(rng, size, 40), 0, 1),
        recovery=per_parcel(50, 260),
        young=np.where(
            abandoned, per_parcel(0.5, 1.0), np.clip(0.1 + 0.1 * smooth_noise(rng, size, 20), 0, 1)
        ),
        trees=np.clip(per_parcel(-0.2, 0.25) + 0.2 * smooth_noise(rng, size, 48, octaves=2), 0, 0.7),
        logged=np.clip(0.45 * smooth_noise(rng, size, 10, octaves=3) - 0.25, 0, 0.6),
        felled=170 + 90 * smooth_noise(rng, size, 5),
        gain=np.clip(
            per_parcel(0.88, 1.12)
            + 0.05 * smooth_noise(rng, size, 30)
            + 0.10 * rng.standard_normal((size, size)).astype(np.float32),
            0.55,
            1.45,
        ),
    )


def reflectance(land: Landscape, year: Calendar, day: float) -> np.ndarray:
    """Reflectance on one day without clouds, relief or noise: float32 (H, W, B)."""
    local = np.float32(day) - year.lag
    rain = 0.5 + 0.5 * np.cos(2 * np.pi * (local - _RAIN_PEAK) / 365)
    forest = _forest(year, rain, np.float32(day) - year.felled)
    open_land = {
        ground.PASTURE: _grass(year, rain, np.float32(day) - year.burnt),
        ground.CROP: _crop(year, rain, local),
        ground.CLEARING: _clearing(year, rain, np.float32(day) - year.cleared, forest),
    }
    image = np.where(
        (land.cover == ground.WATER)[..., None],
        _mix((1 - 0.7 * rain, _CLEAR_WATER), (0.7 * rain, _MUDDY_WATER)),
        forest,
    )
    trees = year.trees[..., None]
    for cover, look in open_land.items():
        image = np.where((land.cover == cover)[..., None], trees * forest + (1 - trees) * look, image)
    return image * year.gain[..., None]


def _forest(year: Calendar, rain: np.ndarray, since_felled: np.ndarray) -> np.ndarray:
    canopy = _mix((1 - year.young, _CANOPY), (year.young, _YOUNG_CANOPY)) * (0.96 + 0.06 * rain)[..., None]
    gap = np.where(since_felled >= 0, year.logged * np.exp(-np.maximum(since_felled, 0) / 80), 0)[..., None]
    return np.asarray((1 - gap) * canopy + gap * _DRY_GRASS)


def _grass(year: Calendar, rain: np.ndarray, since_fire: np.ndarray) -> np.ndarray:
    green = year.vigour * (0.15 + 0.8 * rain)
    bare = 0.55 * year.bare * (1 - green)
    look = _mix((green, _GREEN_GRASS), (bare, _SOIL), (1 - green - bare, _DRY_GRASS))
    ash = np.where(since_fire >= 0, np.exp(-np.maximum(since_fire, 0) / 30), 0)
    return _mix((ash, _ASH)) + look * (1 - ash)[..., None]


def _crop(year: Calendar, rain: np.ndarray, local: np.ndarray) -> np.ndarray:
    leaf = np.zeros_like(rain)
    for sown in year.sown:
        grown = _logistic((local - sown - 30) / 7) * _logistic((sown + 102 - local) / 5)
        leaf = np.maximum(leaf, grown)
    leaf *= 0.55 + 0.45 * year.vigour
    weeds = 0.55 * rain * (1 - year.bare) * (1 - leaf)
    straw = (1 - leaf - weeds) * (1 - year.bare)
    return _mix(
        (leaf, _LEAFY_CROP), (weeds, _GREEN_GRASS), (straw, _DRY_GRASS), (1 - leaf - weeds - straw, _SOIL)
    )


def _clearing(year: Calendar, rain: np.ndarray, since: np.ndarray, forest: np.ndarray) -> np.ndarray:
    age = np.maximum(since, 0)
    grown = 1 - np.exp(-age / year.recovery)
    green = year.vigour * (0.15 + 0.8 * rain) * grown
    ash = year.ashes * np.exp(-age / 45) * (1 - green)
    wood = (1 - green - ash) * (1 - year.bare)
    fallen = _mix((green, _GREEN_GRASS), (ash, _ASH), (wood, _DRY_GRASS), (1 - green - ash - wood, _SOIL))
    return np.where((since >= 0)[..., None], fallen, forest)


def _mix(*parts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    total = sum(share[..., None] * surface for share, surface in parts)
    return np.asarray(total, np.float32)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
