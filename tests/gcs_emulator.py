"""The emulator of Google Cloud Storage from PyPI, with a thread for each connection.

    python -m tests.gcs_emulator PORT BUCKET

Its own server takes one connection at a time. A client that opens one and then waits for another, as GDAL and
google-cloud-storage in one process do, would wait for ever.
"""

from __future__ import annotations

import http.server
import io
import sys
import threading
from collections.abc import Sequence
from functools import partialmethod

from gcp_storage_emulator import server

_ONE_AT_A_TIME = threading.Lock()


class Handler(server.RequestHandler):
    """Takes a request in whole, has it answered with nobody else at work, and sends the answer."""

    def parse_request(self) -> bool:
        """Read the request's body too: no lock is held while a client is waited for."""
        if not super().parse_request():
            return False
        if "Content-Length" in self.headers:
            self.rfile = io.BytesIO(self.rfile.read(int(self.headers["Content-Length"])))
        return True

    def _answer(self, method: str) -> None:
        client, self.wfile = self.wfile, io.BytesIO()
        with _ONE_AT_A_TIME:
            server.Router(self).handle(method)
        client.write(self.wfile.getvalue())
        self.wfile = client

    do_GET = partialmethod(_answer, server.GET)  # noqa: N815
    do_POST = partialmethod(_answer, server.POST)  # noqa: N815
    do_DELETE = partialmethod(_answer, server.DELETE)  # noqa: N815
    do_PUT = partialmethod(_answer, server.PUT)  # noqa: N815
    do_PATCH = partialmethod(_answer, server.PATCH)  # noqa: N815


def main(argv: Sequence[str]) -> None:
    """Serve until killed."""
    port, bucket = argv
    storage = server.Server("127.0.0.1", int(port), in_memory=True, default_bucket=bucket)._storage

    def handle(*connection: object) -> Handler:
        return Handler(storage, *connection)

    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handle).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
