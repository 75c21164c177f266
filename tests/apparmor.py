"""AppArmor's file rules, read from the text of a profile and asked about paths. [apparmor.d(5)]

Only what the profiles that Debian ships for libvirt use: globs, alternations, variables, quotes, `owner`, `deny`, `audit`.
Rules about anything but files are passed over; an `#include` is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RULE: Final = re.compile(
    r'^\s*(?P<words>(?:(?:audit|deny|owner)\s+)*)(?:"(?P<quoted>[/@][^"]*)"|(?P<plain>[/@]\S*))\s+(?P<may>[a-zA-Z]+),'
)
#: [/etc/apparmor.d/tunables/global]
_VARIABLES: Final = {
    "@{PROC}": "/proc",
    "@{HOME}": "{/home/*,/root}",
    "@{pid}": "[0-9]*",
    "@{tid}": "[0-9]*",
    "@{multiarch}": "*-linux-gnu*",
}


@dataclass(frozen=True)
class Rule:
    """One rule about files."""

    path: re.Pattern[str]
    may: frozenset[str]
    deny: bool


def rules(text: str) -> list[Rule]:
    """Read the file rules of a profile."""
    found = []
    for line in text.splitlines():
        match = _RULE.match(line)
        if match:
            path = match["quoted"] or match["plain"]
            found.append(Rule(re.compile(_pattern(path)), frozenset(match["may"]), "deny" in match["words"].split()))
    return found


def allows(known: Iterable[Rule], path: Path | str, may: str) -> bool:
    """Return True if these rules together allow all of `may` on `path`, and none of them denies any of it."""
    matching = [rule for rule in known if rule.path.fullmatch(str(path))]
    granted = {one for rule in matching if not rule.deny for one in rule.may}
    denied = {one for rule in matching if rule.deny for one in rule.may}
    return set(may) <= granted - denied


def _pattern(glob: str) -> str:
    for name, value in _VARIABLES.items():
        glob = glob.replace(name, value)
    pattern, depth, at = "", 0, 0
    while at < len(glob):
        sign = glob[at]
        if glob.startswith("**", at):
            pattern, at = pattern + ".*", at + 1
        elif sign == "*":
            pattern += "[^/]*"
        elif sign == "?":
            pattern += "[^/]"
        elif sign == "[":
            end = glob.index("]", at)
            pattern, at = pattern + glob[at : end + 1], end
        elif sign == "{":
            pattern, depth = pattern + "(?:", depth + 1
        elif sign == "}":
            pattern, depth = pattern + ")", depth - 1
        elif sign == "," and depth:
            pattern += "|"
        else:
            pattern += re.escape(sign)
        at += 1
    return pattern
