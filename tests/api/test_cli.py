"""The command line: real processes, with the server up and with it down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.checkers import read_log
from harness.client import Client
from harness.command import quire
from harness.process import QUIRE, Server, free_port

WAIT_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 5.0


def lines(*resources: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in resources)


def things(first: int, after: int) -> bytes:
    return lines(*({"resourceType": "Thing", "id": f"t{n:05}", "n": n} for n in range(first, after)))


def resources(text: bytes, kind: str = "Thing") -> list[dict[str, Any]]:
    """What an export says, less what the log adds."""
    found = [json.loads(line) for line in text.splitlines()]
    for one in found:
        del one["meta"]["versionId"], one["meta"]["lastUpdated"]
    return [one for one in found if one["resourceType"] == kind]


def until(reached: Callable[[], bool], what: str) -> None:
    """Poll until it is so."""
    end = time.monotonic() + WAIT_SECONDS_MAX
    while not reached():
        assert time.monotonic() < end, f"not within {WAIT_SECONDS_MAX} seconds: {what}"
        time.sleep(0.02)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def server(data: Path) -> AsyncIterator[Server]:
    """A server in a process of its own."""
    server = Server(data)
    await server.start()
    yield server
    if server.process is not None and server.process.returncode is None:
        await server.stop()


@pytest.fixture(params=["down", "up"])
async def directory(request: pytest.FixtureRequest, data: Path) -> AsyncIterator[Path]:
    """A data directory, on which no server runs, or one does."""
    if request.param == "down":
        yield data
        return
    server = Server(data)
    await server.start()
    yield data
    await server.stop()


# Help.


@pytest.mark.parametrize(
    "command", ["serve", "import", "export", "verify", "status", "rebuild", "replay", "unpark"]
)
def test_help_teaches(command: str) -> None:
    text = quire(command, "--help").text
    assert f"quire {command}" in text.partition("Examples:")[2]
    assert "3  it cannot run" in text
    assert command in quire("--help").text


def test_the_command_line_is_there_at_once() -> None:
    heavy = {"aiohttp", "jsonschema", "jsonschema_rs", "aiosqlite", "uvloop", "yaml"}
    program = "import sys, eventstore.server.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not heavy & set(loaded.stdout.split())
    assert quire("--version").text == "quire 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--port", "no"], "'--port'"),
        (["serve", "--port", "70000"], "a port is 0 to 65535"),
        (["serve", "--host", "0.0.0.0"], "--insecure"),
        (["serve", "--nats", "somewhere"], "a URL such as nats://host:4222"),
        (["serve", "--nats", "embedded", "--nats-port", "70000"], "--nats-port 70000: a port is 0 to 65535"),
        (["serve", "--nats-key", "key.pem"], "give --nats-cert too"),
        (["serve", "--nats", "nats://x:1", "--nats-creds", "gone"], "--nats-creds gone: No such file"),
        (["serve", "--nats", "embedded", "--stream", "a.b"], "stream name 'a.b'"),
        (["serve", "--stream-max-age", "-1"], "--stream-max-age -1: 0 at least"),
        (["serve", "--stream-replicas", "0"], "--stream-replicas 0: 1 at least"),
        (["serve", "--base-url", "quire.example"], "--base-url 'quire.example': a URL such as https://"),
        (["serve", "--base-url", "http://x/?a=b"], "--base-url 'http://x/?a=b': a URL such as https://"),
        (["serve", "--trusted-proxy", "10.0.0.0/8"], "--trusted-proxy '10.0.0.0/8': an address such as"),
        (["stream", "check", "--nats", "off"], "there is no stream"),
        (["serve", "--nonsense"], "No such option: --nonsense"),
        (["nonsense"], "No such command 'nonsense'"),
        (["import"], "Missing argument"),
        (["verify", "--against", "5:nonsense"], "neither a tip (position:hash) nor a file"),
        (["tail", "--url", "nowhere"], "nowhere: a URL such as http://127.0.0.1:8080 is wanted"),
        (["import", "-", "--url", "ftp://x"], "ftp://x: a URL such as http://127.0.0.1:8080 is wanted"),
        (["copy", "--from", "a", "--to", "mysql://x"], "'mysql://x': a URL such as postgresql://"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line_and_exit_2(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    told = quire(*arguments, QUIRE_DATA=str(tmp_path / "data"))
    assert told.code == 2
    assert words in told.error
    assert told.error.count("\n") == 1


@pytest.mark.parametrize("command", [["serve", "--port", "0", "--nats", "off"], ["import", "-"]])
def test_a_fhir_version_that_is_not_supported_makes_no_log(data: Path, command: list[str]) -> None:
    told = quire(*command, "--data", data, "--fhir-version", "3.0.0")
    assert (told.code, told.error) == (
        2,
        "quire: FHIR 3.0.0 is not supported: use one of 4.0.1, 4.3.0, 5.0.0\n",
    )
    assert not data.exists()


@pytest.mark.parametrize("command", ["export", "verify", "status"])
def test_no_log_is_one_line_and_exit_3(data: Path, command: str) -> None:
    told = quire(command, "--data", data)
    assert (told.code, told.out) == (3, b"")
    assert told.error == f"quire: there is no log in {data}; `quire serve --data {data}` makes one\n"
    assert not data.exists()


# Serve.


def test_a_port_in_use_is_said_plainly(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = quire("serve", "--port", str(port), "--data", data)
    assert told.code == 3
    assert told.error == (
        f"quire: port {port} on 127.0.0.1 is in use; end what uses it, or choose another with --port\n"
    )


async def test_a_second_server_on_the_same_data_is_refused(server: Server) -> None:
    assert server.process is not None
    told = quire("serve", "--port", "0", "--data", server.data)
    assert told.code == 3
    assert f"process {server.process.pid} writes to {server.data} and listens at {server.url}" in told.error


def test_takes_its_options_from_the_environment_and_logs_lines_of_json(data: Path) -> None:
    port = free_port()
    env = {
        **os.environ, "QUIRE_PORT": str(port), "QUIRE_DATA": str(data), "QUIRE_LOG_LEVEL": "debug",
        "QUIRE_FHIR_VERSION": "5.0.0", "QUIRE_TRUSTED_PROXY": "127.0.0.1 ::1", "QUIRE_BASE_URL": "https://x.example",
    }  # fmt: skip
    process = subprocess.Popen([*QUIRE, "serve"], stderr=subprocess.PIPE, env=env)
    assert process.stderr is not None
    said = [json.loads(process.stderr.readline())]
    while said[-1]["message"] != "listening":
        said.append(json.loads(process.stderr.readline()))
    assert (said[-1]["url"], said[-1]["data"]) == (f"http://127.0.0.1:{port}", str(data))
    assert {"time", "level", "logger"} <= said[-1].keys()
    assert quire("status", "--data", data, "--json").json["fhirVersion"] == "5.0.0"
    process.terminate()
    rest = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert any(one["message"] == "request" and one["path"] == "/ready" for one in rest)
    assert not any(one["logger"] == "aiosqlite" for one in (*said, *rest))
    assert process.wait(STOP_SECONDS_MAX) == 0
    process.stderr.close()


def test_logs_text_when_asked(data: Path) -> None:
    process = subprocess.Popen(
        [*QUIRE, "serve", "--port", "0", "--data", data, "--log-format", "text"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "INFO quire: listening url=http://127.0.0.1:" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(STOP_SECONDS_MAX) == 0
    process.stderr.close()


async def test_sigterm_ends_it_in_time_whatever_clients_do(server: Server) -> None:
    """One connection is idle, one has sent half a request."""
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/health") as answer:
        await answer.read()
        _, half = await asyncio.open_connection("127.0.0.1", server.port)
        half.write(b"POST /Entity HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await half.drain()
        assert await server.stop(STOP_SECONDS_MAX) == 0
        half.close()


async def test_a_second_signal_ends_it_at_once(server: Server) -> None:
    """While it waits for a body that it has said it wants."""
    assert server.process is not None
    reader, half = await asyncio.open_connection("127.0.0.1", server.port)
    head = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n"
    half.write(b"POST /Entity HTTP/1.1\r\n" + head + b"\r\n")
    assert b" 100 " in await reader.readline()
    started = time.monotonic()
    while server.process.returncode is None and time.monotonic() - started < STOP_SECONDS_MAX:
        server.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.05)
    assert await server.process.wait() == 130
    half.close()


# Import and export.


async def test_what_goes_in_comes_out_again(directory: Path, tmp_path: Path) -> None:
    sent = b'{"resourceType":"Thing","id":"a","n":[1.00,1e3,0.10],"text":"\\u00e9 \xc3\xa9","z":1,"b":{"y":[]}}\n'
    told = quire("import", "--data", directory, "--define-open", "-", stdin=sent + things(0, 2500))
    assert (told.code, told.error) == (0, "")
    assert told.text.startswith("2,501 created, 0 updated, 0 unchanged, 0 refused, 0 skipped in ")
    out = quire("export", "--data", directory)
    assert out.code == 0
    assert out.out.splitlines()[0].startswith(b'{"resourceType":"Entity","id":"Thing"')
    assert b'"n":[1.00,1e3,0.10],"text":"\\u00e9 \xc3\xa9","z":1,"b":{"y":[]}' in out.out
    assert out.error.startswith("quire: 2,502 resources as of position 2,502 in ")
    again = quire("import", "--data", tmp_path / "other", "-", stdin=out.out)
    assert (again.code, again.error) == (0, "")
    other = quire("export", "--data", tmp_path / "other")
    assert resources(other.out) == resources(out.out)
    assert resources(other.out, "Entity") == resources(out.out, "Entity")


async def test_a_second_import_finds_everything_there(directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "things.ndjson"
    file.write_bytes(things(0, 1200) + b'{"resourceType":"Thing","n":"no id"}\n')
    assert quire("import", "--data", directory, "--define-open", file).code == 0
    events = len(await read_log(directory))
    told = quire("import", "--data", directory, "--define-open", file)
    assert told.text.startswith("0 created, 0 updated, 1,201 unchanged, 0 refused, 0 skipped in ")
    assert len(await read_log(directory)) == events == 1202


async def test_the_later_of_two_lines_for_one_resource_is_the_one_that_stays(directory: Path) -> None:
    same = lines(*({"resourceType": "Thing", "id": "same", "n": n} for n in range(4500)))
    assert quire("import", "--data", directory, "--define-open", "-", stdin=same).code == 0
    events = await read_log(directory)
    assert [json.loads(event.data)["n"] for event in events[1:] if event.data] == list(range(4500))


def test_a_source_that_is_not_there_is_said_plainly(data: Path) -> None:
    told = quire("import", "--data", data, "nowhere")
    assert told.code == 1
    assert "refused nowhere: cannot be read: there is no such file\n" in told.error


async def test_says_what_was_refused_and_why_and_goes_on(directory: Path, tmp_path: Path) -> None:
    entity = {"resourceType": "Entity", "id": "Thing", "type": "resource"}
    attribute = {
        "resourceType": "Attribute", "id": "Thing.n", "path": ["n"],
        "type": {"resourceType": "Entity", "id": "integer"}, "resource": {"resourceType": "Entity", "id": "Thing"},
    }  # fmt: skip
    file = tmp_path / "mixed.ndjson"
    file.write_bytes(
        lines(entity, attribute)
        + things(0, 2)
        + b'{"resourceType":"Thing","id":"wrong","n":"x"}\n{nonsense\n{"resourceType":"Unknown","id":"u"}\n'
        + b'{"resourceType":"Thing","id":"bad id"}\n{"resourceType":"Thing","id":"d","n":1,"n":2}\n'
        + things(2, 4)
    )
    told = quire("import", "--data", directory, "--refused", tmp_path / "refused", file)
    assert told.code == 1
    assert told.text.startswith("6 created, 0 updated, 0 unchanged, 5 refused, 0 skipped in ")
    said = {line.split(": ")[0]: line for line in told.error.splitlines()}
    assert "mixed.ndjson:5: Thing/wrong: Thing.n: " in said["refused mixed.ndjson:5"]
    assert "The body is not JSON" in said["refused mixed.ndjson:6"]
    assert "mixed.ndjson:7: Unknown/u: there is no type Unknown" in said["refused mixed.ndjson:7"]
    assert "an id is a string of 1 to 64" in said["refused mixed.ndjson:8"]
    assert 'The key "n" stands twice' in said["refused mixed.ndjson:9"]
    file_told = [json.loads(line) for line in (tmp_path / "refused").read_bytes().splitlines()]
    assert {(one["source"], one["resource"]) for one in file_told} == {
        ("mixed.ndjson:5", "Thing/wrong"), ("mixed.ndjson:6", ""), ("mixed.ndjson:7", "Unknown/u"),
        ("mixed.ndjson:8", "Thing/bad id"), ("mixed.ndjson:9", "Thing/d"),
    }  # fmt: skip
    assert all(one["reason"] for one in file_told)
    assert [one["id"] for one in resources(quire("export", "--data", directory).out)] == [
        f"t{n:05}" for n in range(4)
    ]


async def test_defines_what_is_missing_also_under_a_name_of_fhir(directory: Path, tmp_path: Path) -> None:
    sent = lines({"resourceType": "ConceptMap", "id": "v"}, {"resourceType": "Gadget", "id": "g"})
    assert quire("import", "--data", directory, "-", stdin=sent).code == 1
    told = quire("import", "--data", directory, "--define-open", "-", stdin=sent)
    assert (told.code, told.error) == (0, "")
    out = quire("export", "--data", directory, "--type", "Entity").out
    entities = {one["id"]: one for one in resources(out, "Entity")}
    assert entities["ConceptMap"]["meta"] == {"tag": [{"code": "shadows-core"}]}
    assert entities["Gadget"]["meta"] == {}


async def test_takes_only_the_types_that_are_asked_for(directory: Path) -> None:
    sent = lines(*({"resourceType": kind, "id": "x"} for kind in ("A", "B", "C", "D")))
    quire("import", "--data", directory, "--define-open", "--type", "A,B", "--type", "D", "-", stdin=sent)
    kinds = [
        json.loads(line)["resourceType"] for line in quire("export", "--data", directory).out.splitlines()
    ]
    assert kinds == ["Entity", "Entity", "Entity", "A", "B", "D"]
    out = quire("export", "--data", directory, "--type", "D,A").out
    assert [json.loads(line)["resourceType"] for line in out.splitlines()] == ["A", "D"]
    told = quire("export", "--data", directory, "--type", "Nothing")
    assert told.code == 2
    assert "there is no type Nothing; there are A, B, D, Entity" in told.error


async def test_sends_to_a_server_that_is_named(server: Server, tmp_path: Path) -> None:
    told = quire(
        "import",
        "--data",
        tmp_path / "not-here",
        "--url",
        server.url + "/",
        "--define-open",
        "-",
        stdin=things(0, 3),
    )
    assert told.code == 0
    assert not (tmp_path / "not-here").exists()
    assert len(await read_log(server.data)) == 4
    told = quire("import", "--url", server.url + "/Thing", "-", stdin=things(0, 3))
    assert told.code == 3
    assert "answered 404" in told.error


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
async def test_stops_cleanly_and_goes_on_when_run_again(
    data: Path, stopping: signal.Signals, tmp_path: Path
) -> None:
    whole = things(0, 5000)
    half = whole[: whole.index(b'{"resourceType":"Thing","id":"t02500"')]
    process = subprocess.Popen(
        [*QUIRE, "import", "--data", data, "--define-open", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(half)
    process.stdin.flush()
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while not (data / "log.db").exists() or len(await read_log_of(data)) < 2001:
            assert process.poll() is None
            await asyncio.sleep(0.02)
    process.send_signal(stopping)
    out, error = await asyncio.get_running_loop().run_in_executor(
        None, lambda: process.communicate(timeout=10)
    )
    assert process.returncode == 130
    done = int(out.partition(b" created, 0 updated")[0].replace(b",", b""))
    assert 2000 <= done <= 2500
    assert (
        error
        == b"quire: stopped: interrupted; run the same command again to go on, what is there stays as it is\n"
    )
    told = quire("import", "--data", data, "--define-open", "-", stdin=whole)
    assert told.text.startswith(f"{5000 - done:,} created, 0 updated, {done:,} unchanged, 0 refused")
    assert quire("verify", "--data", data).code == 0


async def read_log_of(directory: Path) -> list[Any]:
    """Its events, or none while it is being made."""
    try:
        return list(await read_log(directory))
    except Exception:
        return []


async def test_an_import_into_a_directory_that_another_process_writes_to_says_which(data: Path) -> None:
    process = subprocess.Popen(
        [*QUIRE, "import", "--data", data, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    until(lambda: quire("status", "--data", data).code == 0, "the log is there")
    told = quire("status", "--data", data)
    assert f"process {process.pid}, not ready: it does not listen" in told.text
    told = quire("import", "--data", data, "-", stdin=things(0, 1))
    assert told.code == 3
    assert f"process {process.pid} writes to {data}" in told.error
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize("format", ["ndjson", "json", "yaml"])
@pytest.mark.parametrize("to", ["-", "out", "folder/"])
def test_every_format_can_be_imported_again(data: Path, tmp_path: Path, format: str, to: str) -> None:
    sent = b'{"resourceType":"Thing","id":"a","n":[1.00,1e3],"no":"no","text":"a\\n---\\nb\\n"}\n' + things(
        0, 3
    )
    quire("import", "--data", data, "--define-open", "-", stdin=sent)
    place = f"{tmp_path / to}{'/' if to.endswith('/') else '.' + format}" if to != "-" else "-"
    told = quire("export", "--data", data, "--format", format, "--to", place)
    assert told.code == 0
    source = Path(place)
    if to == "-":
        source = tmp_path / f"out.{format}"
        source.write_bytes(told.out)
    again = quire("import", "--data", tmp_path / "other", source)
    assert (again.code, again.error) == (0, "")
    assert resources(quire("export", "--data", tmp_path / "other").out) == resources(
        quire("export", "--data", data).out
    )


def test_a_folder_has_a_file_for_each_type_or_each_resource(data: Path, tmp_path: Path) -> None:
    quire("import", "--data", data, "--define-open", "-", stdin=things(0, 2))
    quire("export", "--data", data, "--to", f"{tmp_path}/types/")
    quire("export", "--data", data, "--to", f"{tmp_path}/resources/", "--format", "json")
    assert names(tmp_path / "types") == ["Entity.ndjson", "Thing.ndjson"]
    assert names(tmp_path / "resources") == ["Entity/Thing.json", "Thing/t00000.json", "Thing/t00001.json"]
    told = quire("export", "--data", data, "--to", f"{tmp_path}/types/")
    assert (told.code, "is not empty" in told.error) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "resources", "types"]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_complete_or_not_there(data: Path, tmp_path: Path) -> None:
    quire("import", "--data", data, "--define-open", "-", stdin=things(0, 2))
    file = tmp_path / "out.ndjson"
    file.write_bytes(b"old")
    assert quire("export", "--data", data, "--type", "Nothing", "--to", file).code == 2
    assert file.read_bytes() == b"old"
    assert quire("export", "--data", data, "--to", file).code == 0
    assert len(file.read_bytes().splitlines()) == 3
    assert names(tmp_path) == ["data/log.db", "data/quire.lock", "out.ndjson"]
    told = quire("export", "--data", data, "--to", "/dev/full")
    assert (told.code, told.error) == (3, "quire: No space left on device\n")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("name", ["out.ndjson", "out.json", "out.yaml", "out.yml", "out"])
def test_a_file_is_written_as_its_name_says_and_can_be_imported(
    data: Path, tmp_path: Path, name: str
) -> None:
    quire("import", "--data", data, "--define-open", "-", stdin=things(0, 2))
    file = tmp_path / name
    assert quire("export", "--data", data, "--to", file).code == 0
    sent = file.read_bytes() if name == "out" else b""
    told = quire("import", "--data", tmp_path / "other", "-" if sent else file, stdin=sent)
    assert (told.code, "3 created" in told.text) == (0, True), told


def test_a_reader_that_goes_away_is_no_error_of_ours(data: Path) -> None:
    quire("import", "--data", data, "--define-open", "-", stdin=things(0, 5000))
    process = subprocess.Popen(
        [*QUIRE, "export", "--data", data], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 3
    process.stderr.close()


def test_the_same_log_is_exported_the_same(data: Path) -> None:
    sent = lines(*({"resourceType": kind, "id": id} for kind in ("B", "A") for id in ("y", "x", "Z")))
    quire("import", "--data", data, "--define-open", "-", stdin=sent)
    out = quire("export", "--data", data).out
    order = [(one["resourceType"], one["id"]) for one in map(json.loads, out.splitlines())]
    assert order == [("Entity", "A"), ("Entity", "B")] + [
        (kind, id) for kind in "AB" for id in ("Z", "x", "y")
    ]
    assert quire("export", "--data", data).out == out


# Verify.


async def test_verify_says_what_it_checked_and_the_tip(directory: Path, tmp_path: Path) -> None:
    quire("import", "--data", directory, "--define-open", "-", stdin=things(0, 100))
    tip = (await read_log(directory))[-1]
    told = quire("verify", "--data", directory, "--save-tip", tmp_path / "tip")
    assert told.code == 0
    assert told.text.startswith("101 events of 2 types and 101 live resources checked in ")
    assert told.text.endswith(f"tip 101:{tip.hash.hex()}\nno faults\n")
    assert (tmp_path / "tip").read_text() == f"101:{tip.hash.hex()}\n"
    quire("import", "--data", directory, "-", stdin=things(100, 110))
    told = quire("verify", "--data", directory, "--against", tmp_path / "tip", "--json")
    assert (told.code, told.json["faultCount"], told.json["events"]) == (0, 0, 111)
    assert told.json["against"] == [f"101:{tip.hash.hex()}"]


async def test_verify_names_the_position_of_what_was_changed(directory: Path) -> None:
    quire("import", "--data", directory, "--define-open", "-", stdin=things(0, 100))
    change(
        directory,
        "UPDATE quire_event SET data = CAST(replace(CAST(data AS TEXT), ':41', ':42') AS BLOB) WHERE position = 43",
    )
    told = quire("verify", "--data", directory)
    assert told.code == 1
    assert "1 fault:\n  position 43: the digest is not that of salt, data and context" in told.text
    faults = quire("verify", "--data", directory, "--json").json
    assert (faults["faultCount"], faults["faults"][0]["position"]) == (1, 43)


def test_verify_names_what_was_cut_off(data: Path, tmp_path: Path) -> None:
    quire("import", "--data", data, "--define-open", "-", stdin=things(0, 10))
    quire("verify", "--data", data, "--save-tip", tmp_path / "tip")
    tip = (tmp_path / "tip").read_text().strip()
    change(
        data,
        "DELETE FROM quire_event WHERE position > 8",
        "DELETE FROM quire_current WHERE position > 8",
        "UPDATE quire_total SET live = 7, events = 7 WHERE type = 'Thing'",
    )
    assert quire("verify", "--data", data).code == 0
    for against in (tip, tmp_path / "tip"):
        told = quire("verify", "--data", data, "--against", against, "--save-tip", tmp_path / "new")
        assert told.code == 1
        assert (
            f"position 9: the events at 9 to 11 are cut off: the log ends at 8, and once was at {tip}"
            in told.text
        )
    assert not (tmp_path / "new").exists()


def change(directory: Path, *statements: str) -> None:
    connection = sqlite3.connect(directory / "log.db", timeout=10)
    for statement in statements:
        assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()


# Status.


async def test_status_shows_what_is_there(directory: Path) -> None:
    quire("import", "--data", directory, "--define-open", "-", stdin=things(0, 100))
    last = (await read_log(directory))[-1]
    told = quire("status", "--data", directory, "--json").json
    assert told["directory"] == str(directory)
    assert (told["fhirVersion"], told["schema"]) == ("4.0.1", 2)
    assert (told["tip"], told["lastEvent"]) == (f"101:{last.hash.hex()}", last.at)
    assert told["types"] == [
        {"type": "Entity", "live": 1, "events": 1},
        {"type": "Thing", "live": 100, "events": 100},
    ]
    assert {one["name"]: one["keptInline"] for one in told["projections"]} == {"current": True, "views": True}
    assert told["fileBytes"] > 0
    text = quire("status", "--data", directory).text
    assert told["log"] in text
    assert "100 live" in text


async def test_status_tells_whether_a_server_runs(server: Server) -> None:
    assert server.process is not None
    told = quire("status", "--data", server.data, "--json").json["nodes"][0]
    assert f"-{server.process.pid}-" in told["id"]
    assert told == {"id": told["id"], "url": server.url, "ready": True, "problem": ""}
    assert f"{told['id']} at {server.url}, ready" in quire("status", "--data", server.data).text
    server.process.send_signal(signal.SIGSTOP)
    try:
        told = quire("status", "--data", server.data, "--json").json["nodes"][0]
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert (told["ready"], told["problem"]) == (False, "it does not answer: timed out")
    await server.kill()
    assert quire("status", "--data", server.data, "--json").json["nodes"] == []


@pytest.mark.parametrize("command", ["status", "verify", "export", "serve", "import"])
def test_a_file_that_is_no_log_is_one_line(data: Path, command: str) -> None:
    data.mkdir()
    (data / "log.db").write_bytes(b"not a database" * 1000)
    arguments = {"serve": ["--port", "0"], "import": ["-"]}.get(command, [])
    told = quire(command, "--data", data, *arguments)
    assert told.code == 3
    assert "file is not a database" in told.error
    assert told.error.count("\n") == 1


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_tail_of_what_is_no_quire_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "_changes").write_text("hello")
    site = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tmp_path),
    ]
    process = subprocess.Popen(site, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(port), "the site listens")
        for path, words in (("", "is no Quire: it answers"), ("/gone", "404")):
            told = quire("tail", "--url", f"http://127.0.0.1:{port}{path}")
            assert (told.code, told.error.count("\n")) == (2, 1)
            assert words in told.error
    finally:
        process.kill()
        process.wait()


async def test_tail_follows_a_server_and_epoch_mends_a_restored_log(server: Server) -> None:
    at = ("--data", server.data)
    async with aiohttp.ClientSession() as session:
        client = Client(session, server.url)
        await client.define("Thing")
        command = [*QUIRE, "tail", "--data", str(server.data)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert b"created   Entity/Thing" in await asyncio.wait_for(
            process.stdout.readline(), WAIT_SECONDS_MAX
        )
        await client.put("/Thing/a", {"n": 1})
        line = await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS_MAX)
        assert line.split()[0] == b"2"
        assert line.endswith(b"created   Thing/a\n")
        process.terminate()  # SIGINT may be ignored, where the tests run in the background
        await asyncio.wait_for(process.wait(), WAIT_SECONDS_MAX)
        assert (await asyncio.to_thread(quire, "epoch", "--seen", "9", *at)).code == 3
    await server.stop()
    assert quire("tail", *at).code == 3
    assert quire("epoch", *at).code == 2
    assert quire("epoch", "--seen", "2", *at).code == 2
    begun = quire("epoch", "--seen", "9", *at)
    assert (begun.code, b"begins at 10" in begun.out) == (0, True)
    assert quire("verify", *at).code == 0
    await server.start()
