"""Processes that tests talk to, each on a port of its own: started, waited for, and ended."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = 60.0  # for a server to answer on a busy machine


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    command: Sequence[str],
    port: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path = Path(os.devnull),
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own that listens on ``port``; all of the group is killed at the end."""
    with open(log, "ab") as errors:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(port), process)
        yield process
    finally:
        end(process)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait for ``ready``; fails where the process ends before, or time runs out."""
    deadline = time.monotonic() + SECONDS
    while not ready():
        assert process.poll() is None, f"{process.args} ended with status {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args} was not ready in {SECONDS} s"
        time.sleep(0.05)


def listens(port: int) -> bool:
    """True where something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def gcs_emulator(bucket: str) -> Iterator[str]:
    """Address of an emulator of Google Cloud Storage, in memory, with one bucket."""
    port = free_port()
    with server([sys.executable, "-m", "tests.gcs_emulator", str(port), bucket], port, cwd=ROOT):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def balancer(ports: Sequence[int]) -> Iterator[int]:
    """A port whose connections go to ``ports`` in turn, as a load balancer before equal servers does."""
    turn = itertools.cycle(ports)

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", next(turn))) as behind:
                back = threading.Thread(target=pump, args=(behind, self.request), daemon=True)
                back.start()
                pump(self.request, behind)
                back.join()

    class Balancer(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A connection that breaks is its two ends' affair."""

    with Balancer(("127.0.0.1", 0), Forward) as front:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield front.server_address[1]
        front.shutdown()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side closes; then close for both."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def tool(name: str) -> Path:
    """A program that ``make tools`` builds; in CI it must be there, elsewhere the test is left out."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = os.environ.get("DLTS_TOOLS") or f"{cache}/dlts-beam/tools-{version('apache-beam')}"
    path = Path(folder, name)
    if not path.is_file():
        sentence = f"there is no {path}: build it with make tools (it needs Go)"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return path
