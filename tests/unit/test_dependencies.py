"""Every package that the product imports is declared: by the base, or by the extra of the side that imports it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from freezeframe.missing import EXTRAS, SYSTEM_MODULES

_ROOT = Path(__file__).parents[2]
_OURS = ("freezeframe", "orchestrator", "workers")
#: The extra that each side may count on, besides the base.
_EXTRA_OF_SIDE = {"freezeframe": "s3", "orchestrator": "control", "workers": "host"}
#: Modules of a standard library newer than the one that runs this.
_NEWER_STANDARD_LIBRARY = {"compression"}
#: Declared because another program is started from it, or another package imports it.
_NOT_IMPORTED = {"flower"}

_PROJECT: dict[str, Any] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[\[<>=!~; ]", one, maxsplit=1)[0]) for one in requirements}


def _declared(extra: str = "") -> set[str]:
    return _names(_PROJECT["optional-dependencies"][extra] if extra else _PROJECT["dependencies"])


def _imported(source: str) -> Iterator[str]:
    """Top-level modules that a source imports anywhere, those for type checkers included: the wheel has py.typed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _third_party(side: str) -> dict[str, Path]:
    """Module by module, one file that imports it."""
    known = {*sys.stdlib_module_names, *_NEWER_STANDARD_LIBRARY, *_OURS}
    found: dict[str, Path] = {}
    for path in sorted((_ROOT / side).rglob("*.py")):
        found |= {name: path.relative_to(_ROOT) for name in _imported(path.read_text()) if name not in known}
    return found


def _undeclared(modules: dict[str, Path], allowed: set[str]) -> list[str]:
    brings = packages_distributions()
    return [
        f"{path} imports {name}"
        for name, path in modules.items()
        if name not in SYSTEM_MODULES and not {_normal(one) for one in brings.get(name, [name])} & allowed
    ]


@pytest.mark.case("G10")
@pytest.mark.parametrize("side", _OURS)
def test_what_a_side_imports_is_declared(side: str) -> None:
    modules = _third_party(side)
    assert modules
    assert _undeclared(modules, _declared() | _declared(_EXTRA_OF_SIDE[side])) == []


def test_a_package_that_another_package_brings_counts_as_undeclared() -> None:
    """`packaging` is in every environment with pytest, and `click` in every one with celery."""
    found = {name: Path("x.py") for name in _imported("import packaging.version\ndef f():\n    from click import echo")}
    assert _undeclared(found, _declared()) == ["x.py imports packaging", "x.py imports click"]


def test_only_the_side_of_an_extra_imports_what_it_brings() -> None:
    for side in _OURS:
        brought = {EXTRAS[name] for name in _third_party(side) if name in EXTRAS}
        assert brought <= {_EXTRA_OF_SIDE[side]}


def test_each_module_of_an_extra_has_its_advice() -> None:
    """So that a verb whose package is missing names the extra, and the right one."""
    brings = packages_distributions()
    for side, extra in _EXTRA_OF_SIDE.items():
        modules = {
            name for name in _third_party(side) if {_normal(one) for one in brings.get(name, [])} & _declared(extra)
        }
        assert {EXTRAS.get(name) for name in modules} == {extra}


def test_what_is_declared_is_imported() -> None:
    brings = packages_distributions()
    used = {_normal(one) for side in _OURS for name in _third_party(side) for one in brings.get(name, [])}
    declared = set().union(*(_declared(extra) for extra in ("", *_EXTRA_OF_SIDE.values())))
    assert declared - used == _NOT_IMPORTED


def test_the_lock_of_the_product_is_a_part_of_the_lock_of_all() -> None:
    """With hashes, without addresses; each of our own declarations is in it."""
    whole, product = (_blocks(_ROOT / "ops/lock" / name) for name in ("requirements.txt", "runtime.txt"))
    assert product.items() <= whole.items()
    assert all("--hash=sha256:" in block for block in whole.values())
    assert not any("://" in block for block in whole.values())
    declared = set().union(*(_declared(extra) for extra in ("", *_EXTRA_OF_SIDE.values())))
    assert declared <= product.keys()
    assert not product.keys() & (_declared("dev") - {"typing-extensions"})


def _blocks(path: Path) -> dict[str, str]:
    """Each requirement of a lock file with its hashes, by its name."""
    blocks = re.split(r"\n(?=\S)", path.read_text().strip())
    return {_normal(re.split(r"[=\[ ]", block, maxsplit=1)[0]): block for block in blocks if not block.startswith("#")}
