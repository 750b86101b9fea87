"""One small, complete example of each spec."""

from __future__ import annotations

from dlts_beam.grid import Grid
from dlts_beam.spec import (
    Band,
    ClassTable,
    IndexSpec,
    Ledger,
    MaskRule,
    ModelSpec,
    PreparationSpec,
    Reading,
    SamplesSpec,
    SeriesSpec,
    ServingSpec,
    Source,
    SourceFile,
    Timeline,
    TimeStep,
    Warp,
)

GRID = Grid('LOCAL_CS["ünïcode"]', (10.0, 0.0, 500000.0, 0.0, -10.0, 8000000.0), 7, 5)
STEPS = (TimeStep(0, "2016-02-28"), TimeStep(1, "2016-02-28T13:45:10"), TimeStep(2, "2016-03-01"))
BANDS = (
    Band(1, "red", "uint16", nodata=0.0, scale=0.0001, offset=-0.1),
    Band(4, "nir", "float32", nodata=-3.4028234663852886e38),
)
CLASSES = ClassTable.from_labels(["forest", "clearing, new"])


def make_series_spec() -> SeriesSpec:
    """Three time steps, two bands, two files, a mask band, one warped file."""
    return SeriesSpec(
        grid=GRID,
        steps=STEPS,
        bands=BANDS,
        files=(
            SourceFile("/data/a.tif", 0, 0, 7, 5, 1234, "1700000000000000000", block=(256, 256)),
            SourceFile("gs://bucket/b.tif", -2, 1, 9, 4, 99, "17", sha256="ab" * 32, warp=Warp("bilinear")),
        ),
        sources=(
            ((Source(0, 1), Source(1, 1)), (Source(0, 2),)),
            ((), (Source(1, 2),)),
            ((Source(0, 3),), ()),
        ),
        mask_sources=((Source(0, 4),), (), (Source(1, 4),)),
        reading=Reading(valid_min=0.0, valid_max=1.5, mask=MaskRule(9, (3, 8, 9), dilate=2)),
    )


def make_samples_spec() -> SamplesSpec:
    """Five samples of two classes."""
    return SamplesSpec(
        series="0f" * 32,
        grid=GRID,
        steps=STEPS,
        bands=BANDS,
        dtype="float32",
        patch=3,
        classes=CLASSES,
        class_counts=(2, 3),
        shards=4,
        samples=5,
        block_size=640.0,
        features=Ledger(7, 6, {"outside": 1}),
        candidates=Ledger(6, 5, {"duplicate": 1}),
        kept=("farm",),
        shards_sha256=("0f" * 32, "1e" * 32, "2d" * 32, "3c" * 32),
    )


def make_preparation() -> PreparationSpec:
    """Two bands, one index, a timeline."""
    return PreparationSpec(
        bands=("nir", "red"),
        fill=(0.25, 0.5, 0.1),
        indices=(IndexSpec("ndvi", "nir", "red"),),
        timeline=Timeline(0.0, 16.0, 4, relative=False, method="max", by="ndvi"),
        min_valid=2,
    )


def make_model_spec() -> ModelSpec:
    """A model over the samples above."""
    return ModelSpec(
        samples=make_samples_spec(),
        steps=STEPS,
        bands=(BANDS[1], BANDS[0]),
        classes=CLASSES,
        preparation=make_preparation(),
        architecture="conv_bilstm",
        config={"units": 8, "dropout": 0.3, "sizes": [1, 2]},
        settings={"seed": 2, "model": "conv_bilstm"},
        serving=ServingSpec(batch=256, halo=1, time_steps=4, bands=3, classes=2),
        serving_sha256={"loss": "cd" * 32},
        metrics={"accuracy": {"value": 0.9}},
        versions={"keras": "3.15.1"},
    )
