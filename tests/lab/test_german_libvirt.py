"""A libvirtd with German messages: what a guest's agent answers is understood all the same.

libvirtd translates by LANG of its host, which systemd's units have, with the catalogue of libvirt-l10n. Here the catalogue is
the test's own, so that it needs no package, and only this daemon is told of it.
"""

from __future__ import annotations

import gettext
import struct
from pathlib import Path
from typing import Final

import libvirt
import pytest

from ops.lab import Lab, LabSpec

from .agents_answers import check_understood

#: By libvirt's own words, as 9.0 has them and as later versions do.
GERMAN: Final = {
    "internal error: %s": "Interner Fehler: %s",
    "internal error: %1$s": "Interner Fehler: %1$s",
    "guest agent command failed: %s": "Befehl an den Agenten misslang: %s",
    "guest agent command failed: %1$s": "Befehl an den Agenten misslang: %1$s",
    "unable to execute QEMU agent command '%s': %s": "Der Agent hat '%s' verweigert: %s",
    "unable to execute QEMU agent command '%1$s': %2$s": "Der Agent hat '%1$s' verweigert: %2$s",
}


@pytest.mark.case("P4", "G3")
def test_what_an_agent_answers_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = tmp_path / "locale/de/LC_MESSAGES/libvirt.mo"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes(compiled(GERMAN))
    with Lab.up(LabSpec.of(hosts=1, guests=1, disks=1), tmp_path / "lab") as lab:
        host, guest = lab.host("host-a"), lab.guest("alpha")
        host.kill_libvirtd()
        monkeypatch.setenv("LC_ALL", "C.UTF-8")  # a locale that every machine has, and other than C: LANGUAGE counts
        monkeypatch.setenv("LANGUAGE", f"../../..{tmp_path}/locale/de")  # seen from /usr/share/locale
        host.start_libvirtd()
        guest.wait_agent()
        check_understood(guest, "Interner Fehler: Der Agent hat '{command}' verweigert", libvirt.VIR_ERR_INTERNAL_ERROR)


def compiled(texts: dict[str, str]) -> bytes:
    """Return a message catalogue. [GNU gettext manual, The Format of GNU MO Files]"""
    entries = [("", "Content-Type: text/plain; charset=UTF-8\n"), *sorted(texts.items())]
    at = 28 + 16 * len(entries)
    tables, data = [b"", b""], b""
    for side in (0, 1):
        for entry in entries:
            text = entry[side].encode()
            tables[side] += struct.pack("<II", len(text), at + len(data))
            data += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, 0)
    return head + tables[0] + tables[1] + data


def test_the_catalogue_is_one_that_gettext_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.mo"
    path.write_bytes(compiled(GERMAN))
    with path.open("rb") as file:
        translations = gettext.GNUTranslations(file)
    assert {words: translations.gettext(words) for words in GERMAN} == GERMAN
