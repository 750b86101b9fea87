"""``model.json``: a trained model, the preparation it expects and how it is served."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from dlts_beam.errors import DltsError
from dlts_beam.spec.classes import ClassTable
from dlts_beam.spec.codec import JsonSpec, unknown_fields
from dlts_beam.spec.samples import SamplesSpec
from dlts_beam.spec.series import Band, TimeStep

MODEL_JSON = "model.json"
# Raised only when the numbers that a serving model or the preparation gives for the same input change, or
# which pixels get a class. 2: observations that a timeline leaves out no longer count for ``min_valid``, so
# that models without a timeline give what they gave (`ModelSpec.check_read`).
NUMERICS_VERSION = 2
SAVED_MODELS = ("last", "acc", "loss")  # <name>_model.keras and serving/<name>/
DEFAULT_SAVED_MODEL = "loss"
INDEX_KINDS = ("nd",)
COMPOSITES = ("interpolate", "median", "max")


@dataclass(frozen=True)
class IndexSpec:
    """A spectral index made before gap filling: normalised difference (first - second) / (first + second)."""

    name: str
    first: str
    second: str
    kind: str = "nd"

    def __post_init__(self) -> None:
        if self.kind not in INDEX_KINDS:
            raise ValueError(f"index kind must be one of {INDEX_KINDS}; got {self.kind!r}")


@dataclass(frozen=True)
class Timeline:
    """A regular timeline in days: ``count`` steps of ``step`` days from day ``start``.

    ``start`` is a day of year (0 = 1 January) of the year in which the series begins where
    ``relative`` is False, or days after the first time step where it is True. ``method`` is
    ``interpolate`` (linear), or a composite of the observations of each period: ``median``, or
    ``max``, the observation with the largest value of band or index ``by``.
    """

    start: float
    step: float
    count: int
    relative: bool = True
    method: str = "interpolate"
    by: str | None = None

    def __post_init__(self) -> None:
        if self.step <= 0 or self.count < 1:
            raise ValueError(f"a timeline needs step > 0 and count >= 1; got {self.step} and {self.count}")
        if self.method not in COMPOSITES:
            raise ValueError(f"timeline method must be one of {COMPOSITES}; got {self.method!r}")
        if (self.method == "max") != (self.by is not None):
            raise ValueError("a composite by maximum names the band or index it looks at, others name none")


@dataclass(frozen=True)
class PreparationSpec:
    """From (values, valid, days) to the tensor a model takes: chosen at training, used on both sides.

    Attributes:
        bands: names of the bands used, in the model's order (indices follow them).
        fill: per output band, the training mean in physical units: what a position never observed takes.
        indices: spectral indices appended to the bands.
        timeline: a regular timeline; None keeps the series' own time steps.
        min_valid: a pixel with fewer observed time steps at its centre gets no class; with a timeline
            those count that it uses.
    """

    bands: tuple[str, ...]
    fill: tuple[float, ...]
    indices: tuple[IndexSpec, ...] = ()
    timeline: Timeline | None = None
    min_valid: int = 1

    def __post_init__(self) -> None:
        if len(self.fill) != len(self.bands) + len(self.indices):
            raise ValueError(f"fill must have one value for each of {self.names}; got {len(self.fill)}")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names of bands and indices must differ; got {self.names}")
        for index in self.indices:
            for band in (index.first, index.second):
                if band not in self.bands:
                    raise ValueError(f"index {index.name!r} needs band {band!r}; the bands are {self.bands}")
        by = self.timeline.by if self.timeline is not None else None
        if by is not None and by not in self.names:
            raise ValueError(f"the timeline looks at {by!r}, which is neither band nor index: {self.names}")
        if self.min_valid < 1:
            raise ValueError(f"min_valid must be 1 or more; got {self.min_valid}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the model's input bands, indices included."""
        return self.bands + tuple(index.name for index in self.indices)


