"""Many clients of the feed on bare sockets: some read, some never do, some vanish without a word."""

from __future__ import annotations

import asyncio
import ctypes
import re
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

RECEIVE_BYTES = 4096
"""The receive buffer of a client that never reads: what the kernel takes for it is soon full."""
CHUNK_BYTES = 256 * 1024
SO_ATTACH_FILTER = 26
_FRAME = re.compile(rb"id: (\d+)\.([0-9a-f]{8})\nevent: (\w+)\ndata: [^\n]*?\"time\":\"([^\"]+)\"[^\n]*\n\n")
_CURSOR = re.compile(rb"id: (\S+)\n")


def deafen(ear: socket.socket) -> None:
    """From now on the kernel drops whatever comes to a socket: the other side gets neither an answer nor an end."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0: take nothing
    ear.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))


class Listener:
    """One client. `status` is 0 until the answer's head was read."""

    def __init__(self, port: int, cursor: str = "", since: str = "0") -> None:
        self.status = 0
        self.text = b""
        self.cursor = cursor
        self.positions: list[int] = []
        self.tags: list[bytes] = []
        self.delays_seconds: list[float] = []
        self.began: int | None = None
        """The position after which it began, as it was told."""
        self._port = port
        self._since = since
        self._socket: socket.socket | None = None
        self._kept = b""

    async def connect(self, *, slow: bool = False) -> None:
        """Open a connection and ask; with the cursor, when there is one."""
        loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if slow:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        last = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        head = f"GET /_changes?since={self._since} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{last}\r\n"
        await loop.sock_sendall(self._socket, head.encode())
        self.status, self._kept, self.text = 0, b"", b""

    async def read(self) -> bool:
        """Take what has come; False at the end of the connection."""
        assert self._socket is not None
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, CHUNK_BYTES)
        except OSError:
            data = b""
        self._kept += data
        if not self.status and b"\r\n\r\n" in self._kept:
            head, _, self._kept = self._kept.partition(b"\r\n\r\n")
            self.status = int(head.split(b" ")[1])
        if self.status == 200:
            self._take(_unchunked(self))
        return bool(data)

    def _take(self, text: bytes) -> None:
        if self.began is None and (begun := _CURSOR.match(text)):
            self.cursor = begun[1].decode()
            self.began = int(self.cursor.partition(".")[0])
        end, now = 0, time.time()
        for match in _FRAME.finditer(text):
            self.positions.append(int(match[1]))
            self.tags.append(match[2])
            self.delays_seconds.append(now - datetime.fromisoformat(match[4].decode()).timestamp())
            self.cursor = f"{match[1].decode()}.{match[2].decode()}"
            end = match.end()
        self.text = text[end:]

    async def until(self, position: int) -> None:
        """Read until a position has come, or it is refused, or the connection ends."""
        while self.status in (0, 200) and (not self.positions or self.positions[-1] < position):
            if not await self.read():
                return

    async def follow(self) -> None:
        """Read as long as there is a connection."""
        while await self.read():
            pass

    def vanish(self) -> None:
        """From now on the kernel drops whatever comes: the other side gets neither an answer nor an end."""
        assert self._socket is not None
        deafen(self._socket)

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()


def _unchunked(listener: Listener) -> bytes:
    """The text that is left and what came, without the frame of HTTP's chunks."""
    parts, kept = [listener.text], listener._kept
    while True:
        size, line, rest = kept.partition(b"\r\n")
        if not line or len(rest) < int(size, 16) + 2:
            break
        parts.append(rest[: int(size, 16)])
        kept = rest[int(size, 16) + 2 :]
    listener._kept = kept
    return b"".join(parts)


def quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)] if values else 0.0
