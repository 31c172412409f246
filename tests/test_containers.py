"""What can be said of the images and compose files without building them; `make image-check` builds and runs them."""

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from server.settings import Settings, env_name
from support.server_process import ROOT, running_server

DOCKERFILES = [ROOT / "Dockerfile", ROOT / "docker" / "cuda.Dockerfile"]
COMPOSE_FILES = [
    ROOT / "docker" / "compose.yaml",
    ROOT / "docker" / "compose.cuda.yaml",
    ROOT / "examples" / "compose.yaml",
]
TOOLS = Path(sys.executable).parent


def compose_service(path: Path) -> dict:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(path)["services"]["espalier"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    done = subprocess.run([TOOLS / "hadolint", dockerfile], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("compose", COMPOSE_FILES, ids=name)
def test_compose_files_keep_to_the_compose_schema(compose: Path) -> None:
    command = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", compose]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("compose", [c for c in COMPOSE_FILES if "cuda" not in c.name], ids=name)
def test_a_composed_service_can_write_nothing_and_has_no_rights(compose: Path) -> None:
    service = compose_service(compose)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("compose", [c for c in COMPOSE_FILES if "cuda" not in c.name], ids=name)
def test_a_composed_service_is_given_longer_to_stop_than_it_drains(compose: Path) -> None:
    assert float(compose_service(compose)["stop_grace_period"].removesuffix("s")) > Settings().drain_seconds


@pytest.mark.parametrize("path", [*DOCKERFILES, *COMPOSE_FILES], ids=name)
def test_every_espalier_variable_is_a_setting(path: Path) -> None:
    """A misspelt variable would be ignored in silence. MODEL and the like are the composer's own."""
    known = {env_name(f.name) for f in fields(Settings)}
    assert set(re.findall(r"ESPALIER_[A-Z_]+", path.read_text())) <= known


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name)
def test_the_image_holds_every_package_and_runs_as_nobody_in_particular(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]["wheel"][
        "packages"
    ]
    assert set(packages) <= set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    user = re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE)[-1]
    assert int(user) > 0


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name)
def test_the_health_check_passes_beside_a_server_and_fails_without_one(
    dockerfile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", dockerfile.read_text())
    assert found is not None
    command = [sys.executable, *json.loads(found[1])[1:]]
    with running_server(None) as server:
        monkeypatch.setenv("ESPALIER_PORT", str(server.port))
        assert subprocess.run(command, check=False).returncode == 0
    gone = subprocess.run(command, capture_output=True, check=False)
    assert gone.returncode != 0
