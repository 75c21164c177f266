"""The README of an image set: how to use it with virsh and qemu-img alone. Pure."""

from __future__ import annotations

import shlex
from pathlib import Path

from freezeframe.naming import virsh_word
from freezeframe.printable import one_line
from workers.exchange.description import DEFINE, FILE, SUMS, Description, ExportedGuest

_WORTH = {
    "group": "all guests show one instant",
    "guest": "each guest shows one instant of its own, at which it was held still",
    "crash": "as after a power cut; the disks of one guest share an instant",
}


#: Has the definitions name the images that are beside them, wherever that is: in place of what stands before the last slash.
#: The path is written as XML, so that no character of it means anything. It is typed into a shell within single quotes, so it
#: has none. A path that is no text fails before a file is touched.
_HERE = (
    "import glob, html, os, re, pathlib; "
    r'here = re.sub(r"[\t\n\r]", lambda c: f"&#{ord(c[0])};", html.escape(os.getcwd())) + "/"; '
    rf'[pathlib.Path(x).write_bytes(t) for x in glob.glob("{DEFINE}/*.xml") for t in [re.sub('
    r'r"(<source [^>]*?\bfile=\")([^\"]*/)([^\"/]*)", '
    "lambda m: m[1] + (here if os.path.exists(html.unescape(m[3])) else m[2]) + m[3], "
    "pathlib.Path(x).read_bytes().decode()).encode()]]"
)


def readme(description: Description, directory: Path) -> str:
    """`directory` is where the set was made, which the definitions name."""
    guests = "\n".join(_guest(guest) for guest in description.guests)
    return f"""\
Guests as they were captured
============================

Capture {description.capture_id}, taken at {description.instant.isoformat()},
exported by freezeframe {description.program}. Consistency when it was captured: {description.consistency.value}
({_WORTH[description.consistency.value]}).

Nothing of freezeframe is needed to use these files: virsh, qemu-img and
coreutils do, and Python 3 if they are moved. Every image stands alone, without a backing file.

{guests}
Check that all files are as they were exported
----------------------------------------------

    sha256sum -c {SUMS}
    qemu-img check ./FILE.qcow2        # of an image in itself; not for raw ones

Bring a guest back, on a host with libvirt
------------------------------------------

The definitions in {DEFINE}/ expect the images at
{one_line(str(directory))}
If that is not where they are now, say so to the definitions first, from
within this directory (with Python 3; the checksums of the definitions
are others then):

    python3 -c '{_HERE}'

Then, for a guest that libvirt does not know by that name or UUID, type what
stands beside its disks above: virsh define and virsh start.

A guest writes to the image that it is started from: copy the image first
if you want to keep it as it was captured. NAME.xml, beside the images, is the
definition exactly as it was captured, with the disks where they were then.

Look into an image without a guest, or make another kind of it
--------------------------------------------------------------

    qemu-img info ./FILE
    qemu-img convert -O vmdk ./FILE.qcow2 OTHER.vmdk   # or vdi, vhdx, vpc, raw
    qemu-nbd --read-only --connect=/dev/nbd0 FILE.qcow2 # then mount /dev/nbd0p1

Bring it back into a repository of freezeframe
----------------------------------------------

    freezeframe import THIS-DIRECTORY

{FILE} describes this set to programs.
"""


def _guest(guest: ExportedGuest) -> str:
    lines = [f"Guest {guest.name} ({guest.guest_uuid}), from host {guest.host_id}:"]
    lines += [
        f"    {disk.target:<6} {disk.file}  ({disk.size_bytes} bytes, {disk.format.value})" for disk in guest.disks
    ]
    lines += [f"    {one.target:<6} not captured: {one_line(one.reason)}" for one in guest.skipped]
    lines += [f"    note: {one_line(warning)}" for warning in guest.warnings]
    if guest.define:
        lines.append(
            f"    virsh define {shlex.quote(guest.define)} && virsh start {virsh_word(guest.name, guest.guest_uuid)}"
        )
    if guest.define and guest.autostart:
        lines.append(f"    virsh autostart {virsh_word(guest.name, guest.guest_uuid)}    # it started with its host")
    return "\n".join(lines) + "\n"
