"""Model folders: which saved model a path means, and what a serving model's bytes are."""

from __future__ import annotations

import hashlib
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
        DltsError: they are missing, or the ONNX model is not the one that ``model.json`` describes.
    """
    onnx = storage.join(model.serving, MODEL_ONNX)
    if engine == "onnx":
        digest = hashlib.sha256(storage.read_bytes(onnx)).hexdigest()
        if digest != model.spec.serving_sha256[model.name]:
            raise DltsError(
                f"{onnx} is not the model that {MODEL_JSON} describes: it was damaged or replaced after"
                " the training; restore it, or train the model again"
            )
        return digest
    digest_all = hashlib.sha256()
    folder = storage.join(model.serving, SAVED_MODEL)
    files = storage.list_files(folder, recursive=True)
    if not files:
        raise DltsError(f"the engine {engine} needs {folder}, and it is not there: export the model again")
    for entry in files:
        digest_all.update(entry.path.removeprefix(folder).encode() + b"\0")
        digest_all.update(hashlib.sha256(storage.read_bytes(entry.path)).digest())
    return digest_all.hexdigest()
