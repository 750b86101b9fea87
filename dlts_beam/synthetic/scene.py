"""Put a landscape, its year, a sun, an atmosphere and a sensor together into an image series."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

from dlts_beam.grid import Grid
from dlts_beam.spec.classes import ClassRow, ClassTable
from dlts_beam.synthetic import landscape as ground
from dlts_beam.synthetic.landscape import build_landscape
from dlts_beam.synthetic.noise import box_mean, smooth_noise
from dlts_beam.synthetic.seasons import BAND_NAMES, draw_calendar, reflectance

NODATA = 65535
FIRST_DAY = dt.date(2023, 8, 1)
# Days after FIRST_DAY on which forest falls.
EVENT_DAYS = (24, 62, 104, 158, 207, 251, 292, 328)

# Map values differ from class ids on purpose: the map must carry the user's own values.
CLASSES = ClassTable(
    (
        ClassRow(ground.FOREST, 1, "forest", "#1b7837"),
        ClassRow(ground.PASTURE, 2, "pasture", "#c2b04a"),
        ClassRow(ground.CROP, 3, "crop", "#f08ac0"),
        ClassRow(ground.WATER, 4, "water", "#2b7bba"),
        ClassRow(ground.CLEARING, 5, "deforestation", "#d7301f"),
    )
)
_HAZE = np.array([0.030, 0.018, 0.010, 0.004], np.float32)


@dataclass(frozen=True)
class Scene:
    """A synthetic image series with its truth.

    Attributes:
        grid: the grid of all images and of the truth.
        dates: acquisition days, in order, (T,).
        bands: band names, (B,).
        scale: reflectance = stored value x scale.
        nodata: the cube's missing value (cloud, or outside the swath).
        cube: uint16 (T, H, W, B).
        truth: uint8 (H, W), values of ``classes``; ``classes.nodata`` where never covered.
        classes: the classes' values, names and colours.
        events: the days on which forest was cleared.
        cleared: int16 (H, W): index into ``events`` of the pixel's clearing, -1 where there is none.
    """

    grid: Grid
    dates: tuple[dt.date, ...]
    bands: tuple[str, ...]
    scale: float
    nodata: int
    cube: np.ndarray
    truth: np.ndarray
    classes: ClassTable
    events: tuple[dt.date, ...]
    cleared: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """bool (T, H, W): observed by the sensor and free of cloud."""
        return np.asarray(self.cube[..., 0] != self.nodata)


def make_scene(size: int = 512, seed: int = 7, dates: int = 24, cloud: float = 0.3) -> Scene:
    """Make a year over a deforestation frontier, ``size`` x ``size`` pixels of 30 m.

    Forest falls on known days along a fishbone of roads; harvested crops, burnt pastures and young
    forest look like clearings, or like forest, on single dates. A wedge at the eastern edge lies
    outside the swath on all dates. The same arguments give the same scene.

    Args:
        size: height and width in pixels, 64 or more.
        seed: any non-negative integer.
        dates: acquisitions, at irregular intervals over a year, 2 to 120.
        cloud: share of (pixel, date) under cloud, among those inside the swath, 0 to 0.6.

    Raises:
        ValueError: an argument is out of its range.
    """
    for name, value, low, high in (
        ("size", size, 64, 16384), ("dates", dates, 2, 120), ("cloud", cloud, 0, 0.6),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in {low}..{high}; got {value}")
    # One stream per purpose: more dates or other clouds leave the landscape as it is.
    land_rng, year_rng, date_rng, sky_rng = np.random.default_rng(seed).spawn(4)
    land = build_landscape(land_rng, size)
    year = draw_calendar(year_rng, land, np.array(EVENT_DAYS))
    days = _draw_days(date_rng, dates)
    covered = _swath(size)
    shares = _cloud_shares(date_rng, days, cloud)
    slope = np.gradient(land.relief * size)

    cube = np.full((dates, size, size, len(BAND_NAMES)), NODATA, np.uint16)
    for step, (day, share, rng) in enumerate(zip(days, shares, sky_rng.spawn(dates), strict=True)):
        cube[step] = _observe(
            rng, reflectance(land, year, float(day)), slope, float(day), float(share), covered
        )

    values = np.array(CLASSES.values, np.uint8)
    clearing = land.cover == ground.CLEARING
    event = np.searchsorted(EVENT_DAYS, np.where(clearing, year.cleared, 0)).astype(np.int16)
    grid = Grid("EPSG:32721", (30.0, 0.0, 612000.0, 0.0, -30.0, 8714000.0), size, size)
    return Scene(
        grid=grid,
        dates=tuple(FIRST_DAY + dt.timedelta(days=int(day)) for day in days),
        bands=BAND_NAMES,
        scale=1e-4,
        nodata=NODATA,
        cube=cube,
        truth=np.where(covered, values[land.cover], np.uint8(CLASSES.nodata)),
        classes=CLASSES,
        events=tuple(FIRST_DAY + dt.timedelta(days=day) for day in EVENT_DAYS),
        cleared=np.where(clearing, event, np.int16(-1)),
    )


def _draw_days(rng: np.random.Generator, count: int) -> np.ndarray:
    """Days after FIRST_DAY, int (count,), strictly increasing, irregular."""
    gap = 360 / count
    return np.floor((np.arange(count) + rng.uniform(0.05, 0.95, count)) * gap).astype(int)


def _cloud_shares(rng: np.random.Generator, days: np.ndarray, mean: float) -> np.ndarray:
    """Share of cloud per date, float (T,): more in the rains, ``mean`` over all dates."""
    rain = 0.5 + 0.5 * np.cos(2 * np.pi * (days - 190) / 365)
    shares = (0.3 + 1.4 * rain) * rng.uniform(0.4, 1.6, len(days))
    for _ in range(20):
        shares = np.clip(shares * (mean / max(shares.mean(), 1e-9)), 0, 0.92)
    return np.asarray(shares)


def _swath(size: int) -> np.ndarray:
    """bool (H, W): True where the sensor ever looks; its last scan line slants across the east."""
    row, col = np.mgrid[:size, :size] / size
    return np.asarray(col < 0.995 - 0.05 * row)


def _observe(
    rng: np.random.Generator,
    surface: np.ndarray,
    slope: list[np.ndarray] | tuple[np.ndarray, ...],
    day: float,
    share: float,
    covered: np.ndarray,
) -> np.ndarray:
    """One image as stored, uint16 (H, W, B): sunlight, neighbours' light, haze, noise and clouds."""
    size = len(surface)
    # The sun stands high in December and low in June.
    height = np.radians(55 + 15 * np.cos(2 * np.pi * (day - 142) / 365))
    azimuth = np.radians(75 + 30 * np.cos(2 * np.pi * (day - 330) / 365))
    tilt = slope[0] * np.cos(azimuth) - slope[1] * np.sin(azimuth)
    light = np.clip(1 + 0.5 * tilt / np.tan(height), 0.6, 1.4).astype(np.float32)
    image = surface * light[..., None]
    image = 0.5 * image + 0.5 * box_mean(image)

    field = smooth_noise(rng, size, 5, octaves=4, roughness=0.6)
    threshold = np.quantile(field[covered], 1 - share)
    # Thin cloud around the masked one stays in the data.
    veil = 0.16 * np.exp(-np.maximum(threshold - field, 0) / 0.10) if share > 0 else np.zeros_like(field)
    # So do the shadows beside it, which fall away from the sun.
    shift = max(1, size // 60)
    shadow = np.pad(field, ((shift, 0), (0, shift)), mode="edge")[:size, shift:] > threshold
    image *= np.where(shadow, np.float32(rng.uniform(0.55, 0.8)), np.float32(1))[..., None]
    haze = _HAZE * rng.uniform(0.0, 0.6)
    air = rng.uniform(0.94, 1.06) + 0.05 * smooth_noise(rng, size, 3, octaves=3)
    image = image * air[..., None] + haze
    image += veil[..., None] * (0.5 - image)
    noise = rng.standard_normal(image.shape).astype(np.float32)
    image = image * (1 + 0.07 * noise) + 0.010 * rng.standard_normal(image.shape).astype(np.float32)
    stored = np.clip(np.rint(image * 10000), 1, 16000).astype(np.uint16)
    stored[(field > threshold) | ~covered] = NODATA
    return stored
