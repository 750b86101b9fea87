from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import JsonSpec, digest_of
from dlts_beam.spec.codec import unknown_fields
from tests.dlts_beam.spec.examples import make_model_spec, make_samples_spec, make_series_spec

MAKERS = (make_series_spec, make_samples_spec, make_model_spec)


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Example(JsonSpec):
    KIND: ClassVar[str] = "example"
    VERSION: ClassVar[int] = 3

    name: str
    weight: float
    inner: tuple[Inner, ...]
    version: int = 3


@pytest.mark.parametrize("make", MAKERS)
def test_round_trip(make: Callable[[], JsonSpec]):
    spec = make()
    again = type(spec).from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert again.digest() == spec.digest()
    assert type(spec).from_json(spec.to_json().encode()) == spec


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_versions_are_refused(make: Callable[[], JsonSpec], version: object):
    spec = make()
    raw = {**json.loads(spec.to_json()), "version": version}
    with pytest.raises(DltsError, match=r"place\.json has version .*reads version 1"):
        type(spec).from_json(json.dumps(raw), "place.json")


@pytest.mark.parametrize("make", MAKERS)
def test_every_missing_field_without_default_is_named(make: Callable[[], JsonSpec]):
    spec = make()
    raw = json.loads(spec.to_json())
    for name in ("classes", "grid", "bands"):
        if name in raw:
            rest = {key: value for key, value in raw.items() if key != name}
            with pytest.raises(DltsError, match=name):
                type(spec).from_json(json.dumps(rest))


def test_wrong_field_is_named_with_its_place():
    text = Example("a", 1.0, (Inner(1), Inner(2))).to_json().replace('"size": 2', '"size": "two"')
    with pytest.raises(DltsError, match=r"example here is not valid: .*int.*\$\.inner\[1\]\.size"):
        Example.from_json(text, "here")


def test_own_checks_of_a_spec_become_user_errors():
    raw = json.loads(make_series_spec().to_json())
    raw["grid"]["height"] = 0
    with pytest.raises(DltsError, match=r"height and width must be at least 1; got 0 x 5.*\$\.grid"):
        type(make_series_spec()).from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "not json", b"\xff\xfe\x00"])
def test_broken_json_is_told(text: str | bytes):
    with pytest.raises(DltsError, match=r"the example x\.json is not valid JSON"):
        Example.from_json(text, "x.json")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(constant: str):
    text = Example("a", 1.5, ()).to_json().replace("1.5", constant)
    with pytest.raises(DltsError, match="not valid JSON"):
        Example.from_json(text)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"'])
def test_json_that_is_no_object_is_refused(text: str):
    with pytest.raises(DltsError, match="has version None"):
        Example.from_json(text)


def test_digest_does_not_depend_on_how_a_number_was_written():
    spec = Example("a", 1.0, ())
    sloppy = Example("a", 1, ())
    assert sloppy.digest() == spec.digest() == Example.from_json(sloppy.to_json()).digest()
    assert replace(spec, weight=2.0).digest() != spec.digest()


def test_digest_of_ignores_the_order_of_keys_only():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of((Inner(1),)) == digest_of([{"size": 1}])
    assert len(digest_of(None)) == 64


@pytest.mark.parametrize("make", MAKERS)
def test_json_without_end_is_refused_in_one_sentence(make: Callable[[], JsonSpec]):
    with pytest.raises(DltsError, match=r" place\.json is not valid JSON: "):
        type(make()).from_json("[" * 200_000, "place.json")


def test_fields_that_reading_lost_are_named():
    raw = {"a": 1, "b": {"c": 2}, "d": [{"e": 3, "f": 4}, {"e": 5}], "g": {"h": {}}}
    known = {"a": 1, "b": {}, "d": ({"e": 3}, {"e": 5}), "i": 6}
    assert unknown_fields(raw, known) == ["g", "b.c", "d[0].f"]
    assert unknown_fields(known, known) == []
