"""What every worker process does first: Beam imports this module there, as a plugin, before any work.

Run as a module it is a worker process of the local runner.
"""

from __future__ import annotations

import logging
import os
import sys

from apache_beam.runners.worker import sdk_worker, sdk_worker_main

from dlts_beam.storage import credentials

# Set by the launcher for workers on its own machine, whose output shares the user's terminal.
_QUIET = "DLTS_QUIET_WORKERS"


def quiet() -> None:
    """Keep Beam's, gRPC's and TensorFlow's chatter off the terminal, here and in processes started from here.

    A failure is raised to the launcher, so what Beam logs and prints of it as well, a traceback for each
    worker, says nothing new.
    """
    os.environ[_QUIET] = "1"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_worth_telling)
    # That module prints for one purpose only: the traceback of a failed bundle.
    sdk_worker.print = _leave_out


def use_emulator() -> None:
    """Let Beam's own client of Google Cloud Storage use an emulator without credentials, where one is set.

    Beam would look for them again and again, 22 seconds in each process, before it goes on without any.
    """
    if credentials.emulator() is None:
        return
    from apache_beam.internal.gcp import auth

    auth._Credentials._credentials = auth._ApitoolsCredentialsAdapter(credentials.find())
    auth._Credentials._credentials_init = True


def _worth_telling(record: logging.LogRecord) -> bool:
    """False for RunInference's warning that it cannot measure memory, which only means: without torch."""
    return not str(record.msg).startswith("Resource module is not available")


def _leave_out(*values: object, **settings: object) -> None:
    """Stands in for ``print`` where nothing should be printed."""


if os.environ.get(_QUIET):
    quiet()
use_emulator()

if __name__ == "__main__":
    sdk_worker_main.main(sys.argv)
