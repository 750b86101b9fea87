"""A tiny HTTP server that plays a service, so that the services' own clients speak over a real connection."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: (method, path with query, body) -> (status, answer): JSON, text as it is, or an iterator of texts that are
#: sent as they come.
Answer = Callable[[str, str, Any], tuple[int, Any]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of a server that answers as told."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, found = answer(self.command, self.path, body)
            if isinstance(found, Iterator):
                self.send_response(status)
                self.end_headers()
                for piece in found:
                    self.wfile.write(piece.encode())
                return
            content = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            kind = "text/plain" if isinstance(found, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
