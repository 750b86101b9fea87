"""The contract: frozen specs of every file that passes from one step to the next."""

from dlts_beam.spec.classes import ClassRow, ClassTable
from dlts_beam.spec.codec import JsonSpec, digest_of
from dlts_beam.spec.model import (
    NUMERICS_VERSION,
    IndexSpec,
    ModelSpec,
    PreparationSpec,
    ServingSpec,
    Timeline,
)
from dlts_beam.spec.samples import Ledger, SamplesSpec, sample_id, shard_name
from dlts_beam.spec.series import (
    Band,
    MaskRule,
    Reading,
    SeriesSpec,
    Source,
    SourceFile,
    TimeStep,
    Warp,
)

__all__ = [
    "NUMERICS_VERSION",
    "Band",
    "ClassRow",
    "ClassTable",
    "IndexSpec",
    "JsonSpec",
    "Ledger",
    "MaskRule",
    "ModelSpec",
    "PreparationSpec",
    "Reading",
    "SamplesSpec",
    "SeriesSpec",
    "ServingSpec",
    "Source",
    "SourceFile",
    "TimeStep",
    "Timeline",
    "Warp",
    "digest_of",
    "sample_id",
    "shard_name",
]
