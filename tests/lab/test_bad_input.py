"""Input and hosts that are not as they should be: a clear refusal before anything stops."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.runtime_file import RUNTIME_DIR
from tests.lab.evidence import quarantined, seed_keys
from tests.lab.faults import DATA, crash_loop, ids, stop_kubelet_and_etcd
from tests.lab.faults import rescue as rescue_node
from tests.lab.host import Host
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import (
    FAB,
    LOCKED,
    OK,
    REFUSED,
    STEP_FAILED,
    UNREACHABLE,
    USAGE,
    Ended,
    fab,
)
from tests.lab.paths import OPERATOR_HOME, REPO_DIR

MakeLab = Callable[..., Lab]
MANIFESTS = "/etc/kubernetes/manifests"
STATE = "/var/lib/etcd-rescue"
DAMAGED = 8


def rescue(host: str = "master-1", through: str = "master-0") -> Ended:
    return rescue_node(host, through)


def require_clear(ended: Ended, *words: str) -> None:
    """An error in words, with none of a program's insides."""
    assert "Traceback" not in ended.err
    assert "internal error" not in ended.err
    for word in words:
        assert word in ended.err


class Untouched:
    """The cluster as it is; `require` holds that nothing was changed since."""

    def __init__(self, lab: Lab, host: str = "master-1") -> None:
        self._lab, self._host = lab, lab.hosts[host]
        self._before = self._look()

    def _look(self) -> tuple[object, ...]:
        member = sorted(p.name for p in self._host.path(f"{DATA}/member").rglob("*"))
        return ids(self._lab, "master-0"), member, quarantined(self._host)

    def require(self) -> None:
        assert self._look() == self._before
        fenced = [h for h in self._lab.hosts.values() if h.path(f"{STATE}/fence.json").exists()]
        assert not fenced


# ---- the command line and cluster.yaml: no lab is needed, and none is touched --------------------

WORDS = [
    (("survey",), "a;b", "", USAGE, "'a;b' is not a host name"),
    (("survey",), "$(touch /run/pwned)", "", USAGE, "is not a host name"),
    (("survey",), "-oProxyCommand=touch /run/pwned", "", USAGE, "is not a host name"),
    (("survey", "--output", "xml"), "master-0", "", USAGE, "no output format 'xml'"),
    (("diagnose",), "", "", USAGE, "no hosts are given"),
    (("survey",), "nosuch", "json", UNREACHABLE, "nosuch does not resolve"),
    (("rescue-node", "nosuch", "--yes"), "", "json", UNREACHABLE, "nosuch does not resolve"),
]


@pytest.mark.parametrize(("words", "hosts", "output", "code", "told"), WORDS)
def test_words_that_mean_nothing(
    words: tuple[str, ...], hosts: str, output: str, code: int, told: str
) -> None:
    ended = fab(*words, hosts=hosts, output=output)
    assert ended.code == code, ended.err
    require_clear(ended, told)
    assert not Path("/run/pwned").exists()


FILES = [
    ("hosts: [master-0]\nfoo: 1\n", "unknown key 'foo'"),
    ("hosts: [{name: master-0, adress: 10.77.0.10}]\n", "unknown key 'adress'"),
    ("hosts: !!python/object/apply:os.system ['touch /run/pwned']\n", "tag"),
    ("hosts: [!!python/name:os.system ]\n", "tag"),
    ("hosts: [master-0\n", "cluster.yaml:"),
    ("hosts: []\n", "not a list of 1 to 256 hosts"),
    ("hosts: [master-0, master-0]\n", "there twice"),
    ("hosts: ['a b']\n", "not a host name"),
    ("a: &a [x]\nb: &b [*a, *a]\nhosts: [*b, *b]\n", "cluster.yaml"),
    ("", "expected keys and values"),
    ("\x00\x01", "cluster.yaml"),
]


