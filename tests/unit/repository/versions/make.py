"""Keep a version of the program for tests beside later ones: `python make.py COMMIT` writes `COMMIT.zip` here, from git.

    python make.py COMMIT                                               what the repository needs
    python make.py COMMIT ../../orchestrator/versions orchestrator.app  into another directory, what these modules need

The archive has the modules of the program that others import, and no others; a test puts it first in PYTHONPATH of a
process of its own. The same commit gives the same archive.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

#: What tests call; all that these import of the program comes with them. A commit may lack some.
ROOTS = (
    "freezeframe.known_repositories",
    "freezeframe.repository",
    "freezeframe.repository.check",
    "freezeframe.repository.garbage",
    "freezeframe.repository.verify",
)

#: The packages of the program.
PROGRAM = frozenset({"freezeframe", "orchestrator", "workers"})


def source(commit: str, module: str) -> tuple[str, str] | None:
    """Return the path and the text of a module in a commit; None if it has none of that name."""
    for path in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py"):
        shown = subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True, text=True, check=False)
        if shown.returncode == 0:
            return path, shown.stdout
    return None


def imported(text: str) -> Iterator[str]:
    """Yield the modules of the program that a source imports, and what may be modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(commit: str, roots: Sequence[str]) -> dict[str, str]:
    """Return all sources that the roots need, by their paths."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in seen or module.partition(".")[0] not in PROGRAM:
            continue
        seen.add(module)
        one = source(commit, module)
        if one is not None:
            found[one[0]] = one[1]
            waiting += [*imported(one[1]), module.rpartition(".")[0]]
    return found


def main(commit: str, directory: str = ".", *roots: str) -> None:
    kept = Path(__file__).parent / directory / f"{commit}.zip"
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, text in sorted(files(commit, roots or ROOTS).items()):
            archive.writestr(zipfile.ZipInfo(path), text, zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    main(*sys.argv[1:])
