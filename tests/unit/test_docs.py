"""The documents say what is so: routes, statuses, options, limits, words, links, the worked example; and house style."""

from __future__ import annotations

import ast
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from hashlib import sha256
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from harness.bugs import BUGS
from harness.client import Client
from harness.failpoints import POINTS

from eventstore import __version__
from eventstore.event import Context, Header, encode_context, genesis, seal
from eventstore.log.guard import FUNCTIONS
from eventstore.server import cli, negotiation
from eventstore.server.app import HANDLERS
from eventstore.server.outcomes import STATUS
from eventstore.server.routes import ROOT, route
from eventstore.server.settings import Settings
from eventstore.types import builtin
from eventstore.types.datatypes import FHIR_VERSIONS, datatypes

HOME = Path(__file__).parents[2]
PAGES = sorted([HOME / "README.md", *(HOME / "docs").rglob("*.md")])
CODE = sorted(path for package in ("eventstore", "projections") for path in (HOME / package).rglob("*.py"))

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70


def page(name: str) -> str:
    return (HOME / "docs" / name).read_text("utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading, down to the next of its level or higher."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"there is no heading {title}"
    return match[2]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Each table as its rows of cells, the header first."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        yield [row for row in rows if not all(set(cell) <= {"-", ":"} and cell for cell in row)]


def rows(text: str) -> list[list[str]]:
    """The rows of the first table, without its header."""
    return next(tables(text))[1:]


def ticked(text: str) -> list[str]:
    """What stands in backticks, outside blocks of code."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def constant(name: str) -> Any:
    """What a dotted name stands for: a module's, or a class's."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} is not there")


HTTP = page("reference/http.md")
CLI = page("reference/cli.md")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
URLS = [
    (ticked(row[0])[0], METHODS if row[1] == "any" else tuple(re.findall("[A-Z]+", row[1])))
    for row in rows(section(HTTP, "URLs"))
]


def path_of(url: str) -> str:
    """A path that fits a URL of the table."""
    return "/" + "/".join({"T": "Thing", "id": "x", "v": "1"}.get(part, part) for part in url[1:].split("/"))


def test_every_route_is_in_the_table_of_urls() -> None:
    names = {route(path_of(url)).name for url, _ in URLS}
    assert set(HANDLERS) | set(ROOT.values()) <= names
    urls = {url for url, _ in URLS}
    assert {f"/{word}" for word in ROOT} <= urls
    source = (HOME / "eventstore/server/routes.py").read_text("utf-8")
    for parts in re.findall(r"case \[(type(?:, id)?(?:, \"[^\"]+\")?(?:, version)?)\]:", source):
        url = "/" + parts.replace('"', "").replace("type", "T").replace("version", "v").replace(", ", "/")
        assert url in urls, f"{url} is a route, and not in http.md"


async def test_every_url_has_the_methods_of_the_table_and_no_others(client: Client) -> None:
    await client.define("Thing")
    version = (await client.put("/Thing/x", {})).version
    for url, methods in URLS:
        for method in METHODS:
            path = path_of(url).replace("_history/1", f"_history/{version}")
            body = '"SELECT 1"' if url == "/$sql" else '{"id":"y"}' if url == "/T" else "{}"
            reply = await client.request(method, path, None if method in ("GET", "HEAD") else body)
            told = (url, method, reply.status, reply.data)
            assert (reply.status in (405, 501)) == (method not in methods), told
            if reply.status == 405:
                assert tuple(re.findall("[A-Z]+", reply.headers["Allow"])) == methods, told


def test_every_status_and_no_other() -> None:
    documented = [int(row[0]) for row in rows(section(HTTP, "Statuses"))]
    assert documented == sorted({200, 201, 204, 304, 500} | set(STATUS.values()))


