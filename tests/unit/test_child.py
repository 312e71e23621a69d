"""A process of ours ends without a word when its parent is gone."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys

ANSWERING = "from eventstore.child import serve; serve(bytes)"


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
