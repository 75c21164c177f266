"""What every verb's help has, so that who knows one verb knows the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from freezeframe.cli.app import app

#: They run until they are told to end, and print no document.
SERVICES = {"up", "guard", "orchestrator", "worker"}

#: What looks after the repository and what is in it.
OF_THE_REPOSITORY = {"captures", "export", "forget", "gc", "import", "key", "repo", "verify"}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every verb that can be run, by its words; a group that does something by itself is one too."""
    if not hasattr(command, "list_commands"):
        yield " ".join(path), command
        return
    if path and command.invoke_without_command:
        yield " ".join(path), command
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from leaves(command.get_command(context, name), (*path, name))


VERBS = dict(leaves(typer.main.get_command(app)))


def parameters(command: Any) -> list[Any]:
    return [one for one in command.params if one.name not in {"help", "install_completion", "show_completion"}]


def test_there_are_all_verbs() -> None:
    assert {"capture", "captures", "captures show", "forget", "key add", "repo init", "verify"} <= VERBS.keys()
    assert VERBS.keys() >= SERVICES


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_does_in_sentences(verb: str) -> None:
    said = VERBS[verb].help.strip()
    assert said[0].isupper()
    assert said.endswith((".", ":", "**"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_and_argument_is_explained(verb: str) -> None:
    for one in parameters(VERBS[verb]):
        assert (one.help or "").strip(), one.name
        assert one.help.strip().endswith((".", ")")), one.name


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.split()[0] in OF_THE_REPOSITORY])
def test_an_argument_is_written_in_capitals(verb: str) -> None:
    for one in parameters(VERBS[verb]):
        if one.param_type_name == "argument":
            assert one.metavar, one.name
            assert one.metavar == one.metavar.upper()


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - SERVICES))
def test_a_verb_that_prints_prints_json_too(verb: str) -> None:
    (found,) = [one for one in VERBS[verb].params if "--json" in one.opts]
    assert found.help == "Print one JSON document instead of text."


@pytest.mark.parametrize("option", ["--guest", "--group", "--tag"])
def test_filters_mean_the_same_wherever_captures_are_chosen(option: str) -> None:
    said = {verb: one.help for verb in ("captures", "forget") for one in VERBS[verb].params if option in one.opts}
    assert len(said) == 2
    assert len(set(said.values())) == 1


def test_what_is_taken_away_can_be_tried_first() -> None:
    for verb in {"forget", "gc"} & VERBS.keys():
        assert any("--dry-run" in one.opts for one in VERBS[verb].params)