@pytest.mark.parametrize(("text", "told"), FILES)
def test_a_cluster_file_that_does_not_fit(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    ended = fab("survey", "--cluster", str(tmp_path / "cluster.yaml"), hosts="")
    assert ended.code == USAGE, ended.err
    require_clear(ended, told)
    assert not Path("/run/pwned").exists()


def test_plans_and_hosts_that_nobody_knows(lab: Lab) -> None:
    untouched = Untouched(lab)
    for words in (("journal", "fedcba"), ("rollback", "fedcba", "--yes")):
        ended = fab(*words)
        assert ended.code == USAGE, ended.err
        require_clear(ended)
    assert "no unfinished plan" in fab("resume", "fedcba").expect(OK, USAGE).err
    for words in (("rescue-node", "fedcba", "--yes"), ("remove-member", "fedcba", "--yes"),
                  ("plan", "fedcba")):  # fmt: skip
        ended = fab(*words).expect(REFUSED)
        require_clear(ended, "master-0, master-1, master-2")
    require_clear(fab("rescue-quorum", "--yes").expect(REFUSED), "linearizable reads work")
    require_clear(fab("rescue-node", "master-1", output="table").expect(OK), "nothing to do")
    untouched.require()


# ---- the way onto a host -------------------------------------------------------------------------


def known_hosts() -> Path:
    return OPERATOR_HOME / ".ssh/known_hosts"


def test_unknown_and_changed_host_keys_are_refused_with_the_command(lab: Lab) -> None:
    lines = known_hosts().read_text().splitlines(keepends=True)
    others = [line for line in lines if not line.startswith("master-1,")]
    strange = [line.replace("master-0,10.77.0.10", "master-1,10.77.0.11") for line in others]
    known_hosts().write_text("".join(others))
    require_clear(rescue(through="").expect(REFUSED), "ssh-keyscan", "not known here")
    require_clear(rescue().expect(REFUSED), "ssh-keyscan", "not counted as dead")
    known_hosts().write_text("".join([*others, *strange[:2]]))
    for through in ("", "master-0"):
        require_clear(rescue(through=through).expect(REFUSED), "HAS CHANGED", "ssh-keygen")
    assert not lab.hosts["master-1"].path(STATE).exists()


def test_sudo_that_asks_and_a_user_who_may_not(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    rule = host.read("/etc/sudoers.d/core").decode()
    host.write("/etc/sudoers.d/core", rule.replace("NOPASSWD:", ""), 0o440)
    require_clear(rescue(through="").expect(REFUSED), "password", "--ask-sudo-password")
    host.write("/etc/sudoers.d/core", "", 0o440)
    require_clear(rescue(through="").expect(REFUSED), "sudo")
    assert not host.path(STATE).exists()


def test_a_host_without_python_is_told_so_where_no_runtime_is_carried(
    make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path))
    lab = make_lab(hosts=3, without_python=["master-1"], data_dir_size={"master-2": "400m"})
    require_clear(rescue(through="").expect(REFUSED), "no Python 3.9", "install python3")
    told = fab("diagnose").expect(OK).result
    assert [m["state"] for m in told["members"]] == ["healthy", "unreachable", "healthy"]
    require_clear(rescue().expect(REFUSED), "no Python 3.9", "not counted as dead")
    _full_data_directory(lab)


def _full_data_directory(lab: Lab) -> None:
    """master-2's data lies on a file system of its own: crashed, and full to the last byte."""
    keys, host = seed_keys(lab), lab.hosts["master-2"]
    crash_loop(host)
    untouched = Untouched(lab, "master-2")
    host.run(["sh", "-c", f"head -c 1G /dev/zero > {DATA}/fill 2>/dev/null || true"])
    ended = rescue("master-2").expect(REFUSED)
    require_clear(ended, "MiB")
    untouched.require()
    host.path(f"{DATA}/fill").unlink()
    rescue("master-2").expect(OK)
    lab.wait_healthy(timeout=20)
    assert lab.get_all("master-2") == keys


# ---- the watched directory -----------------------------------------------------------------------


def test_a_watched_directory_that_does_not_say_which_etcd(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    crash_loop(host)
    untouched, text = Untouched(lab), host.read(MANIFEST).decode()
    host.write(f"{MANIFESTS}/etcd.yaml.bak", text)
    require_clear(rescue().expect(REFUSED), "etcd.yaml.bak", "move it out")
    untouched.require()
    assert not open_plans()
    host.path(f"{MANIFESTS}/etcd.yaml.bak").unlink()
    for content, told in (
        ("a: [", "etcd.yaml"),
        ("kind: Pod\n", "etcd.yaml"),
        ("\x00", "etcd.yaml"),
        ("!!python/object/apply:os.system ['touch /run/pwned']", "etcd.yaml"),
    ):
        host.write(MANIFEST, content)
        require_clear(rescue().expect(REFUSED), told)
        untouched.require()
        assert not open_plans()
    host.path(MANIFEST).unlink()
    require_clear(rescue().expect(REFUSED), "no etcd definition")
    untouched.require()
    host.write(MANIFEST, text, 0o600)
    rescue().expect(OK)
    lab.wait_healthy(timeout=20)


def open_plans() -> list[str]:
    return [row["plan"] for row in fab("journal").expect(OK).result if row["state"] == "open"]


def test_a_host_whose_disk_takes_nothing(lab: Lab) -> None:
    """No room for the agent; no room for the journal and the binary; a read-only /etc."""
    host = lab.hosts["master-1"]
    crash_loop(host)
    untouched = Untouched(lab)
    host.run(["mkdir", "-p", STATE])
    mount(host, STATE, "size=64k,mode=700")
    ended = rescue().expect(REFUSED, UNREACHABLE)
    require_clear(ended, STATE)
    untouched.require()
    host.run(["umount", "-l", STATE])
    mount(host, STATE, "size=20m,mode=700")
    require_clear(rescue().expect(REFUSED), "64 MiB", "make room")
    untouched.require()
    assert not open_plans()
    host.run(["umount", "-l", STATE])
    host.run(["mount", "--bind", "/etc", "/etc"])
    host.run(["mount", "-o", "remount,bind,ro", "/etc"])
    ended = rescue().expect(REFUSED, STEP_FAILED)
    require_clear(ended, "mounted read-only", "findmnt")
    untouched.require()
    host.run(["umount", "-l", "/etc"])
    if open_plans():
        fab("rollback", "--yes").expect(OK)
    rescue().expect(OK)
    lab.wait_healthy(timeout=20)


def mount(host: Host, place: str, options: str) -> None:
    host.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place])


