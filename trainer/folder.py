"""The model folder: what the trainer leaves for step 4 and for people, local or gs://."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.model_folder import MODEL_ONNX, SERVING
from dlts_beam.spec import ModelSpec
from dlts_beam.spec.model import MODEL_JSON, SAVED_MODELS
from dlts_beam.spec.samples import CLASSES_CSV
from trainer.split import SPLITS_CSV

if TYPE_CHECKING:
    import keras

LOG = "log"
METRICS_JSON = "metrics.json"
HISTORY_CSV = "history.csv"
REPORT_HTML = "report.html"
CONFUSION_PNG = "confusion_matrix.png"
EVALUATION = "evaluation"  # subfolder for the files of --only-evaluate
LOCK = MODEL_JSON + ".lock"
_BESIDE = (METRICS_JSON, REPORT_HTML, HISTORY_CSV, CONFUSION_PNG, CLASSES_CSV)


class ModelFolder:
    """Names and writes the files of one model folder; touches no file when made.

    Attributes:
        path: where it is.
        is_scratch: whether it is gone after the training, so that nobody is sent to look into it.
    """

    def __init__(self, path: str, is_scratch: bool = False) -> None:
        self.path, self.is_scratch = path, is_scratch

    def join(self, *parts: str) -> str:
        """Path of a file in the folder."""
        return storage.join(self.path, *parts)

    def model_path(self, name: str) -> str:
        """Path of the saved Keras model ``last``, ``acc`` or ``loss``."""
        return self.join(f"{name}_model.keras")

    def serving_path(self, name: str) -> str:
        """Folder of the serving model of that name."""
        return self.join(SERVING, name)

    def copy_serving(self, source: str, name: str) -> None:
        """Give the serving model ``source`` the second name ``name``."""
        for entry in storage.list_files(self.serving_path(source), recursive=True):
            inside = entry.path.removeprefix(self.serving_path(source)).lstrip("/" + os.sep)
            storage.write_bytes(storage.join(self.serving_path(name), inside), storage.read_bytes(entry.path))

    def save_model(self, model: keras.Model, name: str) -> None:
        """Write ``<name>_model.keras``, whole or not at all."""
        with storage.staged(self.model_path(name)) as aside:
            try:
                model.save(aside)
            except OSError as error:
                raise storage.explain_os_error(error, self.model_path(name), "write") from error

    def load_model(self, name: str) -> keras.Model:
        """Load a saved model; safe mode is on, so a stranger's file cannot run code.

        Raises:
            DltsError: the file is missing, damaged, of another version, or needs code that is not ours.
        """
        import keras

        import trainer.convolutions
        import trainer.layers  # noqa: F401  (both register our layers)

        path = self.model_path(name)
        if not storage.exists(path):
            raise DltsError(
                f"{self.path} has no {name}_model.keras: it is not a model folder, or not complete"
            )
        with storage.local_copy(path) as local:
            if not zipfile.is_zipfile(local):
                raise DltsError(f"{path} is damaged: it is no Keras file; restore it, or train again")
            try:
                return keras.saving.load_model(local, safe_mode=True, compile=False)
            except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
                reason = str(error).strip().partition("\n")[0]
                raise DltsError(
                    f"{path} cannot be loaded with Keras {keras.__version__}: {reason}; "
                    "train it again with this version"
                ) from error

    def read_spec(self) -> ModelSpec:
        """``model.json``.

        Raises:
            DltsError: the folder has none, or it is not valid.
        """
        path = self.join(MODEL_JSON)
        if not storage.exists(path):
            raise DltsError(
                f"{self.path} is not a model folder (there is no {MODEL_JSON} in it): "
                "give the folder that train-model wrote with -o"
            )
        return ModelSpec.from_json(storage.read_text(path), path)

    def write_spec(self, spec: ModelSpec) -> None:
        """Write ``model.json`` and ``classes.csv``: the last files, so that they stand for a whole folder."""
        storage.write_text(self.join(CLASSES_CSV), spec.classes.to_csv())
        storage.write_text(self.join(MODEL_JSON), spec.to_json())

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file; NaN is written as null."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        storage.write_text(self.join(name), text + "\n")

    def write_history(self, rows: Sequence[Mapping[str, float | str]]) -> None:
        """Write ``history.csv``: one line per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        storage.write_text(self.join(HISTORY_CSV), text.getvalue())

    def is_complete(self) -> bool:
        """Whether a training has come to its end here."""
        return storage.exists(self.join(MODEL_JSON))

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Hold the folder while the body trains; raises `DltsError` where another training holds it.

        Gives a function that raises where another has taken it meanwhile; see `dlts_beam.storage.exclusive`.
        """
        with storage.exclusive(self.join(LOCK), self.path) as check:
            yield check

    def clear_leftovers(self, checkpoint: str) -> None:
        """Remove what a killed training had begun to write; only for whoever holds the folder.

        Args:
            checkpoint: name of the file that trainings go on from.
        """
        files = [self.join(name) for name in (MODEL_JSON, SPLITS_CSV, checkpoint, *_BESIDE)]
        files += [self.model_path(name) for name in SAVED_MODELS]
        files += [storage.join(self.serving_path(name), MODEL_ONNX) for name in SAVED_MODELS]
        for path in files:
            storage.remove_leftovers(path)

    def discard(self) -> None:
        """Remove what an earlier training left: its models and figures must not pass for this one's.

        Where none has begun, files of these names are somebody else's, and stay.
        """
        if not (self.is_complete() or storage.exists(self.join(SPLITS_CSV))):
            return
        storage.remove(self.join(MODEL_JSON))
        for name in SAVED_MODELS:
            storage.remove(self.model_path(name))
            storage.remove_tree(self.serving_path(name))
        for file in _BESIDE:
            storage.remove(self.join(file))
        for inside in (LOG, EVALUATION):
            storage.remove_tree(self.join(inside))

    @contextmanager
    def log_folder(self) -> Iterator[str]:
        """A local folder for TensorBoard's logs; on gs:// its files are uploaded when the context ends."""
        if not storage.is_remote(self.path):
            storage.make_dirs(self.join(LOG))
            yield self.join(LOG)
            return
        with tempfile.TemporaryDirectory(prefix="dlts-log-") as scratch:
            try:
                yield scratch
            finally:
                for above, _, files in os.walk(scratch):
                    for file in files:
                        local = os.path.join(above, file)
                        storage.upload(local, self.join(LOG, *os.path.relpath(local, scratch).split(os.sep)))
