"""Loads TensorFlow without its start-up chatter."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what is written to file descriptor 2 aside, and write it after all where the body fails."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(terminal, aside.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def load_tensorflow() -> None:
    """Import TensorFlow and look for devices; nothing is written unless that fails.

    TensorFlow tells of every library and device that it looked for, some of it before any log level
    is read. Failures come as exceptions.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()
