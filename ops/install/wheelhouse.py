"""The wheel, and a directory with everything that it depends on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_LOCK = _ROOT / "ops/lock"
#: What the distribution is made of.
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "freezeframe", "orchestrator", "workers")
#: PyPI has its sources only; they are compiled against the libvirt of the machine.
_COMPILED = "libvirt-python"


class InstallError(RuntimeError):
    """pip failed. The message has the end of its output."""


def pip(*arguments: str) -> None:
    """Run the pip of this interpreter's environment. Raises InstallError."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"pip {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")


def copy_sources(copy: Path) -> None:
    """Copy the sources that the distribution is made of to a new directory."""
    copy.mkdir(parents=True)
    for name in _SOURCES:
        source = _ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)


def build_wheel(directory: Path) -> Path:
    """Build the wheel from a copy of the checkout's sources into a directory; return its path."""
    copy = directory / "sources"
    copy_sources(copy)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(copy))
    shutil.rmtree(copy)
    (wheel,) = directory.glob("freezeframe-*.whl")
    return wheel


@dataclass(frozen=True)
class Wheelhouse:
    """A directory that `pip install --no-index --find-links` finds everything in."""

    directory: Path

    @classmethod
    def fill(cls, directory: Path, wheel: Path) -> Wheelhouse:
        """Fill a new directory for this machine's Python, with libvirt-python compiled once."""
        directory.mkdir()
        shutil.copy(wheel, directory)
        lock = str(_LOCK / "runtime.txt")
        pip("wheel", "--no-build-isolation", "--require-hashes", "--no-deps", "--wheel-dir", str(directory), "-r", lock)
        return cls(directory)

    @classmethod
    def fill_for(cls, directory: Path, wheel: Path, *, python: str, glibc: Sequence[int]) -> Wheelhouse:
        """Fill a new directory for another Python (`3.13`) on a Linux with a C library 2.x, for each x.

        What must be compiled is there as sources, with what it is built with.
        """
        directory.mkdir()
        shutil.copy(wheel, directory)
        wheels, sources = directory / "wheels.txt", directory / "sources.txt"
        _split((_LOCK / "runtime.txt").read_text(), wheels, sources)
        machine = [f"--platform=manylinux_2_{minor}_x86_64" for minor in glibc]
        target = [f"--python-version={python}", *machine, "--platform=manylinux2014_x86_64", "--only-binary=:all:"]
        common = ["download", "--require-hashes", "--no-deps", "--dest", str(directory)]
        pip(*common, *target, "-r", str(wheels))
        pip(*common, "--no-build-isolation", "-r", str(sources))
        pip(*common, "-r", str(_LOCK / "build.txt"))
        return cls(directory)


def _split(lock: str, wheels: Path, sources: Path) -> None:
    """Part a lock file into what has wheels and what is compiled."""
    blocks = re.split(r"\n(?=\S)", lock.strip())
    compiled = [block for block in blocks if block.startswith(f"{_COMPILED}==")]
    sources.write_text("\n".join(compiled) + "\n")
    wheels.write_text("\n".join(block for block in blocks if block not in compiled) + "\n")
