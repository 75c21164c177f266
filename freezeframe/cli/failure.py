"""How errors are shown: what happened and what to do, on stderr, with the error's own exit code; in JSON if asked for.

An error of ours is for the user. Any other is a defect, and says so; its traceback is only for who asks for it. A system
error with a file's name (no permission, no space) is neither: it is told as it is.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from freezeframe.cli.terminal import Terminal
from freezeframe.contract.fault import Fault
from freezeframe.errors import EXIT_FAILED, FreezeframeError
from freezeframe.missing import package_missing
from freezeframe.printable import json_text, one_line, printable

DEBUG_ENV = "FREEZEFRAME_DEBUG"

_NO_DEFECT = (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError, EOFError)


@contextmanager
def shown(*, as_json: bool) -> Iterator[None]:
    """Show any error that leaves this block, and turn it into its exit code."""
    try:
        yield
    except FreezeframeError as error:
        _show(Fault.of(error), as_json=as_json)
        raise typer.Exit(error.exit_code) from error
    except _NO_DEFECT:
        raise
    except OSError as error:
        if error.filename is None:
            _show(_defect(error), as_json=as_json)
        else:
            _show(_system(error), as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from error
    except ImportError as error:  # a verb may import what few of its uses need when it needs it
        missing = package_missing(error)
        _show(_defect(error) if missing is None else Fault.of(missing), as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from error
    except Exception as error:
        _show(_defect(error), as_json=as_json)
        raise typer.Exit(EXIT_FAILED) from error


def show_fault(fault: Fault, console: Console | None = None) -> None:
    """A fault for people, on stderr unless told otherwise: whom it concerns, what happened, what to do."""
    console = console or Terminal(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), one_line(f"{whom(fault)}{fault.message}")), soft_wrap=True)
    if fault.advice:
        console.print(Text.assemble(("  → ", "bold"), one_line(fault.advice)), soft_wrap=True)


def whom(fault: Fault) -> str:
    """`guest alpha, disk vda, host a: ` for those that the fault names."""
    named = [("guest", fault.guest), ("disk", fault.disk), ("host", fault.host)]
    words = ", ".join(f"{kind} {name}" for kind, name in named if name)
    return f"{words}: " if words else ""


def _show(fault: Fault, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json_text({"error": fault.model_dump(mode="json")}) + "\n")
    show_fault(fault)
    if os.environ.get(DEBUG_ENV, "") not in {"", "0"}:
        sys.stderr.write(printable(traceback.format_exc()))


def _system(error: OSError) -> Fault:
    advice = "Run it as a user who may, or set another place." if isinstance(error, PermissionError) else ""
    return Fault(code="system", message=f"{error.filename}: {error.strerror}.", advice=advice)


def _defect(error: Exception) -> Fault:
    said = str(error).strip() or "no message"
    return Fault(
        code="defect",
        message=f"{type(error).__name__}: {said}",
        advice=f"This is a defect in freezeframe; please report it. {DEBUG_ENV}=1 shows where it happened.",
    )


def wants_json(ctx: typer.Context) -> bool:
    """Whether the verb of this context was given --json."""
    return any("--json" in option.opts and ctx.params.get(option.name or "") for option in ctx.command.params)
