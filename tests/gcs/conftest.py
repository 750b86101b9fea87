"""A bucket for the tests of this folder: an emulator's, or the real one that DLTS_TEST_BUCKET names."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from dlts_beam import storage
from tests.servers import gcs_emulator

_SET_BY_STORAGE = ("STORAGE_EMULATOR_HOST", "CPL_GS_ENDPOINT", "GS_NO_SIGN_REQUEST")


@pytest.fixture(scope="package")
def bucket() -> Iterator[str]:
    """A gs:// folder that is empty at the start and gone at the end."""
    real = os.environ.get("DLTS_TEST_BUCKET")
    if real:
        folder = f"gs://{real.removeprefix('gs://').rstrip('/')}/dlts-tests-{secrets.token_hex(4)}"
        try:
            yield folder
        finally:
            storage.remove_tree(folder)
        return
    before = {name: os.environ.get(name) for name in _SET_BY_STORAGE}
    with gcs_emulator("dlts-tests") as address:
        os.environ["STORAGE_EMULATOR_HOST"] = address
        try:
            yield "gs://dlts-tests"
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@pytest.fixture
def folder(bucket: str, request: pytest.FixtureRequest) -> str:
    """A folder of the bucket for one test."""
    return storage.join(bucket, request.node.name)
