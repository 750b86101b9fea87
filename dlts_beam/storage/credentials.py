"""Who this process is on Google Cloud: found once, tried at once, and told to GDAL, whose client is its own.

They are the usual default credentials: the file that GOOGLE_APPLICATION_CREDENTIALS names, gcloud's own, or
the machine's. Where STORAGE_EMULATOR_HOST names an emulator there are none, and every client is sent there.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dlts_beam.errors import DltsError, UnreachableError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

EMULATOR = "STORAGE_EMULATOR_HOST"
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# What GDAL reads from a file of credentials by itself.
_KNOWN_TO_GDAL = ("authorized_user", "service_account")
_ADVICE = f"run 'gcloud auth application-default login' or set {_FILE}"
# For every use of /vsigs/: an object that was replaced must not be answered from memory, and what may pass,
# such as a busy server, is tried again.
_GDAL_SETTINGS = {
    "CPL_VSIL_CURL_NON_CACHED": "/vsigs/",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
}
_lock = threading.Lock()


def emulator() -> str | None:
    """Address of the emulator that stands for Google Cloud Storage; None where there is none."""
    address = os.environ.get(EMULATOR, "").rstrip("/")
    if not address:
        return None
    return address if "://" in address else f"http://{address}"


def find() -> Credentials:
    """The credentials of this process, already accepted by Google.

    Raises:
        DltsError: there are none, or Google refuses them; told at the first use, without waiting.
    """
    with _lock:
        return _found(os.getpid(), emulator())


def tell_gdal() -> None:
    """Let GDAL open /vsigs/ paths in this process with the same credentials, at the same address.

    Raises:
        DltsError: there are no credentials, or none that GDAL can use.
    """
    credentials = find()
    with _lock:
        _tell_gdal(os.getpid(), emulator(), credentials)


@lru_cache(maxsize=1)
def _found(process: int, address: str | None) -> Credentials:
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
    except ImportError as error:
        raise DltsError("gs:// paths need google-cloud-storage: pip install 'dlts-beam[gcp]'") from error
    if address is not None:
        return AnonymousCredentials()
    try:
        credentials = _default()
        _try(credentials)
    except DefaultCredentialsError as error:
        raise DltsError(
            f"cannot reach gs://: no usable Google Cloud credentials ({first_line(error)}); {_ADVICE}"
        ) from error
    except TransportError as error:
        raise UnreachableError(
            f"cannot reach gs://: Google Cloud does not answer ({first_line(error)}); check the network"
        ) from error
    except GoogleAuthError as error:
        raise DltsError(
            f"cannot reach gs://: Google Cloud refuses the credentials ({first_line(error)}); {_ADVICE}"
        ) from error
    return credentials


def _default() -> Credentials:
    import google.auth

    # It warns of a metadata server that is not there, and of users without a project to charge.
    log = logging.getLogger("google.auth")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return google.auth.default(scopes=[_SCOPE])[0]
    finally:
        log.setLevel(level)


def _try(credentials: Credentials) -> None:
    """Fetch the first token here: the storage client would try again for two minutes."""
    from google.auth.transport.requests import Request

    credentials.refresh(Request())


@lru_cache(maxsize=1)
def _tell_gdal(process: int, address: str | None, credentials: Any) -> None:
    own = _gdal_address(address) if address is not None else _gdal_credentials(credentials)
    # Each is set once, before any thread of GDAL's is at work.
    for name, value in own.items():
        os.environ[name] = value
    for name, value in _GDAL_SETTINGS.items():
        os.environ.setdefault(name, value)


def _gdal_address(address: str) -> dict[str, str]:
    return {"CPL_GS_ENDPOINT": f"{address}/", "GS_NO_SIGN_REQUEST": "YES"}


def _gdal_credentials(credentials: Any) -> dict[str, str]:
    from google.auth import _cloud_sdk, compute_engine

    if isinstance(credentials, compute_engine.Credentials):
        return {"CPL_MACHINE_IS_GCE": "YES"}
    path = os.environ.get(_FILE) or _cloud_sdk.get_application_default_credentials_path()
    kind = _kind(path)
    if kind in _KNOWN_TO_GDAL:
        return {_FILE: path}
    raise DltsError(
        f"GDAL cannot open gs:// paths with credentials of kind {kind!r}: use those of a user, of a service"
        f" account or of the machine; {_ADVICE}"
    )


def _kind(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return str(json.load(file).get("type"))
    except (OSError, ValueError, AttributeError) as error:
        raise DltsError(f"cannot read the credentials in {path}: {error}") from error


def first_line(error: BaseException) -> str:
    """What an error of Google's says, without the details that follow."""
    text = str(error.args[0]) if error.args else str(error)
    return text.strip().partition("\n")[0] or type(error).__name__
