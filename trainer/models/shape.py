"""The shape that an architecture is built for."""

from __future__ import annotations

from dataclasses import dataclass

from dlts_beam.errors import DltsError


@dataclass(frozen=True)
class ModelShape:
    """What the samples fix about a model.

    A model built for it takes float32 ``(batch, time_steps, patch, patch, bands)`` in physical units and
    gives float32 probabilities ``(batch, classes)``.

    Attributes:
        time_steps: number of time steps, at least 1.
        bands: number of bands, at least 1.
        patch: side of the patch in pixels, odd; 1 for a single pixel.
        classes: number of classes, at least 2.
        days: days from the first time step to each one; never decreasing, ``days[0] == 0``. Attention models
            use them as positions in time. Left empty, the steps are taken to be one day apart.

    Raises:
        DltsError: if a number is out of range or the days do not match the time steps.
    """

    time_steps: int
    bands: int
    patch: int
    classes: int
    days: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value, least in (
            ("time_steps", self.time_steps, 1),
            ("bands", self.bands, 1),
            ("patch", self.patch, 1),
            ("classes", self.classes, 2),
        ):
            if value < least:
                raise DltsError(f"a model needs {name} of at least {least}; got {value}")
        if self.patch % 2 == 0:
            raise DltsError(f"patch must be odd, so that a pixel sits in the middle; got {self.patch}")
        if not self.days:
            object.__setattr__(self, "days", tuple(float(step) for step in range(self.time_steps)))
        if len(self.days) != self.time_steps:
            raise DltsError(
                f"days must hold one number per time step: got {len(self.days)} for {self.time_steps}"
            )
        if self.days[0] != 0 or any(
            later < day for day, later in zip(self.days, self.days[1:], strict=False)
        ):
            raise DltsError("days must start at 0 and never decrease: put the time steps in order of time")

    @property
    def halo(self) -> int:
        """Pixels that the model sees on each side of the one it labels."""
        return self.patch // 2
