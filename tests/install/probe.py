"""Run by the Python of an environment under test: import all that is installed of ours, ask each verb for its help.

Prints one JSON document: `modules`, `entry_points` and `verbs`, each by name with the advice where it cannot be loaded here
and "" where it can. Needs the wheel and nothing else.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from importlib.metadata import entry_points
from typing import Any

import typer
from typer.testing import CliRunner

from freezeframe.cli.app import app
from freezeframe.missing import remedy

CANNOT = "(cannot be loaded here: "


def loading(load: Any) -> str:
    """Return the advice of an import that fails; a defect tells its error."""
    try:
        load()
    except ImportError as error:
        return remedy(error) or f"DEFECT {error!r}"
    return ""


def modules() -> dict[str, str]:
    """Import every module of the three packages, as far as packages can be looked into."""
    found = {}
    for top in ("freezeframe", "orchestrator", "workers"):
        package = importlib.import_module(top)
        for module in pkgutil.walk_packages(package.__path__, f"{top}.", onerror=lambda _name: None):
            if not module.name.endswith(".__main__"):
                found[module.name] = loading(lambda name=module.name: importlib.import_module(name))
    return found


def verbs() -> dict[str, str]:
    root: Any = typer.main.get_command(app)
    found = {}
    for verb in root.list_commands(typer.Context(root)):
        ran = CliRunner().invoke(app, [verb, "--help"], prog_name="freezeframe", env={"COLUMNS": "2000"})
        text = " ".join(ran.stdout.split())
        _, lacking, advice = text.partition(CANNOT)
        found[verb] = "" if ran.exit_code == 0 and f"Usage: freezeframe {verb}" in text and not lacking else advice
    return found


def main() -> None:
    points = [*entry_points(group="freezeframe.commands"), *entry_points(group="freezeframe.rehearsals")]
    json.dump(
        {
            "freezeframe": str(importlib.import_module("freezeframe").__file__),
            "entry_points": {f"{point.group} {point.name}": loading(point.load) for point in points},
            "verbs": verbs(),
            "modules": modules(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
