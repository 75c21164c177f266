"""Name the package that a module which cannot be imported comes from, and how to install it.

extra     modules that PyPI has; `pip install 'freezeframe[NAME]'` brings them
system    modules and shared libraries that only the distribution has
"""

from __future__ import annotations

import re
import shlex
import sys
from typing import Final

from freezeframe.errors import FreezeframeError

#: The extra that brings each top-level module which not every machine needs.
EXTRAS: Final = {
    "libvirt": "host",
    "libvirt_qemu": "host",
    "libvirtmod": "host",
    "libvirtmod_qemu": "host",
    "lxml": "host",
    "obstore": "s3",
    "urllib3": "s3",
    "flower": "control",
    "prometheus_client": "control",
}
#: The Debian package that brings each module which is not on PyPI.
SYSTEM_MODULES: Final = {"nbd": "python3-libnbd", "libnbdmod": "python3-libnbd"}
#: The Debian package that brings each shared library which a module from PyPI needs.
SYSTEM_LIBRARIES: Final = {
    "libvirt.so": "libvirt0",
    "libvirt-qemu.so": "libvirt0",
    "libvirt-lxc.so": "libvirt0",
    "libnbd.so": "libnbd0",
}

#: The dynamic loader's words, which Python makes an ImportError of.
_LIBRARY = re.compile(r"^(?P<library>[\w.+-]+?\.so)[\w.]*: cannot open shared object file")


class PackageMissingError(FreezeframeError):
    """A package that this machine lacks is needed."""

    code = "package-missing"


def remedy(error: ImportError) -> str | None:
    """Return the advice that makes this import succeed, or None if the import does not come from a package that is optional."""
    library = _LIBRARY.match(str(error))
    if library is not None:
        package = SYSTEM_LIBRARIES.get(library["library"])
        return f"The Debian package {package} is needed: apt install {package}" if package else None
    name = (error.name or "").partition(".")[0]
    if name in SYSTEM_MODULES:
        return _system_module(SYSTEM_MODULES[name])
    return need_extra(EXTRAS[name]) if name in EXTRAS else None


def need_extra(extra: str) -> str:
    """Return the advice to install an extra into this very environment."""
    return f"The {extra} extra is needed: {shlex.quote(sys.executable)} -m pip install 'freezeframe[{extra}]'"


def _system_module(package: str) -> str:
    """Return the advice for a module that only the distribution's own Python has, or an environment that sees its packages."""
    advice = f"The Debian package {package} is needed: apt install {package}"
    if sys.prefix == sys.base_prefix:
        return advice
    see = f"/usr/bin/python3 -m venv --system-site-packages {shlex.quote(sys.prefix)}"
    return f"{advice}. This environment must see Debian's packages; if it does not: {see}"


def package_missing(error: ImportError) -> PackageMissingError | None:
    """Return the error to tell instead of this one, or None if it is a defect."""
    advice = remedy(error)
    if advice is None:
        return None
    return PackageMissingError(f"A package is missing on this machine: {error}.", advice=advice)
