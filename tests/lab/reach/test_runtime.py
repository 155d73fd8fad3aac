"""Hosts without a Python that will do: the carried runtime does all that the host's own would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.agent_file import build_agent
from coordinator.connection import Access
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from coordinator.onhost.settle import is_whole
from coordinator.runtime_file import RUNTIME_DIR, RuntimeFile, find_runtime
from tests.lab import story
from tests.lab.console import say
from tests.lab.evidence import STATE, power_off, require_one_cluster, seed_keys, tree
from tests.lab.faults import crash_loop, ids, rescue
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import OK, PAUSED, REFUSED, agent_pids, fab, rescue_quorum, start_fab
from tests.lab.pythons import KINDS
from tests.lab.test_versions import CONFS

MakeLab = Callable[..., Lab]
THREE = ["master-0", "master-1", "master-2"]
LABEL = "security.selinux"


def runtime() -> RuntimeFile:
    found = find_runtime("x86_64")
    assert found, "make runtime"
    return found


def interpreter(name: str) -> tuple[str, list[str]]:
    """What runs the agent on a host: its program's path, and the libraries it has mapped."""
    with open_channel(HostSpec(name), build_agent(), Access()) as channel:
        proc = f"/proc/{channel.hello.pid}"
        lab = Lab.attach()
        told = lab.hosts[name].run(["readlink", f"{proc}/exe"]).stdout.strip()
        maps = lab.hosts[name].run(["cat", f"{proc}/maps"]).stdout.split()
    return told, sorted({word for word in maps if ".so" in word})


def require_carried(name: str) -> None:
    """The agent of a host runs by the runtime, and has no library of the host's."""
    program, libraries = interpreter(name)
    home = f"{STATE}/runtime/{runtime().tree_id}"
    assert program == f"{home}/lib/ld-linux-x86-64.so.2"
    assert libraries
    assert all(path.startswith(f"{STATE}/") for path in libraries)


def sent(host: Host, inside: str) -> int:
    """When a file was made, in nanoseconds: it changes only where it is made anew."""
    return host.path(inside).stat().st_ctime_ns


