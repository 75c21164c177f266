"""Any error of any verb is shown the same way: message, advice, exit code; and in JSON if that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from freezeframe.cli import app as app_module
from freezeframe.cli.output import AsJson
from freezeframe.cli.verbs import as_command
from freezeframe.errors import EXIT_REFUSED, FreezeframeError

from .run import Ran, Run


class NoRoomError(FreezeframeError):
    """No room."""

    code = "no-room"
    exit_code = EXIT_REFUSED
    advice = "Make room."


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """`freezeframe fails <how>`: a verb as any package may bring it."""
    inner = typer.Typer()

    @inner.command()
    def with_ours(*, as_json: AsJson = False) -> None:
        raise NoRoomError("Disk vda [of] guest db1 does not fit.")

    @inner.command()
    def with_defect(*, as_json: AsJson = False) -> None:
        raise LookupError("nothing there")

    @inner.command()
    def with_system(*, as_json: AsJson = False) -> None:
        Path("/nowhere/at/all").read_text(encoding="utf-8")

    group = typer.main.get_command(app_module.app)
    command = as_command("fails", inner)
    monkeypatch.setattr(typer.testing, "_get_command", lambda _: group)
    group.add_command(command)  # type: ignore[attr-defined]


@pytest.fixture
def failing(fails: None, run: Run, place: Path) -> Run:
    return run


def shown(ran: Ran) -> str:
    assert ran.stdout == ""
    return ran.stderr


def test_an_error_of_ours(failing: Run) -> None:
    ran = failing("fails", "with-ours")
    assert ran.exit_code == EXIT_REFUSED
    assert shown(ran) == "error: Disk vda [of] guest db1 does not fit.\n  → Make room.\n"


def test_an_error_of_ours_in_json(failing: Run) -> None:
    ran = failing("fails", "with-ours", "--json")
    assert ran.exit_code == EXIT_REFUSED
    error = ran.document["error"]
    assert (error["code"], error["exit_code"], error["advice"]) == ("no-room", EXIT_REFUSED, "Make room.")


def test_a_defect_says_so_and_hides_its_traceback(failing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = failing("fails", "with-defect")
    assert ran.exit_code == 1
    assert "LookupError: nothing there" in shown(ran)
    assert "This is a defect" in ran.stderr
    assert "Traceback" not in ran.stderr
    monkeypatch.setenv("FREEZEFRAME_DEBUG", "1")
    assert "Traceback" in failing("fails", "with-defect").stderr


def test_a_defect_in_json(failing: Run) -> None:
    ran = failing("fails", "with-defect", "--json")
    assert (ran.exit_code, ran.document["error"]["code"]) == (1, "defect")


def test_the_systems_refusal_is_no_defect(failing: Run) -> None:
    ran = failing("fails", "with-system")
    assert ran.exit_code == 1
    assert shown(ran) == "error: /nowhere/at/all: No such file or directory.\n"


def test_a_setting_that_cannot_be_used_is_named(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_REDIS_TIMEOUT_S", "soon")
    ran = run("hosts", "--json")
    assert ran.exit_code == 1
    assert "redis_timeout_s" in ran.document["error"]["message"]
