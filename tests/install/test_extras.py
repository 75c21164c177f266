"""The wheel in an empty environment, with each extra alone: every verb loads, or names the package that it needs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from ops.install import Environment, Wheelhouse

pytestmark = pytest.mark.case("G10")

_ROOT = Path(__file__).parents[2]
#: The whole environment of an operator's shell, as far as it matters; nothing of the checkout or of its tools.
_SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "FREEZEFRAME_CONFIG": "/dev/null"}

#: What an advice names, by the words that it has.
_NAMES = {
    "host": "'freezeframe[host]'",
    "s3": "'freezeframe[s3]'",
    "control": "'freezeframe[control]'",
    "python3-libnbd": "apt install python3-libnbd",
}
#: `restore` is not among them: it needs libvirt only to define a guest, and libnbd only to write to an NBD export.
_OF_HOST = {"detach", "export", "guard", "import", "recover", "thaw"}
_WITH_NBD = {"export", "import"}


@dataclass(frozen=True)
class Case:
    """An installation without Debian's packages, and what each part of it may lack."""

    extras: tuple[str, ...]
    lacks: frozenset[str]
    verbs_lack: frozenset[str] = frozenset()


WHOLE = "whole"
CASES = {
    "base": Case((), frozenset({"host", "control", "s3", "python3-libnbd"}), frozenset(_OF_HOST)),
    "host": Case(("host",), frozenset({"control", "s3", "python3-libnbd"}), frozenset(_WITH_NBD)),
    "s3": Case(("s3",), frozenset({"host", "control", "python3-libnbd"}), frozenset(_OF_HOST)),
    "control": Case(("control",), frozenset({"host", "s3", "python3-libnbd"}), frozenset(_OF_HOST)),
    WHOLE: Case(("host", "control", "s3"), frozenset()),  # and this one sees Debian's packages
}


@dataclass(frozen=True)
class Installed:
    """An environment, and all that its Python says of what is installed in it."""

    case: Case
    environment: Environment
    found: dict[str, Any]


def _names_in(advices: Iterator[str]) -> set[str]:
    """The packages that these advices name; an advice that names none stands for itself."""
    named = set()
    for advice in advices:
        named |= {name for name, words in _NAMES.items() if words in advice} or ({advice} if advice else set())
    return named


@pytest.fixture(scope="module")
def environments(wheelhouse: Wheelhouse, whole: Environment, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("environments")

    @cache
    def made(name: str) -> Installed:
        case = CASES[name]
        environment = whole if name == WHOLE else Environment.create(directory / name, wheelhouse, case.extras)
        probe = [str(environment.python), "-I", str(Path(__file__).with_name("probe.py"))]
        done = subprocess.run(probe, env=_SHELL, cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Installed(case, environment, json.loads(done.stdout))

    return made


@pytest.fixture(params=CASES)
def installed(request: pytest.FixtureRequest, environments: Any) -> Installed:
    made: Installed = environments(request.param)
    return made


def test_it_is_the_wheel_that_is_tested(installed: Installed) -> None:
    assert Path(installed.found["freezeframe"]).is_relative_to(installed.environment.directory)
    assert len(installed.found["modules"]) > 150


def test_every_verb_loads_or_names_what_it_lacks(installed: Installed) -> None:
    lacking = {verb for verb, advice in installed.found["verbs"].items() if advice}
    assert lacking == installed.case.verbs_lack
    assert _names_in(iter(installed.found["verbs"].values())) <= installed.case.lacks


def test_every_entry_point_loads_or_names_what_it_lacks(installed: Installed) -> None:
    assert installed.found["entry_points"]
    assert _names_in(iter(installed.found["entry_points"].values())) <= installed.case.lacks


def test_every_module_loads_or_names_what_it_lacks(installed: Installed) -> None:
    """Verbs import late what few of their uses need; so each module is tried, not only those that a verb begins with."""
    modules = installed.found["modules"]
    assert _names_in(iter(modules.values())) == installed.case.lacks
    assert {name for name, advice in modules.items() if advice and name.startswith("freezeframe.")} <= {
        "freezeframe.repository.store.s3",
        "freezeframe.repository.store.s3_client",
        "freezeframe.repository.store.s3_fault",
        "freezeframe.repository.store.s3_head",
        "freezeframe.repository.store.s3_http",
        "freezeframe.repository.store.s3_listing",
        "freezeframe.repository.store.s3_parts",
    }


@pytest.mark.parametrize(
    ("case", "arguments", "package"),
    [
        ("base", ["worker", "control"], "host"),
        ("host", ["worker", "control"], "python3-libnbd"),
        ("host", ["orchestrator"], "control"),
        ("control", ["repo", "init", "s3://bucket/prefix"], "s3"),
        ("control", ["up", "--only", "host"], "host"),
        ("host", ["up", "--only", "host"], "python3-libnbd"),
        ("host", ["up", "--only", "orchestrator"], "control"),
    ],
)
def test_a_verb_that_finds_out_late_names_the_package_too(
    environments: Any, tmp_path: Path, case: str, arguments: list[str], package: str
) -> None:
    command = str(environments(case).environment.command)
    settings = {
        "FREEZEFRAME_HOST_ID": "host-a",
        "FREEZEFRAME_REPOSITORY": str(tmp_path / "repository"),
        "FREEZEFRAME_STATE_DIR": str(tmp_path / "state"),
        "FREEZEFRAME_SCRATCH_DIR": str(tmp_path / "scratch"),
        "FREEZEFRAME_RUN_DIR": str(tmp_path / "run"),
        "FREEZEFRAME_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    env = {**_SHELL, **settings}
    subprocess.run([command, "repo", "init"], env=env, check=True, capture_output=True)
    # at once: nothing that is waited for, as Redis, comes before it
    ran = subprocess.run([command, *arguments], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode in {1, 3, 5}
    assert _names_in(iter([ran.stderr])) == {package}, ran.stderr


def test_the_command_itself_answers_for_every_verb(environments: Any) -> None:
    """The script that pip makes, not only what is behind it."""
    whole: Installed = environments(WHOLE)
    for verb in whole.found["verbs"]:
        help_ = [str(whole.environment.command), verb, "--help"]
        done = subprocess.run(help_, env=_SHELL, check=True, capture_output=True, text=True)
        assert f"Usage: freezeframe {verb}" in done.stdout


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    files = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(_ROOT))
        for top in ("freezeframe", "orchestrator", "workers")
        for path in (_ROOT / top).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert files == wanted