def codes_of(tree: ast.AST) -> Iterator[str]:
    """The codes that a module gives to issues."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keyword = {one.arg: one.value for one in node.keywords}.get("code")
            is_issue = isinstance(node.func, ast.Name) and node.func.id == "Issue"
            is_told = isinstance(node.func, ast.Attribute) and node.func.attr == "tell"
            if is_told and len(node.args) > 2 and isinstance(node.args[2], ast.Constant):
                yield str(node.args[2].value)
            code = keyword or (node.args[2] if is_issue and len(node.args) > 2 else None)
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield code.value
            elif is_issue and code is None:
                yield "invalid"
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INVARIANT":
            yield str(ast.literal_eval(node.value))
        elif isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "code":
                    value = line.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield value.value
                elif isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                    yield str(ast.literal_eval(line.value))


def test_every_code_of_an_issue_and_no_other() -> None:
    used = {code for path in CODE for code in codes_of(ast.parse(path.read_text("utf-8")))} - {"invalid", ""}
    assert {ticked(row[0])[0] for row in rows(section(HTTP, "Errors"))} == used


def test_every_header_and_parameter_is_named() -> None:
    """But for what request.py reads: how HTTP itself says where a body ends."""
    for path in set((HOME / "eventstore/server").glob("*.py")) - {HOME / "eventstore/server/request.py"}:
        source = path.read_text("utf-8")
        headers = re.findall(r"\"([Xx]-[A-Za-z-]+)\"", source)
        headers += re.findall(r"header(?:s\.get)?\(\"([A-Za-z-]+)\"", source)
        headers += re.findall(r"return \{\"([A-Za-z-]+)\":", source) if path.name == "outcomes.py" else []
        parameters = re.findall(r"query(?:\.get\(|\[|, )\"([\w$-]+)\"", source)
        parameters += re.findall(r"\"(\w+)\" in call\.query", source)
        for name in headers:
            assert f"`{name}`".lower() in HTTP.lower(), f"{name} of {path.name} is not in http.md"
        for name in parameters:
            assert f"`{name}`" in HTTP or f"?{name}=" in HTTP, f"{name} of {path.name} is not in http.md"


def test_every_media_type_is_named() -> None:
    kinds = {
        *negotiation.JSON_TYPES,
        *negotiation.YAML_TYPES,
        negotiation.JSON_PATCH,
        negotiation.MERGE_PATCH,
    }
    assert kinds <= set(ticked(section(HTTP, "Media types")))


def test_the_functions_of_sql_are_those_that_are_let_through() -> None:
    quote = "".join(re.findall(r"^> (.*)\n", HTTP, re.MULTILINE))
    assert set(ticked(quote)) == FUNCTIONS


async def test_every_metric_and_no_other(published_client: Client) -> None:
    await published_client.define()
    answered = (await published_client.get("/metrics")).data.decode()
    families = re.findall(r"^# TYPE (quire_\w+) ", answered, re.MULTILINE)
    there = {name for name in families if not name.endswith("_created")}
    assert {ticked(row[0])[0] for row in rows(section(HTTP, "Metrics"))} == there


COMMANDS: Any = typer.main.get_command(cli.app)


def options_of(command: Any) -> dict[str, tuple[str, str]]:
    """Each option's environment variable and default, as the table writes them."""
    found = {}
    for option in command.params:
        if option.param_type_name == "option" and option.opts != ["--help"]:
            default = option.default if isinstance(option.default, str | int | Path) else None
            default = "" if isinstance(default, bool) or default in (None, "") else f"`{default}`"
            found[option.opts[0]] = (f"`{option.envvar}`" if option.envvar else "", default)
    return found


