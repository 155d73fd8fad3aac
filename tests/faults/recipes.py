"""Every recipe as a row: one after the other, as `make faults` goes through them.

A new recipe needs a row here and nothing else: its points are found by an undisturbed run.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.faults import machines, masters
from tests.faults.row import Row
from tests.lab.console import act
from tests.lab.evidence import DATA, STATE, power_off
from tests.lab.faults import attempts, lead, let_expire, wait_for_diagnosis
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, PAUSED, REFUSED, fab

THREE = ("master-0", "master-1", "master-2")
OLD = ("master-1", "master-2")
LOST = tuple(word for name in OLD for word in ("--lost", name))
DROP = tuple(word for name in OLD for word in ("--drop", name))

# ---- how a cluster gets to need it ---------------------------------------------------------------


def lose_quorum(lab: Lab) -> None:
    """Two of three hosts lose their power."""
    power_off(lab, *OLD)


def alone(lab: Lab) -> None:
    """The member that is left runs, and waits for the others in vain."""
    host = lab.hosts["master-0"]
    wait_until(lambda: host.is_listening(2380), 30, "the survivor's etcd")
    host.wait_for_ssh()


def boot_old(lab: Lab) -> None:
    """The two hosts come back."""
    for name in OLD:
        if not lab.hosts[name].is_up:
            lab.hosts[name].boot()
    lab.wait_healthy()


def reseed_and_boot_one(lab: Lab) -> None:
    """The quorum is rescued, and one of the lost hosts is back with its old data."""
    lose_quorum(lab)
    fab("rescue-quorum", "--yes", *LOST).expect(PAUSED)
    lab.hosts["master-1"].boot()


def rescued_serves(lab: Lab) -> None:
    """The rescued member serves, and the host that is back can be logged in to."""
    lab.wait_healthy(["master-0"])
    for name in ("master-0", "master-1"):
        lab.hosts[name].wait_for_ssh()


def break_two(lab: Lab) -> None:
    """Two of three members lose their write-ahead log; their hosts answer.

    The third has all that was written: a rescue would ask for a word about what it has not.
    """
    wait_until(lambda: len(_revisions_on_disk(lab)) == 1, 10, "all to have the last write on disk")
    for name in OLD:
        lab.hosts[name].crash_etcd()


def _revisions_on_disk(lab: Lab) -> set[int]:
    """What the surveys read in the databases' files."""
    seen = fab("survey").expect(OK).result
    return {o["survey"]["offline"]["db"]["revision"] for o in seen}


def two_crash_loop(lab: Lab) -> None:
    """The diagnosis sees that only a reseed is left."""
    for name, host in lab.hosts.items():
        host.wait_for_ssh()
        if name in OLD:
            _wait_for_crashes(host)
    wait_for_diagnosis(lambda d: d["recipe"] == "reseed", "the loss of the quorum")


def break_one(lab: Lab) -> None:
    """One member loses its write-ahead log."""
    lab.hosts["master-1"].crash_etcd()


def one_crash_loops(lab: Lab) -> None:
    """One member crash-loops, and the others serve."""
    lab.wait_healthy(["master-0", "master-2"])
    _wait_for_crashes(lab.hosts["master-1"])
    lead(lab, "master-0")  # the leader acts for the others, and points are named by host


def _wait_for_crashes(host: Host) -> None:
    """Look now and then: a look is a process, and the hosts are busy booting."""
    wait_until(partial(_crashes, host), 30, f"etcd on {host.name} to crash-loop", pause=0.25)


def _crashes(host: Host) -> bool:
    listed = host.run(["crictl", "ps", "-a"], check=False)
    return listed.returncode == 0 and "etcd" in listed.stdout and attempts(host) >= 1


def fence_one(lab: Lab) -> None:
    """One member is fenced, with intact data, by somebody at its console."""
    fab("diagnose").expect(OK)  # delivers the agent
    act(lab.hosts["master-1"], "fence", "reason=its disk was to be looked at")


def two_serve_and_one_answers(lab: Lab) -> None:
    """The others serve, and the fenced host can be logged in to."""
    lab.wait_healthy(["master-0", "master-2"])
    lab.hosts["master-1"].wait_for_ssh()


def two_serve_and_one_leads(lab: Lab) -> None:
    """The same, and points are named by the host that acts, the leader."""
    two_serve_and_one_answers(lab)
    lead(lab, "master-0")


def lose_one(lab: Lab) -> None:
    """One host is gone."""
    lab.hosts["master-2"].power_cut()


def two_serve(lab: Lab) -> None:
    """The others serve."""
    lab.wait_healthy(["master-0", "master-1"])
    lead(lab, "master-0")


SNAPSHOT = "/var/lib/backup/s.db"


