"""What the registry knows about an architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dlts_beam.errors import DltsError
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx

Build = Callable[[ModelShape, Mapping[str, Any]], "keras.Model"]
Fold = Callable[["keras.Model", ModelShape, int], "onnx.ModelProto"]


@dataclass(frozen=True)
class Architecture:
    """One kind of model: how it is built and how it is served.

    Attributes:
        name: what ``--model`` calls it.
        summary: one line for ``--list-models``.
        build: gives an uncompiled Keras model for a shape and complete settings. Keras is imported inside, so
            that listing the registry costs nothing.
        defaults: every setting with its default value.
        needs_patch: whether the model looks at the neighbours of a pixel. Where it does not, it is built with
            patch 1 and takes the centre of the samples.
        min_patch: smallest patch that it can be built for.
        fold: gives the ONNX serving model from a trained model, its shape and the number of pixels in a
        strip.
            None: the graph that Keras exports is wrapped instead.
        batch: pixels in a strip of the serving model, as measured by ``benchmarks/engines.py``.
    """

    name: str
    summary: str
    build: Build
    defaults: Mapping[str, Any]
    needs_patch: bool = False
    min_patch: int = 1
    fold: Fold | None = None
    batch: int = 256

    def fit_shape(self, shape: ModelShape) -> ModelShape:
        """The shape that this architecture is built for, given that of the samples.

        Raises:
            DltsError: if the samples' patch is too small for it.
        """
        if not self.needs_patch:
            return replace(shape, patch=1)
        if shape.patch < self.min_patch:
            raise DltsError(
                f"{self.name} needs a patch of at least {self.min_patch}, the samples have {shape.patch}: "
                f"take the pixel model lstm (--model lstm), or extract samples with --patch {self.min_patch}"
            )
        return shape

    def settings(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The defaults with the given values in their place.

        Raises:
            DltsError: if a name is unknown, a value has another type than its default, a size is below 1, a
                dropout rate is not below 1, or noise is above 1.
        """
        settings = dict(self.defaults)
        for name, value in (given or {}).items():
            if name not in settings:
                known = ", ".join(sorted(settings)) or "none"
                raise DltsError(f"{self.name} has no setting {name!r}; its settings are: {known}")
            checked = _checked(f"{self.name}: {name}", value, settings[name])
            if name.endswith("dropout") and checked >= 1:
                raise DltsError(
                    f"{self.name}: {name} must be a fraction from 0 up to, not including, 1; got {value!r}"
                )
            if name.endswith("noise") and checked > 1:
                raise DltsError(
                    f"{self.name}: {name} must lie in 0..1, where 1 is the standard deviation of the values; "
                    f"got {value!r}"
                )
            settings[name] = checked
        return settings


def _checked(name: str, value: Any, default: Any) -> Any:
    """``value``, if it is of the kind of ``default`` and in range."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise DltsError(f"{name} must be true or false; got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DltsError(f"{name} must be a number; got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DltsError(f"{name} must be a finite number; got {value!r}")
    if isinstance(default, int):
        if value != int(value) or value < 1:
            raise DltsError(f"{name} must be a whole number of at least 1; got {value!r}")
        return int(value)
    if value < 0:
        raise DltsError(f"{name} must not be negative; got {value!r}")
    return float(value)
