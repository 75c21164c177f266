"""Debian packages by apt's own means: the machine's mirrors, its keys; unpacked, never installed."""

import re
import subprocess
from pathlib import Path

from ops.lab.errors import LabError

_KERNEL = "linux-image-cloud-amd64"
_AGENT = "qemu-guest-agent"


def _output(*argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def _field(record: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", record, re.MULTILINE)
    return found[1] if found else ""


def _records(*packages: str) -> dict[str, str]:
    """What apt knows of the versions it would take; asks the mirror only if it has never heard of one of them.

    One call for all, because apt reads its whole cache each time: most of a second.
    """
    for attempt in range(2):
        try:
            shown = _output("apt-cache", "show", "--no-all-versions", *packages)
        except LabError:
            if attempt:
                raise
            _output("apt-get", "-q", "update")
        else:
            return {_field(record, "Package"): record for record in shown.split("\n\n")}
    raise AssertionError


def _version(package: str) -> str:
    return _field(_records(package)[package], "Version")


def candidates() -> tuple[str, dict[str, str]]:
    """The kernel's package, and the versions of it and of the agent.

    It is the one behind Debian's kernel for virtual machines: small, and ext4 is built in.
    """
    records = _records(_KERNEL, _AGENT)
    names: list[str] = re.findall(r"linux-image-\S+", _field(records[_KERNEL], "Depends"))
    if not names:
        raise LabError(f"{_KERNEL} depends on no kernel image")
    versions = {names[0]: _field(records[_KERNEL], "Version"), _AGENT: _field(records[_AGENT], "Version")}
    return names[0], versions


def agent_packages() -> set[str]:
    """The agent and those of its libraries that are not installed here, as a simulated installation names them."""
    plan = _output("apt-get", "-q", "--simulate", "--no-install-recommends", "install", _AGENT)
    return {_AGENT, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)}


def installed_versions(*names: str) -> dict[str, str]:
    lines = _output("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names).splitlines()
    return {name: version for name, _, version in (line.partition(" ") for line in lines)}


def fetch(package: str, downloads: Path) -> Path:
    """The package's file, downloaded if it is not there yet; a stale list of packages is refreshed once."""
    for attempt in range(3):
        version = _version(package)
        # apt writes the epoch's colon as %3a in file names.
        found = sorted(downloads.glob(f"{package}_{version.replace(':', '%3a')}_*.deb"))
        if found:
            return found[0]
        try:
            _download(f"{package}={version}", downloads)
        except LabError:
            if attempt:
                raise
            _output("apt-get", "-q", "update")
    raise LabError(f"apt-get download {package} left no file of version {version} in {downloads}")


def _download(package: str, downloads: Path) -> None:
    # Unsandboxed, because apt's own user cannot write into a directory of root's and would warn about it.
    _output("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package, cwd=downloads)


def unpack(package: Path, tree: Path) -> None:
    _output("dpkg-deb", "--extract", str(package), str(tree))
