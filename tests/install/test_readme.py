"""The commands of README's section on installing, run on Debian 12 and on Debian 13 as they stand there."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.debian import Tree
from ops.install import Wheelhouse

pytestmark = pytest.mark.case("G10")

_ROOT = Path(__file__).parents[2]


def _commands() -> list[list[list[str]]]:
    """The blocks of commands in that section, each command by its words."""
    section = (_ROOT / "README.md").read_text().partition("## Install it\n")[2].partition("\n## ")[0]
    blocks: list[list[list[str]]] = [[]]
    for line in section.splitlines():
        if line.startswith("    "):
            blocks[-1].append(shlex.split(line))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _packages(block: list[list[str]]) -> list[str]:
    (first, *_) = block
    assert first[:2] == ["apt", "install"]
    return first[2:]


@dataclass(frozen=True)
class Release:
    """A Debian, with the version of its Python and those of C libraries that its wheels may be for."""

    name: str
    python: str
    glibc: tuple[int, ...]


RELEASES = {
    "12": Release("bookworm", "3.11", (17, 26, 28, 34, 36)),
    "13": Release("trixie", "3.13", (17, 26, 28, 34, 36, 39, 41)),
}


def test_the_readme_has_the_wheel_the_host_and_the_control_node() -> None:
    wheel, host, control = _commands()
    assert wheel == [["python3", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "dist", "."]]
    assert "python3-libnbd" in _packages(host)
    assert "redis-server" in _packages(control)


#: The machine's own release is what the other tests of this folder install on.
_OWN = platform.freedesktop_os_release()["VERSION_ID"]
_PARAMS = [pytest.param(name, marks=[pytest.mark.long] if name == _OWN else []) for name in RELEASES]


@pytest.fixture(scope="module", params=_PARAMS)
def machine(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Debian with the packages that README names for a host, and a wheelhouse for its Python."""
    release = RELEASES[request.param]
    _, host, control = _commands()
    tree = Tree.ensure(release.name, [*_packages(host), *_packages(control)])
    work = tmp_path_factory.mktemp(release.name)
    house = Wheelhouse.fill_for(work / "wheelhouse", wheel, python=release.python, glibc=release.glibc)
    shutil.copy(wheel, work)
    shutil.copy(Path(__file__).with_name("probe.py"), work)
    return tree, work, house


@pytest.mark.parametrize(("node", "extra"), [("host", "host"), ("control", "control")])
def test_the_readmes_commands_install_it(machine: Any, node: str, extra: str) -> None:
    tree, work, _ = machine
    _, host, control = _commands()
    _, venv, pip, link = host if node == "host" else control
    environment = f"/mnt/{node}"
    assert [venv[-1], link[-1]] == ["/opt/freezeframe", "/usr/local/bin/freezeframe"]
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt/wheelhouse", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    tree.run([*venv[:-1], environment], work)
    tree.run([pip[0].replace("/opt/freezeframe", environment), *pip[1:]], work, env=index)
    found = json.loads(tree.run([f"{environment}/bin/python", "-I", "probe.py"], work).stdout)
    named = {advice.rpartition("pip install ")[2] for advice in found["modules"].values() if advice}
    others = {"host": {"control", "s3"}, "control": {"host", "s3"}}[extra]
    assert {name for name in named if name.startswith("'freezeframe[")} == {f"'freezeframe[{one}]'" for one in others}
    if node == "host":
        assert {verb for verb, advice in found["verbs"].items() if advice} == set()
        assert not any("nbd" in advice for advice in found["modules"].values())
    tree.run([f"{environment}/bin/freezeframe", "version", "--json"], work)