def keep_snapshots(lab: Lab) -> None:
    """Every host has the same snapshot, taken by the real etcdctl."""
    first = lab.hosts["master-0"]
    first.run(["mkdir", "-p", "-m", "700", str(Path(SNAPSHOT).parent)])
    lab.etcdctl(first, "snapshot", "save", str(first.path(SNAPSHOT)))
    for host in lab.hosts.values():
        host.run(["mkdir", "-p", "-m", "700", str(Path(SNAPSHOT).parent)])
        host.write(SNAPSHOT, first.read(SNAPSHOT), 0o600)


def spoil(host: Host) -> None:
    """No etcd could start with this data."""
    host.run(["systemctl", "stop", "kubelet"])
    host.stop_etcd_kill9()
    for file in host.path(f"{DATA}/member").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\xff" * 4096)


def lose_all_but_a_snapshot(lab: Lab) -> None:
    """Two hosts are gone, and the data of the third is beyond use."""
    keep_snapshots(lab)
    lose_quorum(lab)
    spoil(lab.hosts["master-0"])


def spoil_all(lab: Lab) -> None:
    """No host has data that an etcd could start with."""
    keep_snapshots(lab)
    for host in lab.hosts.values():
        spoil(host)


def all_answer(lab: Lab) -> None:
    """Every host that has power can be logged in to, and etcd has failed there."""
    for host in lab.hosts.values():
        if host.is_up:
            host.wait_for_ssh()
            _wait_for_crashes(host)


def leave_alone(lab: Lab) -> None:
    """Nothing is wrong with it."""


def have_a_timer(lab: Lab) -> None:
    """Every host takes snapshots on a schedule."""
    fab("install-timer", "--yes").expect(OK)


def all_serve(lab: Lab) -> None:
    """Every member serves, and every host can be logged in to."""
    lab.wait_healthy()
    for host in lab.hosts.values():
        host.wait_for_ssh()


def let_one_expire(lab: Lab) -> None:
    """The server certificate of one member ran out yesterday."""
    let_expire(lab.hosts["master-1"], "server")


QUORUM = ("rescue-quorum", "--yes")
RESTORE = ("restore", f"master-0:{SNAPSHOT}", "--yes")
NODE = ("rescue-node", "master-1", "--yes")
UNITS = ("/etc/systemd/system",)
TIMERS = (*UNITS, "/var/lib/systemd/timers", f"{STATE}/agent/pinned")

ROWS = (
    Row(
        "reseed", "reseed", lose_quorum, alone, (*QUORUM, *LOST), ("master-0",), DROP, (REFUSED,),
        boot_old,
    ),
    Row(
        "reseed-in-manifest", "reseed", lose_quorum, alone, (*QUORUM, *LOST, "--in-manifest"),
        ("master-0",), DROP, (REFUSED,), boot_old,
    ),
    Row(
        "reseed-reachable", "reseed", break_two, two_crash_loop, QUORUM, THREE, again=(REFUSED,),
    ),
    Row(
        "rejoin", "reseed", reseed_and_boot_one, rescued_serves, ("resume", "--drop", "master-2"),
        ("master-0", "master-1"), ("--drop", "master-2"), has_way_back=False,
    ),
    Row("replace-member", "replace-member", break_one, one_crash_loops, NODE, THREE),
    Row("restart-member", "restart-member", fence_one, two_serve_and_one_leads, NODE, THREE),
    Row(
        "remove-member", "remove-member", lose_one, two_serve,
        ("remove-member", "master-2", "--yes"), ("master-0", "master-1"), again=(REFUSED,),
    ),
    Row(
        "restore", "restore", lose_all_but_a_snapshot, all_answer, (*RESTORE, *LOST),
        ("master-0",), (), (REFUSED,),
    ),
    Row(
        "restore-all", "restore", spoil_all, all_answer, (*RESTORE, "--all-nodes"), THREE,
        again=(REFUSED,),
    ),
    Row(
        "renew-certificates", "renew-certificates", let_one_expire, two_serve_and_one_answers,
        ("renew-certificates", "--yes"), THREE,
    ),
    Row(
        "install-timer", "install-timer", leave_alone, all_serve,
        ("install-timer", "--keep", "3", "--yes"), THREE, folders=UNITS, settled=TIMERS,
    ),
    Row(
        "remove-timer", "remove-timer", have_a_timer, all_serve, ("remove-timer", "--yes"), THREE,
        folders=UNITS, settled=TIMERS,
    ),
    masters.RESTORE_FILES,
    masters.RETIRE,
    machines.REPLACE,
)  # fmt: skip

WITHOUT_A_ROW = {
    "clear-alarm": "only preflight, looks and requests to etcd: no file of the host is changed",
}
"""Recipe -> why it has no row."""


def row_named(name: str) -> Row:
    """The row of that name."""
    found = next((row for row in ROWS if row.name == name), None)
    if found is None:
        raise SystemExit(f"no row {name!r}; known: {', '.join(row.name for row in ROWS)}")
    return found
