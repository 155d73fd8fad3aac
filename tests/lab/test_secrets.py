"""What must stay secret stays so through a whole rescue, and root is asked for one command only."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.evidence import DATA, STATE, power_off, require_one_cluster, seed_keys
from tests.lab.faults import edit_manifest
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.operator import FAB, OK, REFUSED, fab
from tests.lab.operator_home import sudoers_line
from tests.lab.paths import OPERATOR_HOME, REPO_DIR
from tests.lab.traced import Trace, traced

NOT_OURS = ("/proc/", "/dev/", "/run/", "/var/log/", "/var/run/", "/var/lib/sudo/")
PASSWORD = "pw-canary-7f3a91c0"
VALUE = "value-canary-2b8d44e6"
ENV = "env-canary-90ac17d2"
ROOT = "root-canary-51e7b3f8"
CIPHER = "c2VjcmV0LWNhbmFyeS1mb3ItZW5jcnlwdGlvbi1hdC1yZXN0ISE="
OLD = ("master-1", "master-2")
OURS = ("quarantine", "work", "parked", "former")
"""Where data and definitions of the host may lie, for root alone."""


def as_operator(host: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What the operator's login says to a command."""
    argv = ["ssh", "-o", "BatchMode=yes", host, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.reliability(
    "Secrets",
    "sudo allows the operator's login the README's one line and nothing else, and that suffices",
)
def test_the_one_line_of_sudoers_is_enough_and_all(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    line = sudoers_line()
    assert sudoers_line("docs/sudo.md") == line
    assert "*" not in line
    host.run(["visudo", "-c", "-s"])
    told = as_operator("master-0", "sudo", "-n", "-l").stdout
    allowed = told.partition("may run the following commands")[2].splitlines()[1:]
    assert [row.strip() for row in allowed if row.strip()] == [line.split("ALL=")[1].strip()]
    for refused in (["id"], ["sh", "-c", "id"], ["/usr/bin/python3", "-c", "print(1)"]):
        assert as_operator("master-0", "sudo", "-n", *refused).returncode != 0
    assert "healthy" in fab("diagnose").expect(OK).out


class Heard:
    """Everything that the operator was told, by every task of this test, in debug mode."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def fab(self, task: str, *words: str, output: str = "json") -> subprocess.CompletedProcess[str]:
        """Run a task; the sudo password is asked for, and typed."""
        argv = [str(FAB), "-H", "master-0", task, *words, "--output", output]
        ended = subprocess.run(
            [*argv, "--ask-sudo-password"], cwd=REPO_DIR, input=f"{PASSWORD}\n",
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        print(ended.stderr)
        self.said += [ended.stdout, ended.stderr]
        return ended


def plant(lab: Lab) -> set[bytes]:
    """Put a canary into every place that holds secrets; all of them, as they would leak."""
    canaries = {PASSWORD, VALUE, ENV, ROOT, CIPHER}
    for host in lab.hosts.values():
        host.run(["chpasswd"], stdin=f"core:{PASSWORD}\n")
        rule = sudoers_line().replace("NOPASSWD: ", "")
        host.write("/etc/sudoers.d/core", rule, 0o440)
        host.write("/etc/sudoers.d/umask", "Defaults umask=0000, umask_override\n", 0o440)
        bashrc = host.path("/home/core/.bashrc")
        bashrc.write_text(f"umask 000\n{bashrc.read_text()}")
        host.write("/etc/kubernetes/encryption.yaml", f"keys: [{{name: a, secret: {CIPHER}}}]\n")
        for key in host.path("/etc/kubernetes/pki").rglob("*.key"):
            canaries.add(key.read_text().splitlines()[2])
    canaries.add((OPERATOR_HOME / ".ssh/id_ed25519").read_text().splitlines()[2])
    lab.client("master-0").put("/registry/secrets/canary", VALUE.encode())
    env = (
        f"    env:\n    - name: API_TOKEN\n      value: {ENV}\n"
        f"    - name: ETCD_ROOT_PASSWORD\n      value: {ROOT}\n    image:"
    )
    edit_manifest(lab.hosts["master-0"], "    image:", env)
    wait_until(lambda: "env-canary" in environment(lab.hosts["master-0"]), 30, "the new pod")
    lab.wait_healthy()
    return {canary.encode() for canary in canaries}


def environment(host: Host) -> str:
    """The environment of the host's etcd."""
    found = [Path(f"/proc/{pid}/environ").read_bytes() for pid in host.etcd_pids()]
    return b"\n".join(found).decode(errors="replace")


def leaks(host: Host, canaries: set[bytes]) -> list[str]:
    """Files of the tool's own, of logs and of temporary places that hold a canary."""
    found = []
    for top in (STATE, "/var/log", "/var/tmp", "/home/core", "/root"):
        for path in host.path(top).rglob("*"):
            inside = path.relative_to(host.path(top))
            is_pod_log = top == "/var/log" and inside.parts[0] in ("pods", "containers")
            if not path.is_file() or is_pod_log or (top == STATE and inside.parts[0] in OURS):
                continue
            data = path.read_bytes()
            found += [f"{top}/{inside}: {c.decode()}" for c in canaries if c in data]
    for argv in (["journalctl", "--no-pager", "-a"], ["sh", "-c", "cat /tmp/* 2>/dev/null; true"]):
        said = host.run(argv).stdout.encode()
        found += [f"{argv[0]}: {c.decode()}" for c in canaries if c in said]
    return found


@pytest.mark.reliability(
    "Secrets",
    "canaries in etcd's values, private keys, the sudo password, an encryption configuration and "
    "a manifest's env are in no argument, log, journal, report or trace of a whole rescue in debug "
    "mode",
)
@pytest.mark.reliability(
    "Secrets",
    "whatever the umask, every file and directory that the tool makes is for root alone from its "
    "first instant",
)
def test_a_rescue_in_debug_mode_tells_no_secret(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str, int], None]
) -> None:
    monkeypatch.setenv("ETCD_RESCUE_DEBUG", "1")
    host, keys, heard = lab.hosts["master-0"], seed_keys(lab), Heard()
    canaries = plant(lab)
    with traced(host) as trace:
        for form in ("table", "json", "yaml"):
            heard.fab("survey", output=form)
        assert "Traceback" in heard.fab("rescue-quorum", "--yes").stderr  # it serves: refused
        power_off(lab, *OLD)
        lost = ("--lost", "master-1", "--lost", "master-2")
        assert "point of no return" in heard.fab("plan", *lost, output="table").stdout
        assert heard.fab("rescue-quorum", "--yes", *lost).returncode not in (OK, REFUSED)
        lab.hosts["master-1"].boot()
        assert heard.fab("resume", "--drop", "master-2").returncode == OK, heard.said[-1]
        (row,) = {r["plan"]: r for r in json.loads(heard.fab("journal").stdout)}.values()
        for form in ("table", "json", "yaml"):
            assert "intent" in heard.fab("journal", row["plan"], output=form).stdout
    require_one_cluster(lab, ("master-0", "master-1"), keys)

    said = "\n".join(heard.said).encode()
    assert b"master-0: " in said
    assert b"ran" in said  # the agent's own log came too
    assert not [c for c in canaries if c in said]
    assert len(trace.argv) > 50
    assert not [a for a in trace.argv if any(c.decode() in a for c in canaries)]
    assert leaks(host, canaries) == []
    require_private(trace)
    figure("canaries planted", len(canaries))
    figure("command lines and files watched", len(trace.argv) + len(trace.made))


def require_private(trace: Trace) -> None:
    """Nothing was ever made, or made accessible, for anybody but root."""
    ours = trace.below(STATE, f"{DATA}/.etcd-rescue", "/etc/kubernetes/manifests")
    assert len(ours) > 50
    binaries = trace.below(f"{STATE}/bin")  # copied out of a public image, with the mode it has
    assert not [m for m in ours if m.mode & 0o077 and m not in binaries]
    outside = [m for m in trace.made if m not in ours and not m.path.startswith(NOT_OURS)]
    assert not outside