def leaves(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name, those of a group of commands too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@pytest.mark.parametrize(("name", "command"), sorted(leaves(COMMANDS)))
def test_every_option_of_a_command_and_no_other(name: str, command: Any) -> None:
    table = next(one for one in tables(section(CLI, f"quire {name}")) if one[0][0] == "option")
    documented = {ticked(row[0])[0]: (row[1], row[2]) for row in table[1:]}
    assert documented == options_of(command)


def test_every_command_and_no_other() -> None:
    assert set(re.findall(r"^## quire (\w+)$", CLI, re.MULTILINE)) == set(COMMANDS.commands)
    assert set(re.findall(r"^quire (\w+) ", CLI, re.MULTILINE)) == set(COMMANDS.commands)
    assert {ticked(row[0])[0] for row in rows(CLI)} == {*options_of(COMMANDS), "--help"}


def test_the_exit_codes() -> None:
    documented = [(row[0], row[1].replace("`", "")) for row in rows(section(CLI, "Exit codes"))]
    assert documented == re.findall(r"^ +(\d+)  (.*)$", cli.EXIT_CODES, re.MULTILINE)


UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def limits() -> Iterator[tuple[str, str, str]]:
    """The rows of all tables of limits: page, name in the code, value."""
    for path in PAGES:
        for head, *body in tables(path.read_text("utf-8")):
            if head[:2] == ["limit", "value"]:
                yield from ((path.name, ticked(row[-1])[0], row[1]) for row in body)


def test_every_limit_has_the_value_that_is_documented() -> None:
    assert len(list(limits())) > 50
    for where, name, value in limits():
        match = re.fullmatch(r"([0-9][0-9,.]*)(?: (s|KiB|MiB|GiB))?", value)
        assert match is not None, f"{where}: {value} of {name} is no number with a unit"
        documented = Fraction(match[1].replace(",", "")) * UNITS[match[2] or ""]
        real = Fraction(str(constant(name))) * (1024 if name.endswith("_KIB") else 1)
        assert documented == real, f"{where}: {name} is {real}, not {value}"


def test_no_limit_is_left_out() -> None:
    """Of the modules whose limits are documented. A constant that nothing uses is no limit."""
    documented = {name for _, name, _ in limits()}
    words = Counter(word for path in CODE for word in re.findall(r"\w+", path.read_text("utf-8")))
    for module in map(import_module, {name.rpartition(".")[0] for name in documented}):
        own = set(re.findall(r"^(\w+) = ", Path(str(module.__file__)).read_text("utf-8"), re.MULTILINE))
        for name in own & vars(module).keys():
            is_limit = re.fullmatch(r"MAX_[A-Z0-9_]+|[A-Z0-9_]+_MAX", name)
            if is_limit and isinstance(vars(module)[name], int | float) and words[name] > 1:
                assert f"{module.__name__}.{name}" in documented, (
                    f"{module.__name__}.{name} is in no table of limits"
                )


def test_every_word_of_the_glossary_is_in_the_code() -> None:
    for word, meaning, where in rows(page("glossary.md")):
        assert meaning, word
        assert constant(ticked(where)[0]) is not None, f"{word}: {where}"


def test_every_field_of_a_definition_is_explained() -> None:
    explained = set(ticked(page("types.md")))
    for name, own in (("Entity", builtin._OF_ENTITY), ("Attribute", builtin._OF_ATTRIBUTE)):
        assert {element.name for element in own} <= explained, name


def test_every_data_type_is_listed() -> None:
    listed = set(ticked(section(page("types.md"), "Data types")))
    there = {
        name
        for version in FHIR_VERSIONS
        for name, one in datatypes(version).items()
        if one.kind != "abstract"
    }
    assert {name for name in listed if "/" not in name} == there


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as they are made on the web."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_goes_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text("utf-8")), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_names_nothing_that_its_reader_does_not_have(path: Path) -> None:
    assert not re.search(r"DESIGN|\.\./shared|\bissue \d|TODO|FIXME", path.read_text("utf-8"))


EXAMPLE = section(page("events.md"), "Digest and chain")


def test_the_worked_example() -> None:
    log, *events = [
        dict(re.findall(r"^(\S.*?)  +(.+)$", block, re.MULTILINE))
        for block in re.findall(r"^```text\n(.*?)^```", EXAMPLE, re.MULTILINE | re.DOTALL)[1:]
    ]
    before = sha256(f"quire {log['log id']} {log['FHIR version']} {log['created']}".encode()).digest()
    assert before.hex() == log["genesis"] == genesis(log["log id"], log["FHIR version"], log["created"]).hex()
    assert len(events) == 2
    for event in events:
        header, data, context = (event[name].encode() for name in ("header", "data", "context"))
        salt = bytes.fromhex(event["salt"])
        digest = sha256(salt + data + context).digest()
        hash = sha256(before + header + digest).digest()
        assert (digest.hex(), hash.hex()) == (event["digest"], event["hash"])
        fields: Any = ast.literal_eval(event["header"])
        sealed = seal(
            Header(**fields),
            data,
            encode_context(Context(**ast.literal_eval(event["context"]))),
            salt,
            before,
        )
        assert (sealed.header, sealed.context, sealed.hash) == (header, context, hash)
        before = hash


def by_hand(log: Path) -> subprocess.CompletedProcess[str]:
    """Run the script of events.md."""
    script = re.findall(r"^```python\n(.*?)^```", page("events.md"), re.MULTILINE | re.DOTALL)[0]
    return subprocess.run(
        [sys.executable, "-c", script, str(log)], capture_output=True, text=True, check=False
    )


async def test_the_script_that_verifies_by_hand(client: Client, settings: Settings, tmp_path: Path) -> None:
    await client.define("Thing")
    for n in range(3):
        await client.put("/Thing/x", {"n": n})
    await client.delete("/Thing/x")
    copy = tmp_path / "copy.db"
    with sqlite3.connect(settings.data / "log.db") as log, sqlite3.connect(copy) as target:
        log.backup(target)
        tip = log.execute("SELECT position, lower(hex(hash)) FROM quire_event ORDER BY 1 DESC").fetchone()
    ran = by_hand(settings.data / "log.db")
    assert (ran.returncode, ran.stdout) == (0, f"{tip[0]}:{tip[1]}\n"), ran.stderr
    for change, fault in [
        (
            "UPDATE quire_event SET data = CAST(replace(data, '2', '3') AS BLOB) WHERE position = 4",
            "position 4: salt, data",
        ),
        ("DELETE FROM quire_event WHERE position = 2", "the event at 2 is missing"),
    ]:
        with sqlite3.connect(copy) as target:
            target.execute(change)
        ran = by_hand(copy)
        assert ran.returncode == 1
        assert fault in ran.stderr
    log.close()
    target.close()


def test_the_tables_of_the_log_are_those_that_are_documented(client: Client, settings: Settings) -> None:
    with sqlite3.connect(settings.data / "log.db") as log:
        there = {row[0] for row in log.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    log.close()
    assert {ticked(row[0])[0] for row in rows(section(page("events.md"), "The tables on SQLite"))} == there


def test_the_layers_are_those_that_are_checked() -> None:
    documented = re.search(r"^```text layers\n(.*?)^```", page("architecture.md"), re.MULTILINE | re.DOTALL)
    assert documented is not None
    project = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))
    assert documented[1].splitlines() == project["tool"]["importlinter"]["contracts"][0]["layers"]


