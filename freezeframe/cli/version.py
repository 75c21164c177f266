"""`freezeframe version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from freezeframe import __version__
from freezeframe.cli.output import AsJson, fields, out, print_json

#: What a bug report is asked for; those that are not installed are left out.
_LIBRARIES = ("celery", "kombu", "redis", "pydantic", "flower", "libvirt-python")


def show_version(*, as_json: AsJson = False) -> None:
    """Show the version of freezeframe and of what it stands on."""
    found = {"freezeframe": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if as_json:
        print_json(found)
    else:
        out().print(fields(found.items()))
