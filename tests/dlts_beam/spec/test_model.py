from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import NUMERICS_VERSION, IndexSpec, ModelSpec, PreparationSpec, ServingSpec, Timeline
from tests.dlts_beam.spec.examples import make_model_spec, make_preparation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 0.0}, "step > 0 and count >= 1; got 0.0 and 3"),
        ({"count": 0}, "step > 0 and count >= 1; got 16.0 and 0"),
        ({"method": "mean"}, "timeline method must be one of .*; got 'mean'"),
        ({"method": "max"}, "names the band or index"),
        ({"by": "ndvi"}, "names the band or index"),
    ],
)
def test_timeline_refuses(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Timeline(**{"start": 0.0, "step": 16.0, "count": 3, **changes})


def test_index_refuses_other_kinds():
    with pytest.raises(ValueError, match=r"index kind must be one of .*; got 'ratio'"):
        IndexSpec("r", "nir", "red", kind="ratio")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fill": (0.0, 0.0)}, "fill must have one value for each of .*; got 2"),
        ({"min_valid": 0}, "min_valid must be 1 or more; got 0"),
        ({"indices": (IndexSpec("ndvi", "nir", "blue"),)}, "index 'ndvi' needs band 'blue'"),
        ({"bands": ("nir", "nir")}, "must differ"),
        (
            {"timeline": Timeline(0.0, 16.0, 4, method="max", by="evi")},
            "looks at 'evi', which is neither band nor index",
        ),
    ],
)
def test_preparation_refuses(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(make_preparation(), **changes)


def test_names_are_bands_then_indices():
    assert make_preparation().names == ("nir", "red", "ndvi")
    assert PreparationSpec(("a",), (0.0,)).names == ("a",)


@pytest.mark.parametrize("halo", [0, 1, 2])
def test_strip_shape(halo: int):
    serving = ServingSpec(batch=256, halo=halo, time_steps=24, bands=4, classes=3)
    assert serving.patch == 2 * halo + 1
    assert serving.strip_shape == (24, 2 * halo + 1, 256 + 2 * halo, 4)


def test_model_must_agree_with_its_serving_shapes():
    spec = make_model_spec()
    with pytest.raises(ValueError, match="2 classes, but the model gives 3"):
        replace(spec, serving=replace(spec.serving, classes=3))
    with pytest.raises(ValueError, match="makes 3 bands, but the serving model takes 2"):
        replace(spec, serving=replace(spec.serving, bands=2))


def test_the_digest_is_of_what_makes_a_map():
    """An older folder has it too: what a map was certified with must not change by an upgrade."""
    spec = make_model_spec()
    later = replace(spec, saved_model_sha256={"loss": "0" * 64}, splits_sha256="1" * 64)
    assert later.digest() == spec.digest()
    raw = json.loads(spec.to_json())
    del raw["saved_model_sha256"], raw["splits_sha256"]
    older = json.dumps(raw, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert spec.digest() == hashlib.sha256(older.encode()).hexdigest()
    assert replace(spec, serving_sha256={"loss": "2" * 64}).digest() != spec.digest()


def test_a_model_of_other_numerics_is_refused_in_one_sentence():
    raw = json.loads(make_model_spec().to_json())
    for version in (1, 99):
        text = json.dumps({**raw, "numerics_version": version})
        told = rf"model spec m\.json was made with numerics version {version}, .* computes version"
        with pytest.raises(DltsError, match=f"^the {told} {NUMERICS_VERSION}, .*: train the model again"):
            ModelSpec.from_json(text, "m.json")
    del raw["numerics_version"]
    with pytest.raises(DltsError, match=r"m\.json does not say with which numerics_version it was made"):
        ModelSpec.from_json(json.dumps(raw), "m.json")


def test_the_first_numerics_hold_for_models_without_a_timeline():
    """Version 2 changed which observations count on a timeline, and nothing else."""
    spec = make_model_spec()
    old = replace(spec, numerics_version=1, preparation=replace(spec.preparation, timeline=None))
    assert ModelSpec.from_json(old.to_json()) == old


@pytest.mark.parametrize("part", ["", "preparation", "serving", "samples"])
def test_a_model_with_fields_of_a_newer_version_is_refused(part: str):
    raw = json.loads(make_model_spec().to_json())
    (raw[part] if part else raw)["smoothing"] = "savgol"
    told = rf"^the model spec m\.json was made by a newer version: it has {f'{part}.smoothing'.lstrip('.')},"
    with pytest.raises(DltsError, match=told):
        ModelSpec.from_json(json.dumps(raw), "m.json")