# ---- journals ------------------------------------------------------------------------------------


def test_damage_in_a_journal(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    crash_loop(host)
    rescue().expect(OK)
    (journal,) = host.path(f"{STATE}/journal").glob("*.jsonl")
    good = journal.read_bytes()
    # What a crash leaves of its last write: not there, as if it never was.
    closed = good[: good.rindex(b"\n", 0, -1) + 1]
    journal.write_bytes(closed + b'{"seq": 99, "ti')
    rows = fab("journal", hosts="master-1").expect(OK).result
    assert {r["state"] for r in rows if r["host"] == "master-1"} == {"open"}
    fab("resume", hosts="master-1").expect(OK)
    assert not open_plans()
    lines = journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "complete"
    # A flipped byte before the end: what was done cannot be told, so nothing more is.
    flipped = bytearray(b"".join(lines))
    flipped[len(lines[0]) + 40] ^= 1
    journal.write_bytes(bytes(flipped))
    untouched = Untouched(lab)
    stop_kubelet_and_etcd(host)
    ended = rescue().expect(REFUSED, DAMAGED)
    require_clear(ended, "record 2")
    untouched.require()
    states = {row["state"] for row in fab("journal").expect(OK).result}
    assert "damaged" in states


def test_a_lock_of_another_plan(lab: Lab) -> None:
    crash_loop(lab.hosts["master-1"])
    untouched = Untouched(lab)
    lock = {"plan": "e" * 64, "holder": "ann@desk", "token": 7, "time": 1.0}
    lab.hosts["master-0"].run(["mkdir", "-p", "-m", "700", STATE])
    lab.hosts["master-0"].write(f"{STATE}/lock.json", json.dumps(lock))
    ended = rescue().expect(LOCKED)
    require_clear(ended, "ann@desk")
    lab.hosts["master-0"].write(f"{STATE}/lock.json", "{")
    ended = rescue().expect(REFUSED, DAMAGED)
    require_clear(ended, "lock.json")
    untouched.require()


def test_help_fits_a_terminal() -> None:
    shown = subprocess.run(
        [FAB, "--list"], cwd=REPO_DIR, capture_output=True, text=True, check=True,
        env={"COLUMNS": "80", "PATH": "/usr/bin:/bin", "HOME": str(OPERATOR_HOME)},
    ).stdout  # fmt: skip
    assert "rescue-node" in shown
    assert max(map(len, shown.splitlines())) <= 80