def test_no_python_at_all(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab(hosts=3, without_python=THREE)
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    for each in lab.hosts.values():
        assert each.run(["sh", "-c", "command -v python3 python2 python"], check=False).returncode
    usr = tree(lab.hosts["master-0"], "/usr/bin")

    with monkeypatch.context() as context:
        context.setenv(RUNTIME_DIR, str(tmp_path))
        refused = rescue("master-1").expect(REFUSED)
        assert "no Python 3.9 or newer" in refused.err
        assert "make runtime" in refused.err
        assert not host.path(STATE).exists()

    crash_loop(host)
    rescue("master-1").expect(OK)
    require_one_cluster(lab, THREE, keys)
    assert ids(lab, "master-0")["master-1"] != before["master-1"]
    require_carried("master-1")
    assert json.loads(say(host, "survey").stdout)["hostname"] == "master-1"
    made = sent(host, f"{STATE}/runtime/{runtime().tree_id}")

    directory = Path(fab("snapshot", "--to", str(tmp_path)).expect(OK).result["path"])
    fab("verify-snapshot", str(directory), hosts="").expect(OK)

    power_off(lab, "master-1", "master-2")
    run = rescue_quorum("master-1", "master-2")
    run.wait_for("ok master-0: copy data")
    run.kill()
    fab("resume").expect(PAUSED)
    lab.hosts["master-1"].boot()
    lab.hosts["master-2"].boot()
    fab("resume").expect(OK)
    require_one_cluster(lab, THREE, keys)
    assert sent(host, f"{STATE}/runtime/{runtime().tree_id}") == made
    assert tree(lab.hosts["master-0"], "/usr/bin") == usr
    assert {j["state"] for j in fab("journal").expect(OK).result} == {"complete"}


# ---- hosts that make it hard ---------------------------------------------------------------------

MIXED = {
    "master-0": "3.9",
    "master-1": "2.7",
    "master-2": "3.6",
    "master-3": "3.9-minimal",
    "master-4": "none",
}
SHELL = "set -e; mount -t tmpfs -o noexec,mode=1777 tmpfs /{0}; cd /{0}; cp /bin/true .; ! ./true"


def make_it_hard(host: Host) -> None:
    """Nothing can be written to /usr, and nothing run in /tmp or /var/tmp."""
    for folder in ("tmp", "var/tmp"):
        host.run(["sh", "-c", SHELL.format(folder)])
    host.run(["mount", "--bind", "/usr", "/usr"])
    host.run(["mount", "-o", "remount,ro,bind", "/usr"])
    assert host.run(["touch", "/usr/bin/x"], check=False).returncode


def give_labels(host: Host) -> None:
    """Labels as SELinux has them, on the directories that delivery takes as its model."""
    for folder, label in (("/usr/bin", "bin_t"), ("/usr/lib", "lib_t"), ("/var/lib", "var_lib_t")):
        context = f"system_u:object_r:{label}:s0"
        host.run(["setfattr", "-n", LABEL, "-v", context, folder])


def leave_room(host: Host, mib: int) -> None:
    """A file system of its own for what is carried there, with just so much room."""
    host.run(["mkdir", "-m", "700", STATE])
    host.run(["mount", "-t", "tmpfs", "-o", f"mode=700,size={mib}m", "tmpfs", STATE])


def test_hosts_that_make_it_hard(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=5, pythons=MIXED, data_dir_kind={"master-1": "mount"})
    keys, before, host = seed_keys(lab), ids(lab, "master-0"), lab.hosts["master-1"]
    give_labels(host)
    for each in lab.hosts.values():
        make_it_hard(each)
    leave_room(host, 32)
    told = {o["host"]: o["error"] for o in fab("survey").expect(OK).result if o["error"]}
    assert set(told) == {"master-1"}
    assert "No space left" in told["master-1"]
    host.run(["umount", STATE])
    host.run(["rmdir", STATE])
    leave_room(host, 64)

    assert fab("diagnose").expect(OK).result["state"] == "healthy"
    program, _libraries = interpreter("master-0")
    assert program == "/usr/bin/python3.9"
    assert not lab.hosts["master-0"].path(f"{STATE}/runtime").exists()
    for name in list(MIXED)[1:]:
        require_carried(name)
    home = f"{STATE}/runtime/{runtime().tree_id}"
    labels = {
        path: host.run(["getfattr", "-n", LABEL, "--only-values", f"{home}/{path}"]).stdout
        for path in ("bin/busybox", "lib/ld-linux-x86-64.so.2", "lib/libc.so.6")
    }
    assert [text.split(":")[2] for text in labels.values()] == ["bin_t", "bin_t", "lib_t"]

    # A rescue needs 64 MiB of its own, on every host, for etcd's programs and its journal.
    host.run(["mount", "-o", "remount,size=128m", STATE])
    for name in ("master-1", "master-0"):
        crash_loop(lab.hosts[name])
        rescue(name).expect(OK)
    require_one_cluster(lab, list(lab.hosts), keys)
    now = ids(lab, "master-2")
    assert {name for name in now if now[name] != before[name]} == {"master-0", "master-1"}


def test_a_power_cut_in_the_middle_of_its_way(make_lab: MakeLab) -> None:
    """The host is without power before the runtime is whole, and two take it there afterwards."""
    lab = make_lab(hosts=3, without_python=THREE)
    host, folder = lab.hosts["master-0"], f"{STATE}/runtime"
    run = start_fab("survey")
    wait_until(lambda: any(host.path(folder).glob("*.tmp/busybox")), 30, "the runtime to come")
    host.power_cut()
    run.end()
    home = host.path(f"{folder}/{runtime().tree_id}")
    assert is_whole(str(home)) or not home.exists()  # a machine that stands still may be too late
    host.boot()
    lab.wait_healthy()
    runs = [start_fab("survey") for _ in range(2)]
    for each in runs:
        each.end().expect(OK)
    assert is_whole(str(home))
    wait_until(lambda: not agent_pids(host), 20, "the agents' end")


# ---- every recipe --------------------------------------------------------------------------------

WIDE = [(kind, layout) for kind in KINDS if kind != "host" for layout in ("kubeadm", "systemd")]


@pytest.mark.wide("LAB_PYTHONS")
@pytest.mark.parametrize("kind", ["host", "none"])
def test_every_recipe_on_debian_11(make_lab: MakeLab, kind: str) -> None:
    """Python 3.9 of its own, then none: on an older libc than the runtime's."""
    pythons = dict.fromkeys(THREE, kind)
    lab = make_lab(
        hosts=3, etcd="3.6", layout="systemd", conf=CONFS[0], suite="bullseye", pythons=pythons
    )
    assert "2.31" in lab.hosts["master-0"].run(["ldd", "--version"]).stdout
    story.play(lab)
    program, _libraries = interpreter("master-0")
    assert program == "/usr/bin/python3.9" or kind == "none"


@pytest.mark.wide("LAB_PYTHONS")
@pytest.mark.parametrize(("kind", "layout"), WIDE)
def test_every_recipe(make_lab: MakeLab, kind: str, layout: str) -> None:
    more = {"conf": CONFS[0]} if layout == "systemd" else {}
    story.play(make_lab(hosts=3, layout=layout, pythons=dict.fromkeys(THREE, kind), **more))
