"""Settings by name: what is misspelled, misplaced or in a missing file is refused, since it would be ignored otherwise.

A misspelled limit is no limit, and a misspelled repository is a second one in the default place. Pure, but for `read_file`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freezeframe.service_variables import is_of_a_service

PREFIX = "FREEZEFRAME_"

#: Variables that are no settings: of the program itself, and of tools and tests.
NO_SETTINGS = frozenset({"CONFIG", "DEBUG", "LOG_JSON", "LOG_LEVEL"})
_TOOLS = ("TEST_", "MUTANTS_")


def read_file(path: Path, *, named: bool) -> dict[str, Any]:
    """Return the settings of a file, nothing for a default place without one. Raises ValueError and OSError.

    `named`: somebody has named the file, so it must be there.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not named:
            return {}
        raise ValueError(f"{path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error


def unknown_variable(env: Mapping[str, str], known: frozenset[str]) -> str | None:
    """Return what is wrong with the first variable of ours that no setting reads; None if all are read."""
    for name in sorted(env):
        own = name.upper().removeprefix(PREFIX)
        if own == name.upper() or own.lower() in known or own in NO_SETTINGS or _is_a_tools(own, known):
            continue
        if not is_of_a_service(name, env):
            return f"The environment variable {name} names no setting.{_nearest(own.lower(), known, PREFIX)}"
    return None


def _is_a_tools(own: str, known: frozenset[str]) -> bool:
    """Return True for a variable of a tool or test; a setting's name behind such a prefix is a mistake."""
    prefix = next((one for one in _TOOLS if own.startswith(one)), None)
    return prefix is not None and own.removeprefix(prefix).lower() not in known


def unknown_key(document: Mapping[str, Any], known: frozenset[str], path: Path) -> str | None:
    """Return what is wrong with the first key of a settings file that no setting reads; None if all are read."""
    for key, value in document.items():
        if isinstance(value, dict):
            inside = sorted(set(value) & known)
            what = f"the setting {inside[0]} is in the table [{key}]" if inside else f"there is a table [{key}]"
            return f"In {path} {what}; settings stand before the first table, each on a line of its own."
        if key not in known:
            return f"In {path} the line {key} names no setting.{_nearest(key, known)}"
    return None


def _nearest(name: str, known: frozenset[str], prefix: str = "") -> str:
    """Return the known name that is nearest, as it would be written."""
    wanted = re.sub(r"\W", "_", name.lower()).removeprefix(PREFIX.lower())
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
    if not near:
        return ""
    return f" Did you mean {prefix}{near[0].upper() if prefix else near[0]}?"


def config_file(env: Mapping[str, str], variable: str, default: Path) -> tuple[Path, bool]:
    """Return the settings file, and whether somebody has named it."""
    named = env.get(variable, "")
    return (Path(named), True) if named else (default, False)


def check(env: Mapping[str, str], variable: str, default: Path, known: frozenset[str]) -> None:
    """Raise ValueError for the first wrong name of a setting, OSError for a file that cannot be read."""
    path, named = config_file(env, variable, default)
    document = read_file(path, named=named)
    wrong = unknown_variable(env, known) or unknown_key(document, known, path)
    if wrong:
        raise ValueError(wrong)


def no_absolute_path(path: str) -> str | None:
    """Return what is wrong with a path of a setting; None if it means one place whatever directory a part is started in."""
    return None if path.startswith("/") else f"{path!r} is no absolute path"


def no_address(address: str) -> str | None:
    """Return what is wrong with the form of a repository's address; None for an absolute path and for what has a scheme."""
    if re.match(r"[a-z][a-z0-9+.-]*://", address):
        return None
    wrong = no_absolute_path(address)
    return wrong and f"{wrong}, and no address such as s3://bucket/prefix"


def longest_socket(directory: Path, name: str, most_bytes: int) -> str | None:
    """Return what is wrong with a directory for a socket of that name; None if the path is short enough."""
    length = len(os.fsencode(directory / name))
    if length <= most_bytes:
        return None
    return f"a socket {directory / name} has {length} bytes, and a Unix socket's path ends at {most_bytes}"
