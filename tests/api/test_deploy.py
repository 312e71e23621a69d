"""What `deploy/` holds fits the server: every metric in the alerts and the dashboard is one that it has."""

from __future__ import annotations

import configparser
import re
import runpy
from pathlib import Path

import aiohttp
import yaml
from harness.client import Client
from harness.colours import Colours

from eventstore.server.app import serving
from eventstore.server.settings import NatsSettings, Settings
from projections.engine import BUILT_IN

DEPLOY = Path(__file__).parents[2] / "deploy"
METRIC = re.compile(r"\b((?:quire|process)_[a-z_]+)\b")


async def test_every_metric_that_is_watched_is_there(tmp_path: Path) -> None:
    settings = Settings(port=0, data=tmp_path / "data", nats=NatsSettings("embedded", port=0))
    async with serving(settings, [*BUILT_IN, Colours()]) as url, aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.define()
        await client.get("/Nothing")
        told = (await client.get("/metrics")).data.decode()
    there = set(re.findall(r"^([a-z_]+)(?:\{| )", told, re.MULTILINE))
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    dashboard = runpy.run_path(str(DEPLOY / "prometheus" / "dashboard.py"))["dashboard"]()
    queries = [rule["expr"] for rule in rules]
    queries += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    watched = {name for query in queries for name in METRIC.findall(query)}
    assert watched - there == set()
    assert all(rule["annotations"].keys() == {"summary", "action"} for rule in rules)


def test_the_unit_calls_a_command_that_there_is() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "systemd" / "quire.service")
    assert unit["Service"]["ExecStart"].split()[1:] == ["serve"]
    assert int(unit["Service"]["TimeoutStopSec"]) > 5
