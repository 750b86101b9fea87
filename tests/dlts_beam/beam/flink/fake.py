"""A Flink master in miniature: answers as the REST service of a real one does, and keeps what is uploaded."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENTRY = "org/apache/beam/runners/flink/FlinkPipelineRunner.class"


@dataclass
class FakeMaster:
    """What the master answers; tests change it.

    Attributes:
        raw: bytes to answer in place of JSON, by path.
        status: HTTP status other than 200, by path.
        state: how the submitted job ends; RUNNING for one that does not.
        failure: the exception of a job that failed.
        uploads: the jars that were uploaded.
        removed: paths that were deleted again.
        accumulators: of the finished job.
        drops: how many questions about jobs are hung up on.
    """

    version: str = "2.2.0"
    slots: int = 4
    free: int = 4
    running: int = 0
    hosts: tuple[str, ...] = ("127.0.0.1", "127.0.0.1")
    settings: dict[str, str] = field(default_factory=dict)
    web_submit: bool = True
    raw: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    state: str = "FINISHED"
    failure: str = ""
    uploads: list[zipfile.ZipFile] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    drops: int = 0
    accumulators: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return self.url.removeprefix("http://")

    def get(self, path: str) -> Any:
        """The answer to GET."""
        managers = [
            {"id": f"tm-{n}", "path": f"pekko.tcp://flink@{host}:4{n}123/user/rpc/taskmanager_0"}
            for n, host in enumerate(self.hosts)
        ]
        answers: dict[str, Any] = {
            "/v1/config": {"flink-version": self.version, "features": {"web-submit": self.web_submit}},
            "/v1/overview": {
                "taskmanagers": len(self.hosts),
                "slots-total": self.slots,
                "slots-available": self.free,
                "jobs-running": self.running,
            },
            "/v1/taskmanagers": {"taskmanagers": managers},
            "/v1/jobmanager/config": [{"key": key, "value": value} for key, value in self.settings.items()],
            "/v1/jobs/job-1/execution-result": {
                "status": {"id": "IN_PROGRESS" if self.state == "RUNNING" else "COMPLETED"}
            },
            "/v1/jobs/job-1": {"state": self.state},
            # As Flink 2 answers: the older list, where Beam looks, is gone.
            "/v1/jobs/job-1/exceptions": {
                "exceptionHistory": {
                    "entries": [{"timestamp": 1, "stacktrace": self.failure}] if self.failure else [],
                    "truncated": False,
                }
            },
            "/v1/jobs/job-1/accumulators": {"user-task-accumulators": self.accumulators},
        }
        return answers[path]

    def post(self, path: str, body: bytes) -> Any:
        """The answer to POST."""
        if path == "/v1/jars/upload":
            # One part: its headers, an empty line, the jar, and the boundary again.
            boundary, _, rest = body.partition(b"\r\n")
            content = rest.partition(b"\r\n\r\n")[2].rpartition(b"\r\n" + boundary)[0]
            self.uploads.append(zipfile.ZipFile(io.BytesIO(content)))
            return {"filename": "/tmp/flink-web/jar-1_beam.jar"}
        return {"jobid": "job-1"}


@contextmanager
def serving(master: FakeMaster) -> Iterator[FakeMaster]:
    """The master behind a port of the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Keep quiet."""

        def _answer(self, make: Any, success: int = 200) -> None:
            master.asked.append(f"{self.command} {self.path}")
            if master.drops and self.path.startswith("/v1/jobs/job-1"):
                master.drops -= 1
                self.close_connection = True
                return
            status = master.status.get(self.path, success)
            content = master.raw.get(self.path)
            if content is None:
                content = json.dumps(make() if status == success else {"errors": ["no"]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._answer(lambda: master.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(lambda: master.post(self.path, body))

        def do_DELETE(self) -> None:
            master.removed.append(self.path)
            self._answer(dict)

        def do_PATCH(self) -> None:
            self._answer(dict, 202)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    master.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield master
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_jar(path: Path, entry: str = ENTRY) -> Path:
    """A jar with the one class that Flink would start, empty."""
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr(entry, b"")
    return path
