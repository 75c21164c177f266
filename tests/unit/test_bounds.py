"""Numbers that no clock, rate or counter can be are refused where they are given, by name, and not hours later (case S10)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Union, get_args, get_origin

import pytest
import structlog
import typer
from pydantic import BaseModel, ValidationError

from freezeframe import log, settings
from freezeframe.cli import gc
from freezeframe.cli.capture import _rate
from freezeframe.contract import message, order, plan, request
from freezeframe.contract.request import CaptureRequest
from freezeframe.settings import (
    BusSettings,
    HostSettings,
    OrchestratorSettings,
    RepositorySettings,
    S3Settings,
    SettingsError,
    TemporarySettings,
    load,
)
from tests.unit.cli.run import Run

pytestmark = pytest.mark.case("S10")

PARTS: list[type[Any]] = [
    BusSettings,
    HostSettings,
    OrchestratorSettings,
    RepositorySettings,
    S3Settings,
    TemporarySettings,
]
NO_NUMBERS = ("inf", "-inf", "nan", "Infinity", "1e400", "1e300", "1e12", "9" * 400)


@pytest.fixture
def run() -> Run:
    return Run()


def is_number(annotation: Any) -> bool:
    if get_origin(annotation) is None:
        return annotation in {int, float}
    return any(is_number(one) for one in get_args(annotation) if one is not type(None))


def numbers(part: type[BaseModel]) -> list[str]:
    return [name for name, field in part.model_fields.items() if is_number(field.annotation)]


SETTINGS = [(part, name) for part in PARTS for name in numbers(part)]
FIELDS = numbers(CaptureRequest)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    for name in list(os.environ):
        if name.startswith("FREEZEFRAME_") and not name.startswith("FREEZEFRAME_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)


def test_every_part_and_its_numbers_are_looked_at() -> None:
    assert set(PARTS) == set(settings._Part.__subclasses__())
    assert {name for _, name in SETTINGS} >= {"redis_timeout_s", "host_limit_mib_s", "run_retention_s", "metrics_port"}
    assert is_number(Union[float, None])  # noqa: UP007  as `get_origin` finds it in an older annotation


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize(("part", "name"), SETTINGS)
def test_a_setting_that_no_clock_or_rate_can_be_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, part: type[Any], name: str, text: str
) -> None:
    monkeypatch.setenv(f"FREEZEFRAME_{name.upper()}", text)
    with pytest.raises(SettingsError, match=f"The setting {name} cannot be used: "):
        load(part)


@pytest.mark.parametrize("text", ["inf", "nan", "-inf"])
def test_so_it_is_in_the_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """TOML has words for them."""
    path = tmp_path / "freezeframe.toml"
    path.write_text(f"transfer_limit_mib_s = {text}\n")
    monkeypatch.setenv("FREEZEFRAME_CONFIG", str(path))
    with pytest.raises(SettingsError, match="The setting transfer_limit_mib_s cannot be used"):
        load(HostSettings)


@pytest.mark.parametrize(("part", "name"), SETTINGS)
def test_the_largest_that_is_taken_can_be_worked_with(part: type[Any], name: str) -> None:
    """The bound is one that a clock, a rate in bytes and Redis's own seconds can hold."""
    most = (
        max(one.le for one in part.model_fields[name].metadata if hasattr(one, "le"))
        if _direct(part, name)
        else _le(part.model_fields[name].annotation)
    )
    value = getattr(part(**{name: most}), name)
    datetime.now(UTC) + timedelta(seconds=value)
    assert int(value * 2**20) * 1000 < 2**63


def _direct(part: type[BaseModel], name: str) -> bool:
    return any(hasattr(one, "le") for one in part.model_fields[name].metadata)


def _le(annotation: Any) -> float:
    """Return the upper bound within `Annotated[float, Field(le=…)] | None`."""
    for one in get_args(annotation):
        for field in getattr(one, "__metadata__", ()):
            for bound in getattr(field, "metadata", ()):
                if hasattr(bound, "le"):
                    return float(bound.le)
    raise AssertionError(annotation)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e300, 10**400, "inf", "NaN", -1, 0])
