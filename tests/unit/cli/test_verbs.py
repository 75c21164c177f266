"""All verbs are listed, whatever is installed; a verb that cannot be loaded says what it needs."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
import typer

from freezeframe.cli.app import main
from freezeframe.cli.verbs import Verbs, as_command

from .run import Run

VERBS = (
    "capture captures forget guard guests hosts key orchestrator recover repo restore thaw up verify version worker".split()  # noqa: SIM905
)


@pytest.fixture
def no_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the host extra. Commands that were loaded before are forgotten."""
    real = importlib.import_module

    def without(name: str, package: str | None = None) -> ModuleType:
        if name.startswith("workers"):
            raise ModuleNotFoundError("No module named 'libvirt'", name="libvirt")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(run: Run, verb: str) -> None:
    ran = run(verb, "--help")
    assert ran.exit_code == 0
    assert "Usage: freezeframe " + verb in ran.stdout
    assert "cannot be loaded" not in ran.stdout


def test_help_lists_every_verb_without_the_host_extra(run: Run, no_libvirt: None) -> None:
    ran = run("--help")
    assert ran.exit_code == 0
    assert [verb for verb in VERBS if f"│ {verb} " not in ran.stdout] == []


@pytest.mark.parametrize("arguments", [["thaw", "--all"], ["guard"], ["worker", "control"], ["recover", "--force"]])
def test_without_the_host_extra_a_verb_says_what_it_needs(run: Run, no_libvirt: None, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.exit_code == 1
    assert "pip install 'freezeframe[host]'" in ran.stderr
    assert "libvirt" in ran.stderr


def test_without_the_host_extra_json_has_the_error(run: Run, no_libvirt: None) -> None:
    assert run("thaw", "--all", "--json").document["error"]["code"] == "verb-missing"


def test_an_unknown_verb_is_wrong_usage(run: Run) -> None:
    assert run("capturre").exit_code == 2


def test_a_function_and_a_typer_become_commands_alike() -> None:
    def verb(*, as_json: bool = False) -> None:
        """Do it."""

    several = typer.Typer()
    several.command("a")(verb)
    several.command("b")(verb)
    command: Any = as_command("verb", verb)
    assert command.name == "verb"
    assert command.help == "Do it."
    assert set(as_command("several", several).commands) == {"a", "b"}


def test_the_alias_is_not_in_the_help(run: Run) -> None:
    assert "│ list " not in run("--help").stdout
    assert run("list", "--help").exit_code == 0
    assert issubclass(Verbs, typer.core.TyperGroup)


def test_a_command_ends_without_a_search_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["freezeframe", "version"])
    try:
        with pytest.raises(SystemExit):
            main()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_garbage_is_collected_again_once_a_verb_is_loaded(run: Run) -> None:
    for arguments in (["version"], ["restore", "--help"]):
        run(*arguments)
        assert gc.isenabled()
