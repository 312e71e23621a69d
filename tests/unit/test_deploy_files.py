"""What `deploy/` says of Quire and of the nats-server is so: options, variables, paths, probes, times; and it hangs together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from eventstore import __version__
from eventstore.server import cli
from eventstore.server.routes import ROOT

HOME = Path(__file__).parents[2]
DEPLOY = HOME / "deploy"
SERVE: Any = typer.main.get_command(cli.app).commands["serve"]  # type: ignore[attr-defined]
VARIABLES = {option.envvar for option in SERVE.params if option.envvar}
OF_NATS = "QUIRE_NATS_PASSWORD"
STOP_SECONDS_MAX = 10
FILES = sorted(
    path for path in DEPLOY.rglob("*") if path.suffix in (".yaml", ".conf", ".service", ".py", ".md")
)
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text("utf-8"))
MANIFESTS = {
    name: list(yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text("utf-8")))
    for name in ("quire", "nats")
}


@pytest.mark.parametrize("path", [*FILES, DEPLOY / "Dockerfile"], ids=lambda path: path.name)
def test_every_variable_is_one_of_the_server(path: Path) -> None:
    named = set(re.findall(r"\bQUIRE_[A-Z_]+[A-Z]\b", path.read_text("utf-8")))
    assert named <= {*VARIABLES, OF_NATS}


def test_the_image_is_made_of_what_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert (DEPLOY / "constraints.txt").exists()
    assert "--constraint /source/deploy/constraints.txt '/source[postgres]'" in text
    project = tomllib.loads((HOME / "pyproject.toml").read_text("utf-8"))["project"]
    assert "postgres" in project["optional-dependencies"]
    assert "quire" in project["scripts"]
    left_out = (HOME / ".dockerignore").read_text("utf-8").split()
    assert not {"eventstore", "projections", "deploy", "pyproject.toml", "README.md", "LICENSE"} & set(
        left_out
    )
    (health,) = re.findall(r"127\.0\.0\.1:(\d+)/(\w+)", text)
    assert health[0] == "8080"
    assert health[1] in ROOT


def test_the_compose_file_hangs_together() -> None:
    services = COMPOSE["services"]
    used = {volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", [])}
    assert {volume for volume in used if not volume.startswith(".")} == set(COMPOSE["volumes"])
    for volume in used:
        assert not volume.startswith(".") or (DEPLOY / "compose" / volume).exists(), volume
    for name, one in services.items():
        assert one["restart"], name
        assert one["mem_limit"], name
        assert set(one.get("depends_on", [])) <= set(services), name
    nodes = [name for name, one in services.items() if one["image"] == "quire"]
    assert len(nodes) == 3
    proxy = (DEPLOY / "compose" / "haproxy.cfg").read_text("utf-8")
    assert re.findall(r"^    server (\S+) (\S+)", proxy, re.MULTILINE) == [
        (name, f"{name}:8080") for name in nodes
    ]
    assert re.findall(r"httpchk GET /(\w+)", proxy)[0] in ROOT
    urls = services[nodes[0]]["environment"]["QUIRE_NATS"]
    brokers = [name for name, one in services.items() if str(one["image"]).startswith("nats:")]
    assert re.findall(r"@([\w-]+):4222", urls) == brokers
    assert int(services[nodes[0]]["stop_grace_period"].rstrip("s")) > STOP_SECONDS_MAX
    assert services["proxy"]["ports"] == ["127.0.0.1:8080:8080"]


def pod(kind: str, of: str) -> Any:
    (found,) = [one for one in MANIFESTS[of] if one["kind"] == kind]
    return found["spec"]["template"]


@pytest.mark.parametrize(("of", "kind"), [("quire", "Deployment"), ("nats", "StatefulSet")])
def test_the_manifests_hang_together(of: str, kind: str) -> None:
    template = pod(kind, of)
    labels = template["metadata"]["labels"]
    for one in MANIFESTS[of]:
        spec = one["spec"]
        chosen = spec.get("podSelector") or spec.get("selector")
        assert chosen.get("matchLabels", chosen) == labels, one["kind"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    probes = [container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")]
    assert {probe["port"] for probe in probes} <= ports
    assert container["resources"]["limits"].keys() == {"memory"}
    claimed = {
        one["metadata"]["name"]
        for found in MANIFESTS[of]
        for one in found["spec"].get("volumeClaimTemplates", [])
    }
    there = claimed | {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == there
    assert template["spec"]["terminationGracePeriodSeconds"] > STOP_SECONDS_MAX
    kinds = [one["kind"] for one in MANIFESTS[of]]
    assert {"Service", "PodDisruptionBudget", kind} <= set(kinds)


def test_the_nodes_of_kubernetes_are_looked_at_where_the_server_answers() -> None:
    (container,) = pod("Deployment", "quire")["spec"]["containers"]
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/health", "liveness": "/health", "readiness": "/ready"}
    assert {path[1:] for path in paths.values()} <= set(ROOT)
    assert container["image"] == f"quire:{__version__}"
    told = {one["name"]: one for one in container["env"]}
    assert "secretKeyRef" in told["QUIRE_DB"]["valueFrom"]
    assert "secretKeyRef" in told["QUIRE_NATS"]["valueFrom"]
    text = (DEPLOY / "kubernetes" / "quire.yaml").read_text("utf-8")
    keys = set(re.findall(r"--from-literal=([\w-]+)=", text))
    wanted = {
        env["valueFrom"]["secretKeyRef"]["key"]
        for one in (("Deployment", "quire"), ("StatefulSet", "nats"))
        for env in pod(*one)["spec"]["containers"][0]["env"]
        if "secretKeyRef" in env.get("valueFrom", {})
    }
    assert keys == wanted


def test_the_nats_servers_take_their_configuration_and_flags(tmp_path: Path) -> None:
    server = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    assert server is not None
    config = str(DEPLOY / "nats" / "nats.conf")
    flags = [one["command"] for one in COMPOSE["services"].values() if str(one["image"]).startswith("nats:")]
    flags.append(pod("StatefulSet", "nats")["spec"]["containers"][0]["args"])
    assert len(flags) == 4
    for arguments in flags:
        here = [
            config if word.endswith("nats.conf") else str(tmp_path) if word == "/data" else word
            for word in arguments
        ]
        done = subprocess.run(
            [server, "-t", *here],
            env={**os.environ, OF_NATS: "secret1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    done = subprocess.run([server, "-t", "-c", config], env={}, capture_output=True, text=True, check=False)
    assert OF_NATS in done.stderr


def test_the_table_of_files_is_complete() -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    there = {
        str(path.relative_to(DEPLOY))
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert set(re.findall(r"`([\w/]+(?:\.\w+)?)`", text)) >= there - {"README.md"}
