"""`compose.yaml` brought up by a daemon of its own: Redis, orchestrator and Flower, built on a base that is not pulled."""

from __future__ import annotations

import json
import os
import random
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.debian import Tree
from ops.docker import COMPOSE_PACKAGES, COMPOSE_RELEASE, Compose, Docker
from ops.system import PORTS

#: Images are built, and a Debian made for Compose: minutes, most of them of apt and pip.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800), pytest.mark.case("G10")]

_ROOT = Path(__file__).parents[2]
_BASE = "freezeframe-test-base"
_PASSWORD = "compose-test-0d9f3a"  # noqa: S105  of a Redis that no other can reach
_CONTROL = "orchestrator"


def _copy_project(directory: Path) -> Path:
    """Copy the files of the checkout that compose.yaml needs to where the daemon has its own."""
    directory.mkdir(parents=True)
    for name in ("compose.yaml", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, directory)
    for name in ("freezeframe", "orchestrator", "workers", "ops/containers", "ops/lock"):
        shutil.copytree(_ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def _settings() -> dict[str, str]:
    redis_port, flower_port = random.sample(PORTS, 2)
    return {
        "BASE": _BASE,
        "BUILD_NETWORK": "host",
        "REDIS_PASSWORD": _PASSWORD,
        "REDIS_PORT": str(redis_port),
        "FLOWER_PORT": str(flower_port),
    }


def _certificates() -> Path:
    """The file with the certificates that this machine's programs trust."""
    return Path(os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile or "")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A daemon's directory with the project and its images."""
    directory = tmp_path_factory.mktemp("docker")
    project = _copy_project(directory / "project")
    with Docker(directory, builds=True) as docker:
        docker.import_tree(Tree.ensure(COMPOSE_RELEASE, ()), _BASE, _certificates())
        _compose(docker, project)("build")
        layers = docker.run("history", "--no-trunc", "freezeframe-control") + docker.run(
            "inspect", "freezeframe-control"
        )
        assert _PASSWORD not in layers
    return directory


def _compose(docker: Docker, project: Path) -> Compose:
    return Compose(docker, Tree.ensure(COMPOSE_RELEASE, COMPOSE_PACKAGES), project, _settings())


@contextmanager
def _up(directory: Path) -> Iterator[Compose]:
    """The system, up and healthy; every container and volume is gone afterwards."""
    with Docker(directory) as docker:
        made = _compose(docker, directory / "project")
        try:
            made("up", "--detach", "--wait", "--no-build")
            yield made
        finally:
            made("down", "--volumes")


def _freezeframe(compose: Compose, service: str, *arguments: str) -> Any:
    return json.loads(compose("exec", "-T", service, "freezeframe", *arguments, "--json"))


def _links() -> set[str]:
    """The machine's network interfaces."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def test_the_control_plane_comes_up_without_root(images: Path) -> None:
    """Redis, orchestrator and Flower answer their health checks; the repository is made once, and kept over a restart."""
    before = _links()
    with _up(images) as compose:
        assert _links() == before
        made = _freezeframe(compose, _CONTROL, "repo", "info")
        compose("restart")
        compose("up", "--detach", "--wait", "--no-build")
        assert _freezeframe(compose, _CONTROL, "repo", "info")["id"] == made["id"]
        for service in ("redis", _CONTROL, "flower"):
            assert compose("exec", "-T", service, "id", "-u").strip() != "0"
            assert _PASSWORD not in compose("top", service)