@dataclass(frozen=True)
class ServingSpec:
    """Shapes of a serving model: strip (T, 1 + 2 * halo, batch + 2 * halo, B) in, (batch, K) out."""

    batch: int
    halo: int
    time_steps: int
    bands: int
    classes: int

    @property
    def patch(self) -> int:
        """Side of the patch one output looks at."""
        return 2 * self.halo + 1

    @property
    def strip_shape(self) -> tuple[int, int, int, int]:
        """(T, 1 + 2h, N + 2h, B)."""
        return self.time_steps, self.patch, self.batch + 2 * self.halo, self.bands


@dataclass(frozen=True)
class ModelSpec(JsonSpec):
    """All that step 4 must know of a model folder, and all that its maker did.

    Whoever reads one has a model that this version computes as the one that made it did: see `check_read`.

    Attributes:
        samples: spec of the (first) samples folder it was trained on.
        steps: time steps of the model's input before any timeline (for the fit rule).
        bands: the bands it was trained on, in the order of ``preparation.bands``.
        architecture, config: name in the trainer's registry and its sizes.
        settings: the trainer's own flags.
        serving: shapes of the serving models.
        serving_sha256: digest of each serving model's ONNX bytes, by name (loss, acc, last).
        saved_model_sha256: digest of all files of each serving model's SavedModel, by name; none in folders
            of before it was kept.
        splits_sha256: digest of ``splits.csv``; none in folders of before it was kept.
        metrics: short summary (overall accuracy on the test split and the like).
    """

    KIND: ClassVar[str] = "model spec"
    VERSION: ClassVar[int] = 1
    # They change nothing in a map, and TensorFlow writes the same SavedModel with other bytes every time.
    NOT_IN_DIGEST: ClassVar[tuple[str, ...]] = ("saved_model_sha256", "splits_sha256")

    samples: SamplesSpec
    steps: tuple[TimeStep, ...]
    bands: tuple[Band, ...]
    classes: ClassTable
    preparation: PreparationSpec
    architecture: str
    config: dict[str, Any]
    settings: dict[str, Any]
    serving: ServingSpec
    serving_sha256: dict[str, str]
    saved_model_sha256: dict[str, str] = field(default_factory=dict)
    splits_sha256: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    numerics_version: int = NUMERICS_VERSION
    versions: dict[str, str] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        if len(self.classes) != self.serving.classes:
            raise ValueError(f"{len(self.classes)} classes, but the model gives {self.serving.classes}")
        if self.serving.bands != len(self.preparation.names):
            raise ValueError(
                f"the preparation makes {len(self.preparation.names)} bands,"
                f" but the serving model takes {self.serving.bands}"
            )

    def check_read(self, raw: dict[str, Any], place: str) -> None:
        """This version computes the same numbers from the folder as the version that made it.

        A file always says with which numerics it was made, so one that does not was not written by us.

        Raises:
            DltsError: the numerics were others, or the file has fields of which nothing is known here.
        """
        told = f"the {self.KIND}{place}"
        if "numerics_version" not in raw:
            raise DltsError(
                f"{told} does not say with which numerics_version it was made, so that nobody knows whether"
                " its answers would be the same: restore the file, or train the model again"
            )
        made = self.numerics_version
        same = made == NUMERICS_VERSION or (made == 1 and self.preparation.timeline is None)
        if not same:
            raise DltsError(
                f"{told} was made with numerics version {made}, and this dlts-beam computes version"
                f" {NUMERICS_VERSION}, which may give other answers: train the model again with this version,"
                " or use the version that made it"
            )
        unknown = unknown_fields(raw, msgspec.to_builtins(self))
        if unknown:
            raise DltsError(
                f"{told} was made by a newer version: it has {', '.join(sorted(unknown))}, of which this"
                " dlts-beam knows nothing, so that its answers might be others; use the version that made"
                " it, or train the model again with this one"
            )
