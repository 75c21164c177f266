"""`compose.yaml` brought up by a daemon of its own, built on a base that is not pulled; guests captured through it.

control node    Redis, orchestrator and Flower, in a network of their own
host            and guard and workers, in the namespaces of a lab host whose libvirt is the machine's own there
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from freezeframe import bus
from freezeframe.settings import BusSettings
from ops.debian import Tree
from ops.docker import COMPOSE_PACKAGES, COMPOSE_RELEASE, Compose, Docker, DockerError
from ops.lab import Lab, LabSpec
from ops.lab.guest import Guest
from ops.lab.host import Host
from ops.ports import draw_ports
from ops.trial.truth import DiskTruth, read_truth, same_bytes, wait_until_transferring

#: Images are built, and a Debian made for Compose: minutes, most of them of apt and pip.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800), pytest.mark.case("G10")]

_ROOT = Path(__file__).parents[2]
_BASE = "freezeframe-test-base"
_PASSWORD = "compose-test-0d9f3a"  # noqa: S105  of a Redis that no other can reach
_CONTROL, _DATA = "orchestrator", "data"


def _copy_project(directory: Path) -> Path:
    """Copy the files of the checkout that compose.yaml needs to where the daemon has its own."""
    directory.mkdir(parents=True)
    for name in ("compose.yaml", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_ROOT / name, directory)
    for name in ("freezeframe", "orchestrator", "workers", "ops/containers", "ops/lock"):
        shutil.copytree(_ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def _settings(host: Host | None = None) -> dict[str, str]:
    redis_port, flower_port = draw_ports("127.0.0.1", 2)
    more = {"REDIS_ADDRESS": str(host.address), "GUEST_IMAGES": str(host.images)} if host else {}
    return more | {
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
        _compose(docker, project)("--profile", "host", "build")
        for image in docker.run("images", "--quiet", "freezeframe-*").split():
            assert _PASSWORD not in docker.run("history", "--no-trunc", image) + docker.run("inspect", image)
    return directory


def _compose(docker: Docker, project: Path) -> Compose:
    return Compose(docker, Tree.ensure(COMPOSE_RELEASE, COMPOSE_PACKAGES), project, _settings(docker.host))


@contextmanager
def _up(directory: Path, *, host: Host | None = None) -> Iterator[Compose]:
    """The system, up and healthy; every container and volume is gone afterwards."""
    profile = ["--profile", "host"] if host else []
    with Docker(directory, host) as docker:
        made = _compose(docker, directory / "project")
        try:
            made(*profile, "up", "--detach", "--wait", "--no-build")
            yield made
        finally:
            made("--profile", "host", "down", "--volumes")


def _freezeframe(compose: Compose, service: str, *arguments: str) -> Any:
    return json.loads(compose.docker.run("exec", compose.container(service), "freezeframe", *arguments, "--json"))


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


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab.up(LabSpec.of(hosts=1, guests=2, disks=1), tmp_path / "lab") as made:
        yield made


@pytest.mark.lab
def test_the_containers_capture_the_guests_of_the_hosts_libvirt(lab: Lab, images: Path, tmp_path: Path) -> None:
    """In full and incrementally, at one instant; every byte as the guests' QEMUs had it then."""
    (host,) = lab.hosts.values()
    guests = list(lab.guests.values())
    with _up(images, host=host) as compose:
        assert [one["host_id"] for one in _freezeframe(compose, _CONTROL, "hosts")["hosts"]] == [host.name]
        for kind in ("full", "incremental"):
            manifest, truths = _capture(compose, guests, tmp_path / kind)
            assert manifest["consistency"] == "group"
            assert {disk["kind"] for guest in manifest["guests"] for disk in guest["disks"]} == {kind}
            _freezeframe(compose, _CONTROL, "verify", manifest["capture_id"])
            restored = host.images / f"restored-{kind}"  # which a worker's container has from the host
            _freezeframe(compose, _DATA, "restore", "latest", "--to", str(restored), "--format", "raw")
            for (name, target), truth in truths.items():
                assert same_bytes(restored / f"{name}-{target}.raw", truth.path)
        # the containers' own directories are no place for a restore, nor is anything left on the host
        with pytest.raises(DockerError, match="This user cannot write to /srv"):
            _freezeframe(compose, _DATA, "restore", "latest", "--to", "/srv/back")
    assert list((host.root / "var/lib/freezeframe/scratch").iterdir()) == []
    for guest in guests:
        assert guest.fsfreeze_status() == "thawed"
        assert guest.domain.jobInfo()[0] == 0


def _capture(compose: Compose, guests: list[Guest], directory: Path) -> tuple[Any, dict[tuple[str, str], DiskTruth]]:
    """Capture all guests; the manifest, and the truth of each disk, read while the data worker rests before its transfers."""
    directory.mkdir()
    settings = compose.settings
    url = f"redis://:{_PASSWORD}@{settings['REDIS_ADDRESS']}:{settings['REDIS_PORT']}/0"
    client = bus.connect(BusSettings.model_validate({"redis_url": url}))
    docker, data = compose.docker, compose.container(_DATA)
    docker.run("pause", data)
    with docker.spawn("exec", compose.container(_CONTROL), "freezeframe", "capture", "--all", "--json") as capturing:
        try:
            wait_until_transferring(client, capturing)
            truths = {
                (guest.name, target): truth
                for guest in guests
                for target, truth in read_truth(guest, directory).items()
            }
        finally:
            docker.run("unpause", data)
        output, _ = capturing.communicate()
    assert capturing.returncode == 0, output
    return _freezeframe(compose, _CONTROL, "captures", "show", json.loads(output)["capture_id"]), truths
