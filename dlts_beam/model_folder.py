"""Model folders: which saved model a path means, what a serving model's bytes are, and whether still so."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.spec import ModelSpec
from dlts_beam.spec.model import DEFAULT_SAVED_MODEL, MODEL_JSON, SAVED_MODELS

SERVING = "serving"
MODEL_ONNX = "model.onnx"
SAVED_MODEL = "saved_model"
_KERAS = "_model.keras"
DEEPEST = 3  # folders between a model folder and its deepest file, serving/<name>/model.onnx


@dataclass(frozen=True)
class SavedModel:
    """One saved model of a model folder.

    Attributes:
        folder: the model folder.
        name: last, acc or loss.
        spec: ``model.json``.
    """

    folder: str
    name: str
    spec: ModelSpec

    @property
    def serving(self) -> str:
        """The folder that engines load."""
        return storage.join(self.folder, SERVING, self.name)


def find_saved_model(path: str) -> SavedModel:
    """The saved model that ``-m`` means: a model folder (its best-loss one) or one file in it.

    Raises:
        DltsError: there is no model folder of ours there, or not that saved model in it.
    """
    path = path.rstrip("/") or path
    folder, chosen = path, DEFAULT_SAVED_MODEL
    last = storage.name(path)
    if last.endswith(_KERAS):
        folder, chosen = storage.parent(path), last.removesuffix(_KERAS)
    elif last in SAVED_MODELS and storage.name(storage.parent(path)) == SERVING:
        folder, chosen = storage.parent(storage.parent(path)), last
    manifest = storage.join(folder, MODEL_JSON)
    if not storage.exists(manifest):
        above = folder
        for _ in range(DEEPEST):
            above = storage.parent(above)
            if above and storage.exists(storage.join(above, MODEL_JSON)):
                raise DltsError(
                    f"{path} is no saved model: give the model folder, {above}, or one of its saved models, "
                    f"such as {storage.join(above, DEFAULT_SAVED_MODEL)}{_KERAS}"
                )
        raise DltsError(
            f"{path} is not a model folder: there is no {MODEL_JSON} in {folder}; train a model first"
        )
    spec = ModelSpec.from_json(storage.read_bytes(manifest), manifest)
    if chosen not in spec.serving_sha256:
        known = ", ".join(f"{name}{_KERAS}" for name in sorted(spec.serving_sha256))
        raise DltsError(f"the model folder {folder} has no saved model {last}; it has {known}")
    return SavedModel(folder, chosen, spec)


def model_digest(model: SavedModel, engine: str) -> str:
    """SHA-256 of the bytes that the engine loads.

    Raises:
        DltsError: they are missing, or not those that ``model.json`` describes.
    """
    onnx = storage.join(model.serving, MODEL_ONNX)
    if engine == "onnx":
        digest = hashlib.sha256(storage.read_bytes(onnx)).hexdigest()
        if digest != model.spec.serving_sha256[model.name]:
            raise _replaced(onnx)
        return digest
    folder = storage.join(model.serving, SAVED_MODEL)
    found = saved_model_digest(model.serving)
    if found is None:
        raise DltsError(f"the engine {engine} needs {folder}, and it is not there: export the model again")
    kept = model.spec.saved_model_sha256  # none in folders of before it was kept
    if kept and found != kept.get(model.name):
        raise _replaced(folder)
    return found


def saved_model_digest(serving: str) -> str | None:
    """SHA-256 (hex) of all files, by name, of the SavedModel in a serving folder; None without one."""
    return _folder_digest(storage.join(serving, SAVED_MODEL))


def read_onnx(serving: str, digest: str | None = None) -> bytes:
    """The ONNX model in a serving folder: the bytes that `model_digest` was taken of, where it is given.

    Raises:
        DltsError: the file cannot be read, or is another one by now.
    """
    path = storage.join(serving, MODEL_ONNX)
    content = storage.read_bytes(path)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise _changed(path)
    return content


@contextmanager
def local_saved_model(serving: str, digest: str | None = None) -> Iterator[str]:
    """A local path with the SavedModel in a serving folder, for as long as the context lasts.

    Where `model_digest` is given, it is a copy of the very bytes that have it, so that nobody can replace
    them before they are loaded.

    Raises:
        DltsError: the files cannot be read, or are others by now.
    """
    path = storage.join(serving, SAVED_MODEL)
    if digest is None:
        with storage.local_copy(path) as local:
            yield local
        return
    with tempfile.TemporaryDirectory(prefix="dlts-model-") as scratch:
        copy = storage.join(scratch, SAVED_MODEL)
        try:
            found = _folder_digest(path, lambda name, content: storage.write_bytes(copy + name, content))
        except FileNotFoundError as error:  # a file went away while the folder was listed
            raise _changed(path) from error
        if found != digest:
            raise _changed(path)
        yield copy


def _folder_digest(folder: str, each: Callable[[str, bytes], None] | None = None) -> str | None:
    """SHA-256 of the names and bytes of a folder's files; None where there are none.

    Hidden files, as file managers leave them, are none of the model.

    Args:
        each: is given every file's name, from the slash behind the folder on, and its bytes.
    """
    files = [
        entry
        for entry in storage.list_files(folder, recursive=True)
        if not storage.name(entry.path).startswith(".")
    ]
    digest = hashlib.sha256()
    for entry in files:
        name, content = entry.path.removeprefix(folder), storage.read_bytes(entry.path)
        digest.update(name.encode() + b"\0")
        digest.update(hashlib.sha256(content).digest())
        if each is not None:
            each(name, content)
    return digest.hexdigest() if files else None


def _replaced(path: str) -> DltsError:
    return DltsError(
        f"{path} is not the model that {MODEL_JSON} describes: it was damaged or replaced after the training;"
        " restore it, or train the model again"
    )


def _changed(path: str) -> DltsError:
    return DltsError(
        f"the model {path} changed while the run was on its way: leave it as it is and run the command again"
    )
