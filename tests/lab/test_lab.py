"""The lab does what tests on it rely on, and leaves nothing behind."""

import itertools
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from ops.lab import DiskSpec, Image, Lab, LabError, LabSpec, NotALabError, Record, WorkloadSpec, blank, disk_log
from ops.lab.guest import Guest
from ops.lab.network import names as interfaces
from ops.lab.process import ProcessId
from ops.lab.state import LabState
from ops.lab.waiting import wait_for

CHECKOUT = Path(__file__).parents[2]
HOLD_S = 3.0
#: Seconds for what takes a moment, on a machine with much else to do.
PATIENCE_S = 120.0


def reaches(argv: list[str], address: str) -> bool:
    ping = [*argv, "busybox", "ping", "-c1", "-W1", address]
    return subprocess.run(ping, stdout=subprocess.DEVNULL, check=False).returncode == 0


def in_namespace(inode: str) -> list[int]:
    """The processes in a PID namespace, by a scan of all."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if str(entry.readlink()) == inode:
                found.append(int(entry.parts[2]))
        except FileNotFoundError:
            continue
    return found


def test_guests_on_both_hosts_are_ready_and_their_agents_answer(lab: Lab) -> None:
    placed = {name: guest.host.name for name, guest in lab.guests.items()}
    assert placed == {"alpha": "host-a", "beta": "host-a", "gamma": "host-b"}
    for guest in lab.guests.values():
        assert guest.fsfreeze_status() == "thawed"
        assert guest.mounts() == ["vda", "vdb"]
        assert guest.shell("hostname").strip() == guest.name


def test_hosts_take_themselves_for_two_machines(lab: Lab) -> None:
    a, b = lab.host("host-a"), lab.host("host-b")
    assert [host.run(["hostname"]).stdout.strip() for host in (a, b)] == ["host-a", "host-b"]
    assert a.connection().getCapabilities() != b.connection().getCapabilities()  # the host's UUID
    mine = ["/var/lib/freezeframe/mine", "/run/freezeframe/mine"]
    a.run(["touch", *mine])
    try:
        assert (a.root / "var/lib/freezeframe/mine").exists()
        assert "mine" not in b.run(["ls", "/var/lib/freezeframe", "/run/freezeframe"]).stdout.split()
        assert not Path("/run/freezeframe/mine").exists()
    finally:
        a.run(["rm", *mine])  # later tests on this lab look for what captures left there


def test_a_freeze_shows_as_a_gap_in_what_the_workload_remembers(lab: Lab) -> None:
    alpha = lab.guest("alpha")
    wait_for("a few records", lambda: alpha.acked("vdb") > 3, PATIENCE_S)
    before = {disk: alpha.acked(disk) for disk in ("vda", "vdb")}

    assert alpha.domain.fsFreeze() == 2
    assert alpha.fsfreeze_status() == "frozen"
    time.sleep(HOLD_S)
    assert alpha.domain.fsThaw() == 2

    # Counted from the thaw: records go on until the freeze bites, and the one that it holds comes last of all.
    thawed = {disk: alpha.acked(disk) for disk in ("vda", "vdb")}
    for disk in ("vda", "vdb"):
        wait_for("records after the thaw", partial(_wrote, alpha, disk, thawed[disk] + 2), PATIENCE_S)
        log = alpha.workload_log(disk)
        # From one acknowledgement to the next: what the writer does between two of its records does not shorten that.
        assert max(_gaps_s(log, before[disk])) > HOLD_S - 0.5
        assert [record.seq for record in log] == list(range(log[0].seq, log[0].seq + len(log)))


def _gaps_s(log: list[Record], after: int) -> list[float]:
    return [later.after_s - one.after_s for one, later in itertools.pairwise(log) if later.seq > after]


def _wrote(guest: Guest, disk: str, records: int) -> bool:
    return guest.acked(disk) > records


def test_the_workload_stops_starts_and_changes_its_pace(lab: Lab) -> None:
    beta = lab.guest("beta")
    beta.stop_workload()
    stopped = beta.acked("vda")
    digest = beta.sha256("/mnt/vda/log")
    time.sleep(1)
    assert (beta.acked("vda"), beta.sha256("/mnt/vda/log")) == (stopped, digest)
    assert disk_log(beta.read_file("/mnt/vda/log").decode())[-1][0] == stopped

    beta.set_workload(interval_s=0.1)
    beta.start_workload()
    wait_for("records after the start", lambda: beta.acked("vda") > stopped + 5, PATIENCE_S)
    beta.set_workload(interval_s=0.2)


def test_files_go_into_a_guest_and_come_back(lab: Lab) -> None:
    beta = lab.guest("beta")
    data = bytes(range(256)) * 5000
    beta.write_file("/mnt/vdb/file", data)
    assert beta.read_file("/mnt/vdb/file") == data
    assert beta.exec(["/bin/sh", "-c", "echo out; exit 3"]) == (3, "out\n")


def test_first_contents_differ_from_disk_to_disk_and_do_not_change(lab: Lab) -> None:
    gamma = lab.guest("gamma")
    paths = [f"/mnt/{disk}/fill-{kind}" for disk in ("vda", "vdb") for kind in ("random", "text")]
    digests = [gamma.sha256(path) for path in paths]
    assert len(set(digests)) == 4
    assert [gamma.sha256(path) for path in paths] == digests
    assert gamma.shell("stat -c %s /mnt/vda/fill-random").strip() == str(4 << 20)


def test_acknowledged_records_survive_a_pulled_plug_and_a_copy_of_the_disks_boots(lab: Lab) -> None:
    gamma = lab.guest("gamma")
    wait_for("records", lambda: gamma.acked("vdb") > 5, PATIENCE_S)
    acked = {disk: gamma.acked(disk) for disk in ("vda", "vdb")}
    filled = gamma.sha256("/mnt/vda/fill-random")
    gamma.destroy()

    images = [Image(gamma.image(disk), "qcow2") for disk in ("vda", "vdb")]
    untouched = [image.path.stat().st_mtime_ns for image in images]
    with lab.boots("host-b", images) as copy:
        assert copy.sha256("/mnt/vda/fill-random") == filled
        for disk, last in acked.items():
            seqs = [seq for seq, _ in disk_log(copy.read_file(f"/mnt/{disk}/log").decode())]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) >= last
    assert [image.path.stat().st_mtime_ns for image in images] == untouched
    assert "scratch" not in lab.guests

    gamma.start()
    gamma.wait_ready()
    wait_for("the writer to go on where it was", lambda: gamma.acked("vda") > acked["vda"], PATIENCE_S)


def test_odd_devices_are_there_and_the_power_button_works(lab: Lab) -> None:
    iso = lab.host("host-b").images / "odd.iso"
    iso.write_bytes(bytes(1 << 20))
    disks = [
        *blank(1, 64),
        DiskSpec(target="vdb", size_mib=64, transient=True),
        DiskSpec(target="vdc", size_mib=64, format="raw"),
        DiskSpec(target="hda", device="cdrom", format="raw", source=iso),
        DiskSpec(target="fda", device="floppy", format="raw", size_mib=1),
    ]
    odd = lab.create_guest("host-b", "odd", disks, agent=False, workload=WorkloadSpec(fill_mib=2))
    try:
        xml = odd.domain.XMLDesc()
        assert all(part in xml for part in ("device='cdrom'", "device='floppy'", "<transient/>", "type='raw'"))
        assert "org.qemu.guest_agent.0" not in xml
        odd.wait_ready(agent=False)
        odd.shutdown(acpi=True)
    finally:
        odd.remove()


def test_a_guest_shuts_down_through_its_agent_and_libvirtd_may_die(lab: Lab) -> None:
    host = lab.host("host-b")
    small = lab.create_guest("host-b", "small", blank(1, 64), workload=WorkloadSpec(fill_mib=2))
    try:
        small.wait_ready()
        host.kill_libvirtd()
        host.start_libvirtd()
        small.wait_agent()
        small.shutdown()
    finally:
        small.remove()


def test_a_host_that_is_cut_off_is_out_of_reach_until_it_is_mended(lab: Lab) -> None:
    a, b = lab.host("host-a"), lab.host("host-b")
    wait_for("host-b", lambda: reaches([], str(b.address)), PATIENCE_S)
    wait_for("host-b from host-a", lambda: reaches(a.inside([]), "host-b"), PATIENCE_S)
    b.cut()
    try:
        assert not reaches([], str(b.address))
        assert not reaches(a.inside([]), "host-b")
        wait_for("the machine from host-a", lambda: reaches(a.inside([]), "machine"), PATIENCE_S)
        assert b.connection().isAlive()
    finally:
        b.mend()
    wait_for("host-b over its link", lambda: reaches(a.inside([]), "host-b"), PATIENCE_S)


def test_the_command_line_shows_a_lab_and_runs_on_its_hosts(lab: Lab) -> None:
    def command(*words: str) -> str:
        argv = [sys.executable, "-m", "ops.lab", *words]
        return subprocess.run(argv, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout

    where = f"--dir={lab.directory}"
    facts = json.loads(command("status", "--json", where))
    assert {host["host"]: host["up"] for host in facts["hosts"]} == {"host-a": True, "host-b": True}
    assert {guest["guest"]: guest["host"] for guest in facts["guests"]}["gamma"] == "host-b"
    assert command("exec", where, "host-b", "--", "hostname").strip() == "host-b"
    assert "FREEZEFRAME GUEST READY" in command("console", where, "beta")


def test_after_down_nothing_is_left(tmp_path: Path) -> None:
    directory = tmp_path / "lab"
    outside = Path("/var/lib/freezeframe").exists()
    lab = Lab.up(LabSpec(hosts=("host-a",)), directory)
    state = LabState.load(directory)
    host = lab.host("host-a")
    lab.create_guest("host-a", "alpha")
    sleeper = host.spawn(["sleep", "1000"])
    namespace = str(Path(f"/proc/{host.init_pid}/ns/pid").readlink())
    wait_for("init, libvirtd, the guest and the sleeper", lambda: len(in_namespace(namespace)) >= 4, PATIENCE_S)
    assert {state.bridge, state.link(state.hosts[0])} <= interfaces()

    lab.down()

    sleeper.wait(PATIENCE_S)
    assert in_namespace(namespace) == []
    assert not any(name.startswith(state.bridge) for name in interfaces())
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()
    assert not directory.exists()
    assert Path("/var/lib/freezeframe").exists() == outside
    with pytest.raises(NotALabError):
        Lab.attach(directory)


def test_an_up_that_was_killed_half_way_is_taken_down_from_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / "lab"
    command = [sys.executable, "-m", "ops.lab", "up", "--hosts=2", "--guests=2", "--disks=1", f"--dir={directory}"]
    making = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=CHECKOUT)
    wait_for("both hosts' names", (directory / "host-b/images").exists, PATIENCE_S, 0.01)
    making.kill()
    making.wait()

    lab = Lab.attach(directory)
    state = LabState.load(directory)
    lab.down()
    assert not any(process.alive() for host in state.hosts for process in (host.launcher, host.init) if process)
    assert not any(name.startswith(state.bridge) for name in interfaces())
    assert not directory.exists()


def test_a_recycled_pid_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        real = ProcessId.of(innocent.pid)
        real.model_copy(update={"start_ticks": real.start_ticks - 1}).kill()
        real.model_copy(update={"boot_id": "another"}).kill()
        assert innocent.poll() is None
        real.kill()
        assert innocent.wait() == -9


def test_what_is_no_lab_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(NotALabError):
        Lab.attach(tmp_path)
    with pytest.raises(LabError, match="not empty"):
        Lab.up(LabSpec(), tmp_path)
    with pytest.raises(LabError, match="every host has for itself"):
        Lab.up(LabSpec(), Path("/run/lab"))
    with pytest.raises(LabError, match="Unix socket"):
        Lab.up(LabSpec(), tmp_path / ("long" * 30))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
