"""Passphrases that libvirt keeps for QEMU: in memory alone, and told to nobody else.

    worker ─▶ libvirtd, which keeps them itself
    worker ─▶ virtqemud ─▶ virtsecretd, a daemon of its own; virtqemud keeps a connection to it for each of its clients

What is defined as ephemeral is lost when its keeper ends. virtsecretd ends by itself when it has had no client for a while
(`--timeout 120` in its unit), so whoever has a passphrase kept stays connected until it is forgotten.
[libvirt src/secret/virtsecretd.service.in; src/secret/secret_driver.c inhibits no shutdown]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import libvirt
from lxml import etree

from freezeframe.errors import EXIT_UNREACHABLE
from workers.hypervisor.disk import text
from workers.hypervisor.errors import HypervisorError, HypervisorUnreachableError, telling

#: The keeper's socket, as errors of its clients name it.
_KEEPER: Final = "virtsecretd"
_START: Final = (
    "Start virtsecretd on that host (`systemctl start virtsecretd.socket`; Debian: package libvirt-daemon-driver-secret), then "
    "capture again."
)
_INSTALL: Final = (
    "Install libvirt's driver for secrets on that host (Debian: package libvirt-daemon-driver-secret), restart libvirtd, and "
    "capture again."
)


class PassphrasesUnavailableError(HypervisorError):
    """libvirt runs, and has nobody who keeps passphrases."""

    code = "passphrases-unavailable"
    exit_code = EXIT_UNREACHABLE


@contextmanager
def telling_of(what: str) -> Iterator[None]:
    """Turn a libvirt error into one of ours, as `telling` does; who does not answer is the keeper, not libvirt itself."""
    try:
        with telling(what):
            yield
    except HypervisorUnreachableError as error:
        if _KEEPER not in str(error.__cause__):  # not in our own message, which may name a guest that is called so
            raise
        raise PassphrasesUnavailableError(error.message, advice=_START, libvirt_code=error.libvirt_code) from error
    except HypervisorError as error:
        if error.libvirt_code != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        raise PassphrasesUnavailableError(error.message, advice=_INSTALL, libvirt_code=error.libvirt_code) from error


def keep(connection: Any, secret_id: str, value: bytes, purpose: str) -> None:
    """Have a passphrase kept. Raises HypervisorError."""
    root = etree.Element("secret", ephemeral="yes", private="yes")
    etree.SubElement(root, "uuid").text = secret_id
    etree.SubElement(root, "description").text = purpose
    with telling_of(f"giving libvirt a passphrase: {purpose}"):
        connection.secretDefineXML(text(root)).setValue(value)


def has(connection: Any, secret_id: str) -> bool:
    """Return True if the passphrase is kept. Raises HypervisorError."""
    try:
        with telling_of(f"asking libvirt for passphrase {secret_id}"):
            connection.secretLookupByUUIDString(secret_id)
    except HypervisorError as error:
        if error.libvirt_code == libvirt.VIR_ERR_NO_SECRET:
            return False
        raise
    return True


def forget(connection: Any, secret_id: str) -> None:
    """Have a passphrase forgotten; it may be lost already. Raises HypervisorError."""
    try:
        with telling_of(f"taking passphrase {secret_id} from libvirt"):
            connection.secretLookupByUUIDString(secret_id).undefine()
    except HypervisorError as error:
        if error.libvirt_code not in {libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_NO_SUPPORT}:
            raise
