"""A small stand-in for Google's servers that asks for credentials, which the emulators do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TOKEN = "the-right-token"


@dataclass
class Google:
    """What the server holds and how it answers.

    Attributes:
        address: http://127.0.0.1:PORT.
        objects: content by ``/bucket/key``.
        grants: whether it gives tokens.
        asked: paths of all requests.
    """

    address: str
    objects: dict[str, bytes] = field(default_factory=dict)
    grants: bool = True
    asked: list[str] = field(default_factory=list)

    def credentials(self, path: Path) -> Path:
        """Write a service account's file whose tokens come from here."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        content = {
            "type": "service_account",
            "client_email": "tests@example.com",
            "private_key": text,
            "private_key_id": "1",
            "token_uri": f"{self.address}/token",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path


@contextmanager
def google() -> Iterator[Google]:
    """Serve until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.asked.append(self.path)
            if state.grants:
                self.answer(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
            else:
                self.answer(400, {"error": "invalid_grant", "error_description": "the account is gone"})

        def do_GET(self) -> None:
            state.asked.append(self.path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(403, {"error": {"code": 403, "message": "tests@example.com may not read this"}})
            elif self.path not in state.objects:
                self.answer(404, {"error": {"code": 404, "message": "no such object"}})
            else:
                self.give(state.objects[self.path])

        def do_HEAD(self) -> None:
            self.do_GET()

        def give(self, content: bytes) -> None:
            first, last, status = 0, len(content) - 1, 200
            if self.headers.get("Range"):
                start, end = self.headers["Range"].removeprefix("bytes=").split("-")
                first, last, status = int(start), min(int(end or last), last), 206
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[first : last + 1])

        def answer(self, status: int, value: object) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Google(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
