"""Running verbs as a user would, in this process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from freezeframe.cli.app import app


@dataclass(frozen=True)
class Ran:
    """What a verb left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """All of stdout as the one JSON document that it must be."""
        return json.loads(self.stdout)


class Run:
    """Run a verb with its arguments; `typed` answers what it asks."""

    def __call__(self, *arguments: str, typed: Sequence[str] = ()) -> Ran:
        lines = "".join(f"{line}\n" for line in typed)
        result = CliRunner().invoke(app, list(arguments), input=lines, prog_name="freezeframe")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)
