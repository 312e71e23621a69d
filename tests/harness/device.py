"""A small device of its own: it gets full, and its power fails. Only root may make one."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

SHUT_DOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN: from now on every read and write fails."""
AND_FORGET = 2
"""What was not synced is not written any more, and neither is the journal: as if the power had failed."""
UNMOUNT_SECONDS_MAX = 20.0
CHUNK_BYTES = 4096


def needs_root() -> None:
    """Skip the test for who may not mount."""
    if os.geteuid():
        pytest.skip("only root may mount a device")


class Device:
    """An ext4 file system in a file, mounted on a directory."""

    def __init__(self, directory: Path, mebibytes: int) -> None:
        self.path = directory / "disk"
        self._image = directory / "disk.image"
        self._filler = self.path / "filler"
        self.path.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(mebibytes * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", str(self._image)], check=True)

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.path)], check=True)

    def unmount(self) -> None:
        """Wait until nobody uses it any more, and take it away."""
        end = time.monotonic() + UNMOUNT_SECONDS_MAX
        while subprocess.run(["umount", str(self.path)], check=False, capture_output=True).returncode:
            assert time.monotonic() < end, f"{self.path} is in use"
            time.sleep(0.05)

    def fill(self) -> None:
        """Take all the room that there is."""
        file = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with suppress(OSError):
            while True:
                os.write(file, bytes(CHUNK_BYTES))
        os.close(file)

    def clear(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def lose_power(self) -> None:
        """Everything that was not synced is lost."""
        file = os.open(self.path, os.O_RDONLY)
        fcntl.ioctl(file, SHUT_DOWN, struct.pack("I", AND_FORGET))
        os.close(file)
