# ruff: noqa: N802, S101  libvirt's names; a caller that asks wrongly is a failed test
"""libvirt's keeper of passphrases, for tests: libvirtd itself, or virtsecretd behind virtqemud."""

from __future__ import annotations

from dataclasses import dataclass, field

import libvirt
from lxml import etree

#: What virtqemud answers where virtsecretd does not run, and over a connection that had asked it before. [libvirt 11.3, seen]
NO_SOCKET = "Failed to connect socket to '/var/run/libvirt/virtsecretd-sock': Connection refused"
BROKEN = "internal error: client socket is closed"


def keeper_error(code: int, message: str = "it is so", domain: int = libvirt.VIR_FROM_SECRET) -> libvirt.libvirtError:
    made = libvirt.libvirtError(message)
    made.err = (code, domain, message, libvirt.VIR_ERR_ERROR, "", "", "", 0, 0)
    return made


def no_keeper() -> libvirt.libvirtError:
    """Return what virtqemud raises where virtsecretd does not run."""
    return keeper_error(libvirt.VIR_ERR_SYSTEM_ERROR, NO_SOCKET, libvirt.VIR_FROM_RPC)


@dataclass
class FakeKeeper:
    """A connection to libvirt as far as its secrets go. While `refusal` is set every call ends with it."""

    definitions: dict[str, str] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    refusal: libvirt.libvirtError | None = None
    refuses_value: bool = False

    def restart(self) -> None:
        """Lose all: every secret is ephemeral."""
        self.definitions.clear()
        self.values.clear()

    def secretDefineXML(self, xml: str) -> FakeSecret:
        self._check()
        root = etree.fromstring(xml)
        found = root.findtext("uuid")
        assert found
        assert (root.get("ephemeral"), root.get("private")) == ("yes", "yes")
        self.definitions[found] = xml
        return FakeSecret(self, found)

    def secretLookupByUUIDString(self, secret_id: str) -> FakeSecret:
        self._check()
        if secret_id not in self.definitions:
            raise keeper_error(libvirt.VIR_ERR_NO_SECRET)
        return FakeSecret(self, secret_id)

    def isAlive(self) -> bool:
        return True

    def _check(self) -> None:
        if self.refusal is not None:
            raise self.refusal


@dataclass
class FakeSecret:
    """One secret."""

    keeper: FakeKeeper
    secret_id: str

    def setValue(self, value: bytes) -> None:
        assert isinstance(value, bytes)
        if self.keeper.refuses_value:
            raise keeper_error(libvirt.VIR_ERR_INTERNAL_ERROR)
        self.keeper.values[self.secret_id] = value

    def undefine(self) -> None:
        del self.keeper.definitions[self.secret_id]
        self.keeper.values.pop(self.secret_id, None)
