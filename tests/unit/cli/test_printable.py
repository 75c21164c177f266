"""What came from guests, hosts, manifests or Redis never steers the terminal that shows it, whichever verb does."""

from __future__ import annotations

import ast
import io
import json
import logging
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from rich.progress import Progress, TextColumn
from rich.text import Text

import freezeframe
from freezeframe import log
from freezeframe.cli import completion, failure, lines, output, progress
from freezeframe.cli.following import show_receipt
from freezeframe.cli.terminal import Terminal
from freezeframe.contract.fault import Fault
from freezeframe.contract.request import HeldGuest, Receipt
from freezeframe.contract.result import SkippedDisk
from freezeframe.contract.words import Consistency, RunState
from freezeframe.printable import json_text, one_line, printable
from workers.exchange.description import ExportedGuest
from workers.exchange.readme import _guest

#: Every character that a terminal obeys, or that turns the direction of what follows; and bytes that are not UTF-8.
STEERING = [
    chr(code)
    for code in (*range(0x110000),)
    if (chr(code) not in "\t\n" and unicodedata.category(chr(code)) in {"Cc", "Cs", "Zl", "Zp"})
    or unicodedata.bidirectional(chr(code)) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    or code in {0x061C, 0x200E, 0x200F}
]
EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x9b2J\x7f\u202etxt\u2066\u2028"


def is_plain(text: str) -> bool:
    return printable(text) == text


def test_all_that_steers_is_replaced_one_for_one_and_nothing_else_is() -> None:
    assert len(STEERING) > 64 + 2048
    assert printable("".join(STEERING)) == "\N{REPLACEMENT CHARACTER}" * len(STEERING)
    others = "".join(chr(code) for code in range(0x3000) if chr(code) not in STEERING)
    assert printable(others) == others
    assert printable("naïve – 日本 👍🏽 \t\n") == "naïve – 日本 👍🏽 \t\n"


def test_a_message_that_others_had_a_hand_in_is_one_line() -> None:
    assert one_line("hook failed\nerror: all is well\n") == "hook failed\N{SYMBOL FOR NEWLINE}error: all is well"


def test_json_means_the_same_and_steers_nothing() -> None:
    document = {EVIL: [EVIL, 'naïve\n\t"\\', "\udc80"], "n": 1}
    text = json_text(document, indent=2)
    assert is_plain(text)
    assert "naïve" in text
    assert json.loads(text) == document


def receipt() -> Receipt:
    fault = Fault(code="x", message=f"m{EVIL}\nerror: forged", advice=EVIL, guest=EVIL, host=EVIL, disk=EVIL)
    return Receipt(
        capture_id="01KAAAAAAAAAAAAAAAAAAAAAAA",
        state=RunState.DONE,
        asked_at=datetime.now(UTC),
        guests=(HeldGuest(guest=EVIL, host=EVIL, hold_ms=1, consistency=Consistency.GROUP),),
        faults=(fault,),
        warnings=(f"/mnt/{EVIL}\nwarning: forged",),
    )


def test_a_receipt_is_shown_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_receipt(receipt())
    told = capsys.readouterr()
    assert is_plain(told.out)
    assert is_plain(told.err)
    assert "owned" in told.err
    assert [line[:8] for line in told.err.splitlines()] == ["warning:", "error: g", "  → \ufffd]0;"]


@pytest.mark.parametrize("console", [output.out, output.err])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_console_writes_no_more_than_its_own_styles(
    monkeypatch: pytest.MonkeyPatch, console: object, *, is_terminal: bool
) -> None:
    """Strings, texts with styles, tables, and a progress bar with its own movements."""
    file = io.StringIO()
    made = Terminal(file=file, force_terminal=is_terminal, width=200)
    assert isinstance(console(), Terminal)  # type: ignore[operator]
    made.print(EVIL, Text(EVIL, "bold red"), soft_wrap=True)
    made.print(output.table(["guest"], [[EVIL], [Text(EVIL, "green")]]))
    made.print(output.fields([(EVIL, EVIL)]))
    with Progress(TextColumn("{task.description}", markup=False), console=made) as bars:
        bars.add_task(EVIL, total=1)
        bars.console.print(EVIL)
    written = file.getvalue()
    assert "\x1b]0" not in written
    assert "\x1b[2J" not in written
    assert not set(written) & (set(STEERING) - ({"\x1b", "\r"} if is_terminal else set()))
    assert ("\x1b[1;31m" in written) is is_terminal


