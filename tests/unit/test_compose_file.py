"""compose.yaml as it is written: what an edit could break without a word. `tests/install/test_compose.py` brings it up."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from freezeframe.cli import parts
from freezeframe.cli.app import app
from freezeframe.settings import BusSettings, HostSettings, known_names

pytestmark = pytest.mark.case("G10")

_ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")
HOST = {"guard", "control", "data"}
CONTROL = {"redis", "repository", "orchestrator", "flower"}
SECRET = "test-2c81"  # noqa: S105
REPOSITORY = "/var/lib/freezeframe/repository"

Service = Mapping[str, Any]


def _with_settings(found: Any, settings: Mapping[str, str]) -> Any:
    """Put settings in for variables, as Compose does."""
    if isinstance(found, dict):
        return {key: _with_settings(value, settings) for key, value in found.items()}
    if isinstance(found, list):
        return [_with_settings(one, settings) for one in found]
    return _VARIABLE.sub(lambda match: _value(match, settings), found) if isinstance(found, str) else found


def _value(match: re.Match[str], settings: Mapping[str, str]) -> str:
    name, kind, rest = match.groups()
    if settings.get(name):
        return settings[name]
    assert kind == "-", f"{name} has no default and is not set"
    return rest or ""


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compose.yaml leaves out has its default, whatever the process of these tests was told."""
    for name in [name for name in os.environ if name.startswith("FREEZEFRAME_")]:
        monkeypatch.delenv(name)


def services(**settings: str) -> dict[str, Service]:
    text = (_ROOT / "compose.yaml").read_text()
    found = _with_settings(yaml.safe_load(text), {"REDIS_PASSWORD": SECRET, **settings})
    services: dict[str, Service] = found["services"]
    return services


def mounts(service: Service) -> dict[str, str]:
    """Where each directory of the container is on the host, or the name of its volume."""
    found = {}
    for one in service.get("volumes", ()):
        source, target = one.split(":")[:2] if isinstance(one, str) else (one["source"], one["target"])
        found[target] = source
    return found


def host_settings(service: Service) -> HostSettings:
    names = {f"FREEZEFRAME_{name.upper()}": name for name in HostSettings.model_fields}
    own = {names[name]: value for name, value in service["environment"].items() if name in names and value}
    return HostSettings.model_validate(own)


def test_the_host_is_a_profile_and_the_control_node_is_not() -> None:
    assert {name: one.get("profiles") for name, one in services().items()} == {
        **{name: ["host"] for name in HOST},
        **dict.fromkeys(CONTROL),
    }


@pytest.mark.parametrize("name", sorted(HOST))
@pytest.mark.parametrize(
    "settings",
    [{}, {"SCRATCH_DIR": "/fast/scratch", "STATE_DIR": "/srv/state", "GUEST_IMAGES": "/srv/guests", "HOST_ID": "hv-7"}],
)
def test_a_host_s_directories_have_one_path_in_the_container_and_out(name: str, settings: dict[str, str]) -> None:
    """QEMU opens scratch files and makes sockets by their paths, and disks are known by theirs."""
    service = services(**settings)[name]
    found = mounts(service)
    assert found.pop(REPOSITORY) == "repository"
    assert found.pop("/var/tmp") == "temporary"  # noqa: S108  the container's
    assert {target for target, source in found.items() if source != target} == set()
    used = host_settings(service)
    expected = {str(used.state_dir), str(used.scratch_dir), str(used.run_dir), str(used.libvirt_run_dir.parent)}
    assert expected <= set(found)
    assert {settings.get("GUEST_IMAGES", "/var/lib/libvirt/images"), "/var/lib/libvirt/qemu", "/dev"} <= set(found)
    assert "/etc/machine-id" in found
    if settings:
        assert str(used.scratch_dir) == settings["SCRATCH_DIR"]
        assert str(used.state_dir) == settings["STATE_DIR"]
        assert used.host_id == settings["HOST_ID"]


@pytest.mark.parametrize("name", sorted(HOST))
def test_a_host_is_seen_as_it_is_and_not_as_a_container(name: str) -> None:
    service = services()[name]
    assert (service["pid"], service["uts"], service["network_mode"]) == ("host", "host", "host")
    assert {"SYS_PTRACE", "SYS_CHROOT", "SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"} <= set(service["cap_add"])
    assert {"apparmor=unconfined", "label=disable"} <= set(service["security_opt"])
    assert "SYS_ADMIN" not in service["cap_add"]


@pytest.mark.parametrize("name", sorted(HOST))
def test_what_is_not_mounted_cannot_be_written_and_a_missing_libvirt_is_not_made(name: str) -> None:
    """A restore into the container would go with it; an empty /run/libvirt would hide the daemon that starts later."""
    service = services()[name]
    assert service["read_only"] is True
    made = {one["target"]: one["bind"]["create_host_path"] for one in service["volumes"] if isinstance(one, dict)}
    own = {str(HostSettings().state_dir), str(HostSettings().scratch_dir), str(HostSettings().run_dir)}
    assert {target for target, may in made.items() if may} == own


