"""What a ComfyUI server tells its clients, over a WebSocket of the standard library's sockets.

Only what a test needs of RFC 6455: one plain connection, no extension, messages of any length.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10  # RFC 6455, section 5.2; 0 goes on with the message before
PREVIEW, PROGRESS_TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # ComfyUI's BinaryEventTypes


class Binary(NamedTuple):
    """One binary message."""

    kind: int
    payload: bytes  # an encoded picture, or UTF-8 text
    about: dict[str, Any]  # text: {"node": id}; preview with metadata: as sent; else empty


class Events:
    """Everything one client was sent; filled by a thread, so read it through `until` or after the block."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.json: list[dict[str, Any]] = []
        self.binary: list[Binary] = []
        self._news = threading.Condition()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of the JSON events of a type, oldest first."""
        return [event["data"] for event in list(self.json) if event.get("type") == kind]

    def until(self, done: Callable[[Events], Any], timeout: float = 60.0) -> Any:
        """Wait until `done(events)` is true and return what it returned.

        Raises:
            AssertionError: not within `timeout` seconds; names the types seen so far.
        """
        end = time.monotonic() + timeout
        with self._news:
            while not (found := done(self)):
                left = end - time.monotonic()
                if left <= 0:
                    seen = [event.get("type") for event in self.json]
                    raise AssertionError(
                        f"not seen within {timeout} s; types so far: {seen}, {len(self.binary)} binary"
                    )
                self._news.wait(left)
        return found

    def add(self, opcode: int, message: bytes) -> None:
        with self._news:
            if opcode == TEXT:
                self.json.append(json.loads(message))
            else:
                self.binary.append(decoded(message))
            self._news.notify_all()


def decoded(message: bytes) -> Binary:
    """Take a binary message apart: a big-endian kind, and what that kind has in front of its payload."""
    kind, size = struct.unpack(">II", message[:8])
    if kind == PROGRESS_TEXT:
        return Binary(kind, message[8 + size :], {"node": message[8 : 8 + size].decode()})
    if kind == PREVIEW_WITH_METADATA:
        return Binary(kind, message[8 + size :], json.loads(message[8 : 8 + size]))
    return Binary(kind, message[8:], {})  # the second number is the picture's format


@contextmanager
def listen(port: int, client_id: str | None = None, *, preview_metadata: bool = True) -> Iterator[Events]:
    """Collect what the server on this machine's `port` sends to a client until the block ends."""
    events = Events(client_id or uuid.uuid4().hex)
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    stream = connection.makefile("rb")
    reader = threading.Thread(target=_read, args=(connection, stream, events), daemon=True)
    try:
        _shake_hands(connection, stream, f"/ws?clientId={events.client_id}")
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": preview_metadata}}
        connection.sendall(_frame(TEXT, json.dumps(flags).encode()))
        connection.settimeout(None)
        reader.start()
        events.until(lambda e: e.of("feature_flags"))  # from here on nothing is missed
        yield events
    finally:
        with suppress(OSError):  # the server was faster
            connection.shutdown(socket.SHUT_RDWR)  # ends the reader's wait
        if reader.ident is not None:
            reader.join(10)
        stream.close()
        connection.close()


def _shake_hands(connection: socket.socket, stream: Any, path: str) -> None:
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    )
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    status = stream.readline().decode().strip()
    while stream.readline() not in (b"\r\n", b""):
        pass
    if " 101 " not in status + " ":
        raise AssertionError(f"no WebSocket at {path}: {status}")


def _read(connection: socket.socket, stream: Any, events: Events) -> None:
    message, kind = b"", TEXT
    try:
        while True:
            first, second = stream.read(2)
            size = second & 127
            if size > 125:
                width, code = (2, ">H") if size == 126 else (8, ">Q")
                (size,) = struct.unpack(code, stream.read(width))
            part = stream.read(size)
            opcode = first & 15
            if opcode == CLOSE:
                return
            if opcode == PING:
                connection.sendall(_frame(PONG, part))
            if opcode >= CLOSE:
                continue
            message, kind = (message + part, kind) if opcode == 0 else (part, opcode)
            if first & 128:  # the last part
                events.add(kind, message)
    except (OSError, ValueError, struct.error):
        return  # the connection has ended


def _frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame is masked; a mask of zeros is one, and leaves the payload as it is. Below 64 KiB."""
    size = len(payload)
    length = bytes([128 | size]) if size < 126 else bytes([128 | 126]) + struct.pack(">H", size)
    return bytes([128 | opcode]) + length + bytes(4) + payload