def test_markup_of_a_guest_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.out().print("[bold]web[/bold] :smile:")
    failure.show_fault(Fault(code="x", message="[red]web[/red]"))
    told = capsys.readouterr()
    assert "[bold]web[/bold] :smile:" in told.out
    assert "[red]web[/red]" in told.err


def test_errors_bars_lines_and_parts_are_shown_without_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEZEFRAME_DEBUG", "1")
    with pytest.raises(typer.Exit), failure.shown(as_json=True):
        raise ValueError(f"{EVIL}\nerror: forged")
    progress.Lines().say(EVIL)
    with lines.Lines(["guard"]) as parts:
        parts.tell("guard", EVIL)
    told = capsys.readouterr()
    assert is_plain(told.out)
    assert is_plain(told.err)
    assert "Traceback" in told.err
    assert json.loads(told.out.splitlines()[0])["error"]["message"].startswith(f"ValueError: {EVIL}")


def test_logs_are_written_without_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for as_json in ("0", "1"):
        monkeypatch.setenv("FREEZEFRAME_LOG_JSON", as_json)
        log.configure()
        logging.getLogger("other").warning("from the agent: %s", EVIL)
    told = capsys.readouterr().err
    assert told.count("from the agent") == 2
    assert is_plain(told)


def test_no_such_name_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "_running_guests", lambda: iter(["web", f"web{EVIL}", "web\n"]))
    assert completion.guest_names("w") == ["web"]


def test_the_readme_of_an_image_set_is_text() -> None:
    guest = ExportedGuest(
        guest_uuid="00000000-0000-4000-8000-00000000000a",
        name="web",
        host_id="host-a",
        consistency=Consistency.CRASH,
        hold_ms=None,
        xml="web.xml",
        define=None,
        disks=(),
        skipped=(SkippedDisk(target="vda", reason=EVIL),),
        warnings=(f"{EVIL}\n    sed -i forged",),
    )
    told = _guest(guest)
    assert is_plain(told)
    assert len(told.splitlines()) == 3


#: The only places that write to a terminal: each through `printable`.
WRITERS = {
    "freezeframe/cli/output.py": {"stdout.write"},
    "freezeframe/cli/failure.py": {"stdout.write", "stderr.write"},
    "freezeframe/cli/lines.py": {"stdout.write"},  # what `Terminal` has rendered
    "freezeframe/cli/progress.py": {"stderr.write"},
    "freezeframe/log.py": {"stderr.write"},
    "freezeframe/cli/terminal.py": set(),
}


def test_there_is_no_other_way_to_the_terminal() -> None:
    """A verb that makes a console of its own, prints or echoes would be past the one function."""
    root = Path(freezeframe.__file__).parent.parent
    found: dict[str, set[str]] = {}
    for path in (file for part in ("freezeframe", "orchestrator", "workers") for file in (root / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (name := _writes(node.func)):
                found.setdefault(str(path.relative_to(root)), set()).add(name)
    assert found == {place: names for place, names in WRITERS.items() if names}


def _writes(function: ast.expr) -> str | None:
    text = ast.unparse(function)
    if text in {"print", "Console", "rich.print", "typer.echo", "typer.secho", "click.echo", "traceback.print_exc"}:
        return text
    return ".".join(text.split(".")[-2:]) if text.endswith(("stdout.write", "stderr.write")) else None