@pytest.mark.parametrize("name", FIELDS)
def test_a_request_with_such_a_number_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as error:
        CaptureRequest(capture_id="0" * 26, every_guest=True, **{name: value})
    assert error.value.errors()[0]["loc"][0] == name
    assert FIELDS == ["hold_timeout_s", "muster_timeout_s", "limit_bytes_s"]


@pytest.mark.parametrize("text", ["Infinity", "NaN", "1e999", "-Infinity", '"inf"'])
def test_so_is_one_from_a_queue(text: str) -> None:
    """Python's JSON has words for them, and pydantic's reads them."""
    document = f'{{"capture_id": "{"0" * 26}", "every_guest": true, "hold_timeout_s": {text}}}'
    with pytest.raises(ValidationError, match="hold_timeout_s"):
        CaptureRequest.model_validate_json(document)


def shapes() -> Iterator[type[BaseModel]]:
    for module in (order, plan, request):
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, message.Shape):
                yield one


def test_no_message_has_a_number_without_an_end() -> None:
    found = set(shapes())
    assert CaptureRequest in found
    assert all(one.model_config.get("allow_inf_nan") is False for one in found)


@pytest.mark.parametrize("text", ["9" * 400 + "M", "inf M", "nanG", "1e9M", "9999999999M", "١M", "0M", "0.5M"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        _rate(text)


def test_the_highest_rate_that_can_be_written_is_refused_by_the_request() -> None:
    with pytest.raises(ValidationError, match="limit_bytes_s"):
        CaptureRequest(capture_id="0" * 26, every_guest=True, limit_bytes_s=_rate("999999999G"))


@pytest.mark.parametrize("text", ["9" * 400 + "d", "999999999999d", "36501d", "inf", "١d"])
def test_a_grace_that_no_clock_reaches_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        gc._grace(text)
    assert datetime.now(UTC) - gc._grace("36500d") < datetime.now(UTC)


@pytest.mark.parametrize("text", ["nonsense", "10", "WARN ING", "verbose", "notset"])
def test_a_log_level_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    before = logging.getLogger().level
    monkeypatch.setenv("FREEZEFRAME_LOG_LEVEL", text)
    with pytest.raises(log.LogSettingError) as error:
        log.configure()
    assert str(error.value).startswith(
        f"The setting FREEZEFRAME_LOG_LEVEL cannot be used: '{text.upper()}' is no level"
    )
    assert "WARNING" in str(error.value)
    assert logging.getLogger().level == before


def test_a_verb_tells_so_and_ends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_LOG_LEVEL", "nonsense")
    ran = run("captures")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("error: The setting FREEZEFRAME_LOG_LEVEL cannot be used: 'NONSENSE' is no level")


@pytest.mark.parametrize("text", ["maybe", "2", "json"])
def test_a_switch_that_says_neither_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FREEZEFRAME_LOG_JSON", text)
    with pytest.raises(log.LogSettingError, match="FREEZEFRAME_LOG_JSON cannot be used"):
        log.configure()


@pytest.mark.parametrize(
    ("text", "is_json"), [("1", True), ("true", True), ("On", True), ("0", False), ("false", False), ("", False)]
)
def test_a_switch_means_what_it_says(monkeypatch: pytest.MonkeyPatch, text: str, *, is_json: bool) -> None:
    """`false` was taken for yes."""
    monkeypatch.setenv("FREEZEFRAME_LOG_JSON", text)
    assert isinstance(log._renderer(), structlog.processors.JSONRenderer) is is_json


@pytest.mark.parametrize(("text", "level"), [("", logging.ERROR), ("debug", logging.DEBUG), (" Info ", logging.INFO)])
def test_a_level_is_taken_in_any_case(monkeypatch: pytest.MonkeyPatch, text: str, level: int) -> None:
    monkeypatch.setenv("FREEZEFRAME_LOG_LEVEL", text)
    assert log._wanted_level(logging.ERROR) == level
