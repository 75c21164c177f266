"""Read what the disks of a guest are, each within a bound.

A stat on a network file system whose server is away may wait for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from freezeframe.bounded import answered
from freezeframe.contract.identity import DiskIdentity, Layer
from freezeframe.errors import FreezeframeError
from workers.hypervisor.domain import Domain
from workers.identity.data_file import data_file_of
from workers.identity.sources import DiskSources, Source, sources_of
from workers.identity.storage import layer_of

#: Seconds for the storage of one disk to say what it is: some stats.
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Unknown:
    """A disk of which it cannot be told what it is, and why."""

    why: str


def read_identities(
    domain: Domain, targets: list[str], patience_s: float = PATIENCE_S
) -> dict[str, DiskIdentity | Unknown]:
    """The identity of each disk, by target. Raises HypervisorError."""
    sources = sources_of(domain.live_xml())
    return {target: _identity(domain, target, sources.get(target), patience_s) for target in targets}


def _identity(domain: Domain, target: str, disk: DiskSources | None, patience_s: float) -> DiskIdentity | Unknown:
    if disk is None:
        return Unknown("its definition names no source")
    try:
        what = f"The storage of disk {target} of guest {domain.name} at {disk.active.place}"
        return answered(what, patience_s, lambda: _read(domain, disk))
    except OSError as error:
        return Unknown(f"{error.filename or disk.active.place}: {error.strerror}")
    except FreezeframeError as error:  # no answer in time, or a volume that libvirt does not find
        return Unknown(error.message)


def _read(domain: Domain, disk: DiskSources) -> DiskIdentity:
    active, named = _layers(domain, disk.active)
    stated = None if disk.data_file is None else _layers(domain, disk.data_file)[0]
    below = [layer for source in disk.backing for layer in _layers(domain, source, backing=True) if layer is not None]
    return DiskIdentity(active=active, data_file=stated or named, backing=tuple(below))


def _layers(domain: Domain, source: Source, *, backing: bool = False) -> tuple[Layer, Layer | None]:
    """A layer, and the data file that it names itself."""
    path = domain.volume_path(*source.volume) if source.volume else source.path
    if path is None or not path.startswith("/"):
        return Layer(
            kind=source.kind, place=source.place, facts=dict(source.facts) or {"name": path or source.place}
        ), None
    data_file = data_file_of(path) if source.is_qcow2 else None
    layer = layer_of(path, backing=backing)
    if data_file is None:
        return layer, None
    if not data_file.startswith("/"):
        return layer, Layer(kind="named", place=data_file, facts={"name": data_file})
    return layer, layer_of(data_file, backing=backing)
