"""A lab: its hosts, their guests, and how all of it comes and goes."""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from ops.lab import daemon, disk, network
from ops.lab.disk import Image
from ops.lab.domain import domain_xml
from ops.lab.errors import LabError
from ops.lab.guest import BOOT_TIMEOUT_S, Guest
from ops.lab.host import Host
from ops.lab.kit import Kit
from ops.lab.plan import check_place, first_state
from ops.lab.spec import DiskSpec, GuestSpec, LabSpec, WorkloadSpec, blank
from ops.lab.state import FILE_NAME, LabState

#: On top of a boot's: both together, with 256 MiB, were seen to take more than 90 s on two busy cores.
_FILL_S_PER_MIB = 0.5

#: No host has this name. libvirt gives these files to QEMU's user and counts in their attributes who uses them; a host that
#: is killed never gives them back, and the next lab's libvirt would refuse them.
_OWN_KIT = ".kit"

_T = TypeVar("_T")


class Lab:
    """Hosts and guests in one directory. Made by `up` or found by `attach`; as a context manager it ends with `down`."""

    def __init__(self, directory: Path, state: LabState) -> None:
        self.directory = directory
        self._state = state
        self.hosts = {host.name: Host(directory, state, host) for host in state.hosts}
        self._launchers: list[subprocess.Popen[str]] = []

    @classmethod
    def up(cls, spec: LabSpec, directory: Path) -> Self:
        """Make a lab in a directory that is new or empty. What fails half-way is taken down again."""
        directory = directory.absolute()
        check_place(directory, spec)
        kit = Kit.ensure(spec.kit_cache)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(daemon.PASSABLE)
        daemon.check_passable(directory)
        state = first_state(spec, kit)
        state.kit = directory / _OWN_KIT
        state.save(directory)
        lab = cls(directory, state)
        try:
            kit.copy_to(state.kit)
            lab._start(spec)
        except BaseException:
            lab.down()
            raise
        return lab

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """A lab that another process made. Raises NotALabError if there is none."""
        directory = directory.absolute()
        return cls(directory, LabState.load(directory))

    @property
    def address(self) -> IPv4Address:
        """The machine's address as the hosts see it: what listens there (Redis, say) is in reach of all of them."""
        return self._state.address

    @property
    def accelerator(self) -> str:
        """`kvm` or `qemu`, libvirt's name for emulation."""
        return self._state.accelerator

    def host(self, name: str) -> Host:
        if name not in self.hosts:
            raise LabError(f"no host {name}; there are {', '.join(self.hosts)}")
        return self.hosts[name]

    @property
    def guests(self) -> dict[str, Guest]:
        """By name; asked of libvirt, so it includes guests that somebody else defined."""
        return {
            domain.name(): Guest(host, domain.name())
            for host in self.hosts.values()
            if host.is_up
            for domain in host.connection().listAllDomains()
        }

    def guest(self, name: str) -> Guest:
        guests = self.guests
        if name not in guests:
            raise LabError(f"no guest {name}; there are {', '.join(guests) or 'none'}")
        return guests[name]

    def create_guest(
        self,
        host: str,
        name: str,
        disks: Sequence[DiskSpec] = blank(1),
        *,
        agent: bool = True,
        uuid: str | None = None,
        memory_mib: int = 192,
        vcpus: int = 1,
        workload: WorkloadSpec = WorkloadSpec(),  # noqa: B008 - frozen
    ) -> Guest:
        """Define a persistent guest and start it; `wait_ready` waits until it has booted."""
        spec = GuestSpec(
            name=name,
            uuid=uuid,
            disks=tuple(disks),
            agent=agent,
            memory_mib=memory_mib,
            vcpus=vcpus,
            workload=workload,
        )
        return self._create(self.host(host), spec)

    def _create(self, host: Host, spec: GuestSpec) -> Guest:
        guest = Guest(host, spec.name)
        guest.folder.mkdir(exist_ok=True)
        guest.folder.chmod(daemon.PASSABLE)
        images = {one.target: disk.create(guest.folder, one) for one in spec.disks}
        kit = Kit(self._state.kit)
        host.connection().defineXML(domain_xml(spec, images, kit, self._state.accelerator, guest.serial))
        guest.start()
        return guest

    @contextmanager
    def boots(
        self, host: str, images: Sequence[Image], *, name: str = "scratch", timeout_s: float = BOOT_TIMEOUT_S
    ) -> Iterator[Guest]:
        """A guest booted from these images as vda, vdb, …, its agent answering, its writers at rest; gone afterwards.

        It writes to overlays, so the images stay as they are. Nothing is filled in: what is on the disks was there.
        """
        folder = self.host(host).images / name
        folder.mkdir()
        folder.chmod(daemon.PASSABLE)
        try:
            disks = [
                disk.overlay(folder, one.target, image) for one, image in zip(blank(len(images)), images, strict=True)
            ]
            guest = self.create_guest(host, name, disks, workload=WorkloadSpec(running=False, fill_mib=0))
            try:
                guest.wait_ready(timeout_s)
                yield guest
            finally:
                guest.remove()
        finally:
            shutil.rmtree(folder)

    def _start(self, spec: LabSpec) -> None:
        network.add_bridge(self._state.bridge, IPv4Interface((self.address, self._state.subnet.prefixlen)))
        # One after the other up to here, so that the state is written by one at a time; the daemons start side by side.
        for host in self.hosts.values():
            self._launchers.append(host.start(lambda: self._state.save(self.directory)))
        _each(Host.start_libvirtd, self.hosts.values())
        guests = [(self._create(self.host(place.host), place.guest), place.guest) for place in spec.guests]
        _each(lambda made: made[0].wait_ready(_boot_timeout_s(made[1])), guests)

    def down(self) -> None:
        """Nothing is left: no process, mount, interface or file. May be called again, and after a crash at any point.

        The state file goes last: until then, another `down` can finish what this one began.
        """
        for host in self.hosts.values():
            host.kill()
        for launcher in self._launchers:
            launcher.communicate()
        network.remove(self._state.bridge)
        for path in self.directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != FILE_NAME:
                path.unlink()
        (self.directory / FILE_NAME).unlink()
        with suppress(FileNotFoundError):
            self.directory.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _boot_timeout_s(spec: GuestSpec) -> float:
    return BOOT_TIMEOUT_S + _FILL_S_PER_MIB * spec.workload.fill_mib * len(spec.disks)


def _each(act: Callable[[_T], None], things: Iterable[_T]) -> None:
    """Side by side; raises the first error when all have ended."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(act, things):
            pass
