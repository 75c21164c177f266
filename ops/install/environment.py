"""A virtual environment of the distribution's Python with the wheel and some of its extras."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.install.wheelhouse import Wheelhouse, pip

#: Debian's own, and no other that PATH may have: the modules of Debian's packages are for this one.
PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Environment:
    """Where the wheel is installed."""

    directory: Path

    @classmethod
    def create(
        cls, directory: Path, wheelhouse: Wheelhouse, extras: Sequence[str] = (), *, system_packages: bool = False
    ) -> Environment:
        """Make an environment that has what the wheel and these extras declare, and nothing else.

        `system_packages`: it sees the distribution's packages too, of which one brings libnbd's module.
        """
        made = cls(directory)
        see = ["--system-site-packages"] if system_packages else []
        # without pip: a copy for each environment takes longer than all else in it
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", *see, str(directory)], check=True)
        wanted = f"freezeframe[{','.join(extras)}]" if extras else "freezeframe"
        index = ["--no-index", "--find-links", str(wheelhouse.directory)]
        # pip has --python from 22.3 on; --ignore-installed: a system's package is not the version that was locked
        pip("--python", str(made.python), "install", "--no-compile", "--ignore-installed", *index, wanted)
        return made

    @property
    def python(self) -> Path:
        return self.directory / "bin/python"

    @property
    def command(self) -> Path:
        return self.directory / "bin/freezeframe"
