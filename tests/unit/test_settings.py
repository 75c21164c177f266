"""Settings that are misspelled, misplaced or in a missing file are refused by name (case S10)."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from freezeframe import settings
from freezeframe.contract.hold import LONGEST_HOLD_S
from freezeframe.repository import session
from freezeframe.settings import (
    BusSettings,
    HostSettings,
    OrchestratorSettings,
    RepositorySettings,
    SettingsError,
    known_names,
    load,
)
from orchestrator import look, search
from orchestrator.decision import HOLD_SLACK_S
from orchestrator.run import LONGEST_RUN_S

pytestmark = pytest.mark.case("S10")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    for name in list(os.environ):
        if name.startswith("FREEZEFRAME_") and not name.startswith("FREEZEFRAME_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)


def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = tmp_path / "freezeframe.toml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("FREEZEFRAME_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("FREEZEFRAME_REPOSITRY", "FREEZEFRAME_REPOSITORY"),
        ("FREEZEFRAME_REPO", "FREEZEFRAME_REPOSITORY"),
        ("FREEZEFRAME_REDISURL", "FREEZEFRAME_REDIS_URL"),
        ("FREEZEFRAME_HOST_LIMIT_MIBS", "FREEZEFRAME_HOST_LIMIT_MIB_S"),
        ("freezeframe_state_dri", "FREEZEFRAME_STATE_DIR"),
    ],
)
@pytest.mark.parametrize("part", [BusSettings, HostSettings, RepositorySettings])
def test_a_misspelled_variable_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, part: type[BusSettings], name: str, near: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError) as caught:
        load(part)
    assert str(caught.value) == f"The environment variable {name} names no setting. Did you mean {near}?"


def test_a_variable_that_is_like_no_setting_is_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_XYZZY_QUUX", "1")
    with pytest.raises(SettingsError, match=r"FREEZEFRAME_XYZZY_QUUX names no setting\.$"):
        load(BusSettings)


@pytest.mark.parametrize(
    "name",
    [
        "FREEZEFRAME_DEBUG",
        "FREEZEFRAME_LOG_LEVEL",
        "FREEZEFRAME_LOG_JSON",
        "FREEZEFRAME_TEST_S3",
        "FREEZEFRAME_MUTANTS_DURATIONS",
        "_FREEZEFRAME_COMPLETE",
        "OTHER_FREEZEFRAME_X",
    ],
)
def test_variables_that_are_no_settings_are_let_be(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    load(BusSettings)


def service(name: str, address: str = "10.0.0.11") -> dict[str, str]:
    """Return all that Kubernetes gives a container for a service with one port."""
    url = f"tcp://{f'[{address}]' if ':' in address else address}:6379"
    return {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": "6379",
        f"{name}_SERVICE_PORT_REDIS_TLS": "6379",
        f"{name}_PORT": url,
        f"{name}_PORT_6379_TCP": url,
        f"{name}_PORT_6379_TCP_PROTO": "tcp",
        f"{name}_PORT_6379_TCP_PORT": "6379",
        f"{name}_PORT_6379_TCP_ADDR": address,
    }


@pytest.mark.parametrize("address", ["10.0.0.11", "fd00::b"])
@pytest.mark.parametrize("name", ["FREEZEFRAME", "FREEZEFRAME_REDIS", "FREEZEFRAME_SERVICE_PORT"])
def test_variables_of_kubernetes_for_a_service_of_our_name_are_let_be(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    for variable, value in service(name, address).items():
        monkeypatch.setenv(variable, value)
    load(BusSettings)


@pytest.mark.parametrize("name", sorted(set(service("FREEZEFRAME_REDIS")) - {"FREEZEFRAME_REDIS_SERVICE_HOST"}))
def test_a_name_like_a_services_is_refused_without_the_service(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variables = service("FREEZEFRAME_REDIS")
    monkeypatch.setenv(name, variables[name])
    with pytest.raises(SettingsError, match=name):
        load(BusSettings)
    monkeypatch.setenv("FREEZEFRAME_REDIS_SERVICE_HOST", variables["FREEZEFRAME_REDIS_SERVICE_HOST"])
    load(BusSettings)
    for value in ("", "1 0", "yes", "http://10.0.0.11:80", "tcp://10.0.0.11", "70000", "١"):
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=name):
            load(BusSettings)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("FREEZEFRAME_METRIC_PORT", "FREEZEFRAME_METRICS_PORT"),
        ("FREEZEFRAME_REDIS_PORT", "FREEZEFRAME_REDIS_URL"),
        ("FREEZEFRAME_TEST_HOST_ID", "FREEZEFRAME_HOST_ID"),
        ("FREEZEFRAME_SERVICE_HOST", None),
    ],
)
def test_a_misspelled_setting_that_ends_like_a_services_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, near: str | None
) -> None:
    for variable, value in service("FREEZEFRAME_OTHER").items():  # another service's address excuses nothing
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv(name, "9102")
    with pytest.raises(SettingsError, match=f"{name} names no setting") as caught:
        load(BusSettings)
    assert near is None or near in str(caught.value)


@pytest.mark.parametrize("name", sorted(known_names()))
def test_every_setting_of_every_part_is_known_to_every_part(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"FREEZEFRAME_{name.upper()}", "")
    load(BusSettings)


def test_a_file_that_somebody_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match=r"none\.toml does not exist") as caught:
        load(RepositorySettings)
    assert "FREEZEFRAME_CONFIG" in caught.value.hint


@pytest.mark.parametrize("value", [None, ""])
def test_the_default_file_need_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.setattr(settings, "DEFAULT_CONFIG", tmp_path / "none.toml")
    monkeypatch.delenv("FREEZEFRAME_CONFIG")
    if value is not None:
        monkeypatch.setenv("FREEZEFRAME_CONFIG", value)
    assert load(RepositorySettings).repository == "/var/lib/freezeframe/repository"


def test_the_default_file_is_checked_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, monkeypatch, "repositry = '/backup'")
    monkeypatch.delenv("FREEZEFRAME_CONFIG")
    monkeypatch.setattr(settings, "DEFAULT_CONFIG", path)
    with pytest.raises(SettingsError, match="repositry names no setting"):
        load(RepositorySettings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("repositry = '/backup'", "the line repositry names no setting. Did you mean repository?"),
        ("FREEZEFRAME_REPOSITORY = '/backup'", "names no setting. Did you mean repository?"),
        ("host-id = 'a'", "the line host-id names no setting. Did you mean host_id?"),
        ("[bus]\nredis_url = 'redis://h/0'", "the setting redis_url is in the table [bus]; settings stand before"),
        ("repository = '/a'\n[host]\nx = 1", "there is a table [host]; settings stand before"),
        ("repository = ", "is no TOML file"),
        ("repository = '/a'\nrepository = '/b'", "is no TOML file"),
    ],
)
def test_a_line_that_no_setting_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    path = written(tmp_path, monkeypatch, text)
    with pytest.raises(SettingsError) as caught:
        load(BusSettings)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_directory_is_no_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_CONFIG", str(tmp_path))
    with pytest.raises(SettingsError, match="directory"):
        load(BusSettings)


def test_a_right_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, monkeypatch, "repository = '/backup'\nredis_url = 'rediss://h:1/2'\ns3_timeout_s = 5\n")
    assert load(RepositorySettings).repository == "/backup"
    assert load(BusSettings).redis_url.get_secret_value() == "rediss://h:1/2"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://:secret@redis.example.org", "it begins with http://"),
        ("redis.example.org:6379", "it has no scheme"),
        ("/run/redis.sock", "it has no scheme"),
        ("localhost", "it has no scheme"),
        ("amqp://h", "it begins with amqp://"),
        ("redis://", "it names no host and port"),
        ("redis://:secret@h:port/0", "it names no host and port"),
        ("redis://h:99999/0", "it names no host and port"),
        ("redis://h/freezeframe", "its path is no database's number"),
        ("unix://run/redis.sock", "it names no socket"),
        ("unix://", "it names no socket"),
    ],
)
def test_what_is_no_url_of_redis_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", url)
    with pytest.raises(SettingsError, match="The setting redis_url cannot be used") as caught:
        load(BusSettings)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h/", "redis://:p@h:1/15", "rediss://u:p@h:1/0?ssl_cert_reqs=none", "unix:///run/s?db=1"],
)
def test_urls_of_redis_are_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_URL", url)
    assert load(BusSettings).redis_url.get_secret_value() == url


def test_a_run_directory_must_leave_room_for_a_sockets_path(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = "/" + "x" * (107 - len("/guard.sock") - 1)
    monkeypatch.setenv("FREEZEFRAME_RUN_DIR", longest)
    assert len(os.fsencode(load(HostSettings).guard_socket)) == 107
    monkeypatch.setenv("FREEZEFRAME_RUN_DIR", longest + "x")
    with pytest.raises(SettingsError, match=r"The setting run_dir cannot be used: .* 108 bytes.*107"):
        load(HostSettings)
    monkeypatch.setenv("FREEZEFRAME_RUN_DIR", "/" + "ü" * 60)
    with pytest.raises(SettingsError, match="run_dir"):
        load(HostSettings)


@pytest.mark.parametrize("where", ["environment", "file"])
@pytest.mark.parametrize(
    ("part", "name", "text"),
    [
        (RepositorySettings, "repository", "relative/path"),
        (RepositorySettings, "repository", " "),
        (RepositorySettings, "repository", " /srv"),
        (RepositorySettings, "repository", "s3:/bucket"),
        (RepositorySettings, "key_file", "key"),
        (RepositorySettings, "passphrase_file", "./passphrase"),
        (HostSettings, "state_dir", "relative"),
        (HostSettings, "scratch_dir", "."),
        (HostSettings, "run_dir", "~/run"),
        (HostSettings, "libvirt_run_dir", " "),
    ],
)
def test_what_is_no_absolute_path_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, part: type[HostSettings], name: str, text: str
) -> None:
    if where == "file":
        written(tmp_path, monkeypatch, f'{name} = "{text}"\n')
    else:
        monkeypatch.setenv(f"FREEZEFRAME_{name.upper()}", text)
    with pytest.raises(SettingsError, match=f"^The setting {name} cannot be used: .* no absolute path"):
        load(part)


@pytest.mark.parametrize("address", ["/srv/repository", "file:///srv/repository", "s3://bucket/prefix", "s3://bucket"])
def test_an_address_of_a_repository_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("FREEZEFRAME_REPOSITORY", address)
    assert load(RepositorySettings).repository == address


def test_what_is_empty_is_not_set_in_the_file_as_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = ("repository", "key_file", "scratch_dir", "state_dir", "host_limit_mib_s", "redis_url")
    parts = (RepositorySettings, HostSettings, BusSettings)
    plain = [load(part) for part in parts]
    for name in names:
        monkeypatch.setenv(f"FREEZEFRAME_{name.upper()}", "")
    assert [load(part) for part in parts] == plain
    for name in names:
        monkeypatch.delenv(f"FREEZEFRAME_{name.upper()}")
    written(tmp_path, monkeypatch, "".join(f'{name} = ""\n' for name in names))
    assert [load(part) for part in parts] == plain
    assert "repository" not in load(RepositorySettings).model_fields_set


def test_a_capture_that_waits_for_its_seal_has_a_session_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage collection takes nothing of it, and the manifest may be written as long as it waits."""
    assert load(OrchestratorSettings).seal_timeout_s == 12 * 3600
    longest = {"transfer_timeout_s": 6 * 86400, "seal_timeout_s": 20 * 3600, "prepare_timeout_s": 1200}
    for name, seconds in longest.items():
        monkeypatch.setenv(f"FREEZEFRAME_{name.upper()}", str(seconds))
    assert load(OrchestratorSettings).seal_timeout_s == 20 * 3600
    monkeypatch.setenv("FREEZEFRAME_PREPARE_TIMEOUT_S", "1201")
    with pytest.raises(
        SettingsError, match=r"The setting seal_timeout_s .* 3 times prepare_timeout_s, .* 6\.96 days of"
    ):
        load(OrchestratorSettings)


def test_the_default_of_the_seal_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_TRANSFER_TIMEOUT_S", str(6 * 86400))
    assert load(OrchestratorSettings).seal_timeout_s == 12 * 3600
    monkeypatch.setenv("FREEZEFRAME_PREPARE_TIMEOUT_S", "86400")
    with pytest.raises(SettingsError, match="The setting seal_timeout_s cannot be used: with 3 times"):
        load(OrchestratorSettings)


def test_the_times_of_a_run_are_those_of_its_session_and_of_the_search() -> None:
    longest_hold_s = LONGEST_HOLD_S + 3600 + HOLD_SLACK_S  # and the longest muster
    assert timedelta(seconds=settings.SEALED_WITHIN_S) == session.TERM - session.MARGIN
    assert longest_hold_s < settings.HOLD_AND_LOOKS_S
    assert settings.PREPARED_TIMES == 1 + search.ROUNDS
    assert session.TERM.total_seconds() + settings.DAY_S + look.SEAL_S < LONGEST_RUN_S
