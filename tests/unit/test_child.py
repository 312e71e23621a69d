"""A process of ours, and who asked it, end without a word."""

from __future__ import annotations

import asyncio
import gc
import signal
import struct
import subprocess
import sys

import pytest

from eventstore.child import Child

ANSWERING = "from eventstore.child import serve; serve(bytes)"
REQUEST_BYTES = 4 * 1024 * 1024
"""More than a pipe holds."""


def test_it_ends_in_silence_when_nobody_reads_its_answer() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ANSWERING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(struct.pack(">I", 1) + b"x")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


async def test_who_gave_up_is_told_nothing_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    """Also where more was sent than it had read."""
    child = await Child.start("eventstore.server.checking", answer_bytes_max=1)
    asking = asyncio.create_task(child.ask(bytes(REQUEST_BYTES)))
    await asyncio.sleep(0)
    asking.cancel()
    await child.end()
    del asking
    gc.collect()
    assert caplog.messages == []