@pytest.mark.case("D2")
@pytest.mark.parametrize("name", sorted((HOST | CONTROL) - {"redis"}))
def test_temporary_tables_are_on_a_disk_and_not_in_memory(name: str) -> None:
    """Where nothing is configured they lie in /var/tmp (freezeframe/temporary.py)."""
    service = services()[name]
    assert mounts(service)["/var/tmp"] == "temporary"  # noqa: S108  the container's
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert "FREEZEFRAME_TMP_DIR" not in service["environment"]


@pytest.mark.parametrize("name", sorted(HOST | CONTROL))
def test_no_container_is_privileged_and_each_is_started_again(name: str) -> None:
    service = services()[name]
    assert "privileged" not in service
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges=true" in service["security_opt"]
    assert service["restart"] == ("no" if name == "repository" else "unless-stopped")
    if name in CONTROL:
        assert not {"pid", "uts", "network_mode", "cap_add", "devices", "device_cgroup_rules"} & service.keys()
        assert not any(source.startswith("/") for source in mounts(service).values())


@pytest.mark.parametrize("name", sorted(HOST | CONTROL))
def test_a_secret_comes_from_the_settings_and_is_where_it_is_needed_only(name: str) -> None:
    service = services()[name]
    assert SECRET not in repr({key: value for key, value in service.items() if key != "environment"})
    knowing = {key for key, value in service.get("environment", {}).items() if SECRET in str(value)}
    expected = {"redis": {"REDIS_PASSWORD"}, "guard": set()}
    assert knowing == expected.get(name, {"FREEZEFRAME_REDIS_URL"})
    with pytest.raises(AssertionError, match="REDIS_PASSWORD has no default"):
        _with_settings(yaml.safe_load((_ROOT / "compose.yaml").read_text()), {})


def test_hosts_reach_redis_by_the_address_that_it_is_published_at() -> None:
    found = services(REDIS_ADDRESS="192.0.2.7", REDIS_PORT="7000")
    for name in ("control", "data"):
        url = found[name]["environment"]["FREEZEFRAME_REDIS_URL"]
        assert url == f"redis://:{SECRET}@192.0.2.7:7000/0"
        BusSettings.model_validate({"redis_url": url})
    assert found["redis"]["ports"] == ["192.0.2.7:7000:6379"]
    assert services()["redis"]["ports"] == ["127.0.0.1:6379:6379"]


def test_every_setting_is_one_that_freezeframe_knows() -> None:
    """A misspelled one ends each process at its start."""
    known = {f"FREEZEFRAME_{name.upper()}" for name in known_names()} | {"REDIS_PASSWORD"}
    assert {key for one in services().values() for key in one.get("environment", {})} <= known


def test_each_image_has_this_version_for_a_tag_and_one_service_that_builds_it() -> None:
    version = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = services()
    assert {one["image"] for one in found.values()} == {
        f"freezeframe-{part}:{version}" for part in ("redis", "control", "host")
    }
    assert {one["pull_policy"] for one in found.values()} == {"never"}
    built = {name: one["build"] for name, one in found.items() if "build" in one}
    assert {name: one["target"] for name, one in built.items()} == {
        "redis": "redis",
        "orchestrator": "control",
        "guard": "host",
    }
    assert {one["args"]["BASE"] for one in built.values()} == {"debian:trixie-slim"}
    assert all(found[name]["image"].startswith(f"freezeframe-{one['target']}:") for name, one in built.items())


def test_every_base_in_the_dockerfile_is_pinned() -> None:
    lines = (_ROOT / "ops/containers/Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    stages = {line.split()[3] for line in lines if line.startswith("FROM ")}
    assert set(bases) <= {"${BASE}", *stages}
    assert "ARG BASE=debian:trixie-slim" in lines


def test_workers_need_a_guard_and_wait_for_no_other_container() -> None:
    """On a hypervisor host Redis is elsewhere: starting the host's services must not start one there."""
    found = services()
    assert "depends_on" not in found["guard"]
    for name in ("control", "data"):
        assert found[name]["depends_on"] == {"guard": {"condition": "service_healthy"}}


def test_each_process_is_given_the_time_to_end_in_order() -> None:
    found = services()
    seconds = {name: int(found[name]["stop_grace_period"].replace("1m", "60s").removesuffix("s")) for name in HOST}
    assert min(seconds["control"], seconds["data"]) >= parts.WORKER_END_S
    assert seconds["guard"] > parts.guard_part(HostSettings()).end_s


def test_every_command_is_one_that_there_is() -> None:
    group = get_command(app)
    context = typer.Context(group)
    for name, service in services().items():
        command = service.get("command", ["start-redis"])
        if command[0] == "freezeframe":
            assert group.get_command(context, command[1]) is not None, name  # type: ignore[attr-defined]  # a group
        else:
            assert command[0] in {"celery", "start-redis"} or (_ROOT / "ops/containers" / command[0]).is_file(), name
    assert services()["guard"]["command"] == ["freezeframe", "up", "--only", "guard"]  # with its watchdog


def test_every_container_that_stays_says_if_it_does_its_work() -> None:
    for name, service in services().items():
        if name != "repository":
            test = service["healthcheck"]["test"]
            assert test == ["CMD", "healthy", name] or name == "redis", name
