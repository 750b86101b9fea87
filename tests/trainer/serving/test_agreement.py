"""One contract for all serving graphs: they agree with Keras, and no pixel depends on its place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.trainer.serving.agreement import (
    assert_same_answers,
    make_model,
    make_strip,
    patches_of,
    session_of,
    small_settings,
)
from trainer.export import serving_model
from trainer.models import ARCHITECTURES, ModelShape, find_architecture

BATCH = 40


def patches_for(name: str) -> tuple[int, ...]:
    return (3, 5) if find_architecture(name).needs_patch else (1,)


def sizes_for(name: str) -> list[tuple[int, int]]:
    """(time steps, bands): all pairs where the graph is made by hand, one of each where it is converted.

    ``ltae`` and ``mlp`` get the short list too: ``ltae_mlp`` holds both of their graphs.
    """
    pairs = list(itertools.product((1, 2, 5, 24), (1, 4, 10)))
    by_hand = find_architecture(name).fold is not None and name not in ("ltae", "mlp")
    return pairs if by_hand else [(1, 1), (2, 4), (5, 10), (24, 4)]


CASES = [
    (name, patch, *sizes)
    for name in ARCHITECTURES
    for patch in patches_for(name)
    for sizes in sizes_for(name)
]


@pytest.mark.parametrize(("name", "patch", "steps", "bands"), CASES)
def test_serving_agrees_with_keras(name: str, patch: int, steps: int, bands: int) -> None:
    shape = ModelShape(steps, bands, patch, 3)
    model = make_model(name, shape, small_settings(name))
    session = session_of(serving_model(model, find_architecture(name), shape, BATCH))
    strip = make_strip(shape, BATCH, seed=1)
    (ours,) = session.run(None, {"strip": strip})
    wanted = np.asarray(model(patches_of(strip, shape)))
    assert wanted.std(axis=0).max() > 1e-3  # a model that answers the same everywhere would prove nothing
    assert_same_answers(ours, wanted)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pixel_does_not_depend_on_its_place_or_neighbours(name: str) -> None:
    batch = find_architecture(name).batch
    patch = max(patches_for(name))
    shape = ModelShape(6, 3, patch, 4)
    model = make_model(name, shape, small_settings(name))
    session = session_of(serving_model(model, find_architecture(name), shape, batch))
    strip = make_strip(shape, batch, seed=2)
    (wanted,) = session.run(None, {"strip": strip})
    other = make_strip(shape, batch, seed=3)
    for shift in (1, 5, 8, batch // 2):
        rolled = other.copy()
        rolled[:, :, shift:] = strip[:, :, : strip.shape[2] - shift]
        (ours,) = session.run(None, {"strip": rolled})
        np.testing.assert_array_equal(ours[shift:], wanted[: batch - shift])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_threads_do_not_change_a_bit(name: str) -> None:
    shape = ModelShape(8, 4, max(patches_for(name)), 3)
    served = serving_model(make_model(name, shape, {}), find_architecture(name), shape, 256)
    strip = make_strip(shape, 256, seed=4)
    (one,) = session_of(served, threads=1).run(None, {"strip": strip})
    (two,) = session_of(served, threads=2).run(None, {"strip": strip})
    np.testing.assert_array_equal(one, two)
