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
from ops.install import Wheelhouse, copy_sources

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


def test_a_machine_that_is_both_has_what_each_has() -> None:
    _, host, control, both = _commands()
    assert _packages(both) == [*_packages(host), *(one for one in _packages(control) if one not in _packages(host))]
    assert both[1] == host[1]
    assert "redis-server" in _packages(both)  # which `freezeframe up` starts


#: The machine's own release is what the other tests of this folder install on.
_OWN = platform.freedesktop_os_release()["VERSION_ID"]
_PARAMS = [pytest.param(name, marks=[pytest.mark.long] if name == _OWN else []) for name in RELEASES]


@pytest.fixture(scope="module", params=_PARAMS)
def machine(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Debian with the packages that README names for a host, and a wheelhouse for its Python."""
    release = RELEASES[request.param]
    tree = Tree.ensure(release.name, [package for block in _commands() for package in _packages(block)])
    work = tmp_path_factory.mktemp(release.name)
    house = Wheelhouse.fill_for(work / "wheelhouse", wheel, python=release.python, glibc=release.glibc)
    shutil.copy(Path(__file__).with_name("probe.py"), work)
    return tree, work, house


#: Instead of PyPI.
_INDEX = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/mnt/wheelhouse", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def built(machine: Any) -> Any:
    """That Debian, with the wheel that README's first commands have built there, where the next ones look for it."""
    tree, work, _ = machine
    checkout = work / "checkout"
    copy_sources(checkout)
    install, *commands = _commands()[0]
    assert install == ["apt", "install", "python3-venv"]
    for command in commands:
        tree.run(command, work, env=_INDEX, directory="/mnt/checkout")
    (wheel,) = (checkout / "dist").glob("*.whl")
    shutil.copy(wheel, work)
    return tree, work


@pytest.mark.parametrize("node", ["host", "control", "both"])
def test_the_readmes_commands_install_it(built: Any, node: str) -> None:
    tree, work = built
    _, *blocks = _commands()
    _, venv, pip, link = dict(zip(("host", "control", "both"), blocks, strict=True))[node]
    environment = f"/mnt/{node}"
    assert [venv[-1], link[-1]] == ["/opt/freezeframe", "/usr/local/bin/freezeframe"]
    tree.run([*venv[:-1], environment], work)
    tree.run([pip[0].replace("/opt/freezeframe", environment), *pip[1:]], work, env=_INDEX)
    found = json.loads(tree.run([f"{environment}/bin/python", "-I", "probe.py"], work).stdout)
    named = {advice.rpartition("pip install ")[2] for advice in found["modules"].values() if advice}
    others = {"host": {"control", "s3"}, "control": {"host", "s3"}, "both": {"s3"}}[node]
    assert {name for name in named if name.startswith("'freezeframe[")} == {f"'freezeframe[{one}]'" for one in others}
    if node != "control":
        assert {verb for verb, advice in found["verbs"].items() if advice} == set()
        assert not any("nbd" in advice for advice in found["modules"].values())
    if node == "both":  # all that `freezeframe up` looks for before it starts anything
        tree.run(["which", "redis-server"], work)
        modules = '"libvirt", "lxml", "nbd", "prometheus_client", "flower"'
        looks = f"from freezeframe.cli.up import _expect_modules; _expect_modules({modules})"
        tree.run([f"{environment}/bin/python", "-I", "-c", looks], work)
    tree.run([f"{environment}/bin/freezeframe", "version", "--json"], work)
