"""Arrays that an interrupted training keeps for the run that goes on with it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError

Arrays = Mapping[str, NDArray[Any]]


def keep(path: str, key: str, meta: Mapping[str, Any], arrays: Arrays) -> None:
    """Write arrays and what is told of them, whole or not at all; ``key`` names the training."""
    text = np.frombuffer(json.dumps({"key": key, **meta}).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, meta=text, **arrays)  # type: ignore[arg-type]  # numpy's stub takes every name for a flag
    storage.write_bytes(path, file.getvalue())


@contextmanager
def kept(path: str, key: str, begins: str) -> Iterator[tuple[dict[str, Any], Arrays] | None]:
    """What `keep` wrote; None where there is nothing, or that of another training.

    Args:
        begins: what starts from the beginning without the file.

    Raises:
        DltsError: the file is damaged; also where the body does not find in it what it looks for.
    """
    if not storage.exists(path):
        yield None
        return
    try:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as file:
            meta = json.loads(file["meta"].tobytes())
            yield (meta, file) if meta["key"] == key else None
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DltsError(f"{path} is damaged: remove it, and {begins} from the beginning") from error


def digest_of_kept(meta: Any, arrays: Iterable[NDArray[Any]]) -> str:
    """SHA-256 of what was kept, as it was read: workers that go on together must agree on it."""
    parts = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for values in arrays:
        parts.update(np.ascontiguousarray(values).tobytes())
    return parts.hexdigest()