def test_every_file_that_the_architecture_names_is_there() -> None:
    homes = [
        HOME,
        HOME / "eventstore",
        HOME / "eventstore/server",
        HOME / "eventstore/log",
        HOME / "eventstore/types",
    ]
    for name in ticked(page("architecture.md")):
        if re.fullmatch(r"[\w/]+\.(py|sql|md|txt)", name):
            assert any((home / name).exists() for home in homes), name


def test_the_make_targets_of_the_readme() -> None:
    readme = (HOME / "README.md").read_text("utf-8")
    makefile = (HOME / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z0-9]+):.*## ", makefile, re.MULTILINE))
    assert set(re.findall(r"^make ([a-z0-9]+) ", section(readme, "The repository"), re.MULTILINE)) == targets


def test_the_guarantees_failpoints_and_bugs_are_those_of_the_harness() -> None:
    text = page("guarantees.md")
    assert {ticked(row[0])[0]: row[1] for row in rows(section(text, "Failpoints"))} == POINTS
    assert [ticked(row[0])[0] for row in rows(section(text, "Planted bugs"))] == list(BUGS)
    for name, _, where in rows(section(text, "The checkers")):
        for checker in ticked(where):
            assert constant(f"harness.{checker}").guarantee == name
    for name in ticked(" ".join(row[0] for row in rows(section(text, "The runs")))):
        assert (HOME / "tests/fault" / name).exists(), name


def test_the_decisions_are_all_listed() -> None:
    folder = HOME / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("0*.md"))
    assert re.findall(r"\]\((0[^)]+)\)", (folder / "README.md").read_text("utf-8")) == files
    assert all(int(after[:4]) == int(before[:4]) + 1 for before, after in pairwise(files))
    for name in files:
        text = (folder / name).read_text("utf-8")
        assert text.startswith(f"# {name[:4]} "), name
        for part in ("Decision", "The other way", "Why", "What it costs"):
            assert f"**{part}.**" in text, f"{name}: {part}"


def test_the_changelog_has_this_version() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["version"] == __version__
    assert f"## [{__version__}]" in page("changelog.md")


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(HOME)))
def test_style(path: Path) -> None:
    source = path.read_text("utf-8")
    lines = len(source.splitlines())
    assert lines <= FILE_LINES_MAX, f"{lines} lines: part it"
    assert source.startswith('"""'), "the first line says what the module is for"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
