"""The job service on its port, or one sentence why not; tests/gcs/test_out_of_process.py gives it jobs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest

from dlts_beam.beam import job_service
from tests.servers import free_port

COMMAND = [sys.executable, "-m", job_service.__name__]


def test_it_tells_where_it_listens_and_a_second_one_ends_at_once(capsys: pytest.CaptureFixture[str]):
    port = free_port()
    first = subprocess.Popen([*COMMAND, "--port", str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == f"listening on localhost:{port}\n"
        assert job_service.main(["--port", str(port)]) == 1
        assert capsys.readouterr().err == (
            f"error: localhost:{port} is in use, maybe by another job service: end that, or give another"
            " --port\n"
        )
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=30) == 0
    finally:
        first.kill()


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_a_number_that_is_no_port_is_refused(port: int, capsys: pytest.CaptureFixture[str]):
    assert job_service.main([f"--port={port}"]) == 1
    assert capsys.readouterr().err == f"error: --port must be from 1 to 65535; got {port}\n"


def test_every_kind_of_address_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The first kind is free, or the machine lacks it; the second one is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        kinds = [(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))]
        found = [(family, socket.SOCK_STREAM, 0, "", address) for family, address in kinds]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert job_service.main([f"--port={port}"]) == 1
    assert "is in use" in capsys.readouterr().err
