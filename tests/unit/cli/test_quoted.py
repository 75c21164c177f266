"""Values in printed commands are quoted: a path with a space would make another command of it when it is pasted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]

#: A command that a message prints, up to a value in it: after a backtick, or the name of a program that takes files.
_PROGRAM = r"\b(?:chmod|chown|virsh|qemu-img|findmnt|losetup|lsblk|setfacl)\s(?!ended)"
_BEFORE_VALUE = re.compile(rf"(?:`(?:[a-z][a-z-]*|FREEZEFRAME_[A-Z_]+=\S*|/\S+) ?|{_PROGRAM})[^`.;:]*\Z")
#: What makes a word of it, and what is a word by its form: a ULID, a UUID, a word that `naming` made.
_WORD = re.compile(r"quote\(|\.virsh$|\.option\(|argument\(|virsh_word\(|capture_id$|uuid$")
#: Names that hold a quoted word, or one that is made here and needs no quotes.
_REVIEWED = {
    ("freezeframe/cli/up.py", "pid"),
    ("orchestrator/inherited.py", "older"),
    ("orchestrator/unread.py", "word"),
    ("workers/steps/host_failure.py", "' '.join(places)"),
    ("workers/steps/host_failure.py", "place"),
    ("workers/stored_bitmaps.py", "image"),
    ("workers/stored_bitmaps.py", "pool"),
}


def values_in_commands(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                if _BEFORE_VALUE.search(before):
                    yield ast.unparse(part.value)
                before += "VALUE"


def test_the_search_finds_a_value_in_a_command() -> None:
    for command in ("'Close it with chmod 600 {path}, and'", "'See `ls -l {path}`.'", "'`virsh start {name}`'"):
        assert len(list(values_in_commands(f"f{command}"))) == 1
    assert list(values_in_commands("f'Chunk {digest} of `freezeframe captures`: {reason}'")) == []


def test_each_value_in_a_printed_command_is_a_word_of_the_shell() -> None:
    found = {
        (str(file.relative_to(TOP)), value)
        for package in ("freezeframe", "workers", "orchestrator")
        for file in (TOP / package).rglob("*.py")
        for value in values_in_commands(file.read_text(encoding="utf-8"))
    }
    assert {one for one in found if not _WORD.search(one[1])} - _REVIEWED == set()
    assert found >= _REVIEWED
