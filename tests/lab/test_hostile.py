"""Hosts that answer with something else than an agent's words, and what lies in our way on them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.faults import crash_loop
from tests.lab.faults import rescue as rescue_node
from tests.lab.host import Host
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import FAB, OK, REFUSED, UNREACHABLE, fab
from tests.lab.paths import REPO_DIR
from tests.lab.test_bad_input import STATE, Untouched, require_clear

MIB = 1024 * 1024
SSHD = "/etc/ssh/sshd_config.d/00-hostile.conf"


@contextmanager
def every_login_runs(host: Host, script: str) -> Iterator[None]:
    """Whoever logs in by SSH gets this shell script in place of what was asked for."""
    host.write("/usr/local/bin/hostile", f"#!/bin/sh\n{script}\n", 0o755)
    host.write(SSHD, "ForceCommand /usr/local/bin/hostile\n", 0o644)
    host.run(["systemctl", "reload", "ssh"])
    try:
        yield
    finally:
        host.path(SSHD).unlink()
        host.run(["systemctl", "reload", "ssh"])


def costs(*words: str) -> tuple[int, int, str, str]:
    """(exit code, peak of resident memory in bytes, stdout, stderr) of a task."""
    measure = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(json.dumps([done.returncode, peak, done.stdout, done.stderr]))\n"
    )
    done = subprocess.run(
        [str(REPO_DIR / ".venv/bin/python"), "-c", measure, str(FAB), *words],
        cwd=REPO_DIR, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    code, peak, out, said = json.loads(done.stdout)
    return code, peak, out, said


BANNER = """\
printf 'Welcome to \\033[31mmaster-1\\033[0m\\r\\n\\nLast login: today\\n{not json}\\n[1, 2]\\n'
printf 'noise on stderr\\n' >&2
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


@pytest.mark.reliability(
    "Hostile input",
    "a host greets every login with a banner, on stdout and stderr: the agent's words are found"
    " behind it, and a whole rescue works",
)
def test_a_login_banner_is_passed_over(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    with every_login_runs(host, BANNER):
        crash_loop(host)
        rescue_node("master-1", "master-0").expect(OK)
    lab.wait_healthy(timeout=20)


GARBAGE = {
    "a gigabyte": ("head -c 1G /dev/zero", "a line of more than"),
    "lines": ("yes 'no agent \x1b]0;owned\x07 at all'", "stdout carries"),
    "nothing": ("exit 0", "ended before the agent started"),
}


@pytest.mark.reliability(
    "Hostile input",
    "one host of three answers with 1 GiB of output, with garbage or with nothing: it is cut off in"
    " bounded memory, and the cluster is diagnosed through the others",
)
def test_one_host_that_answers_with_garbage(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    for name, (script, told) in GARBAGE.items():
        with every_login_runs(host, script):
            code, peak, out, said = costs("-H", "master-0", "diagnose", "--output", "json")
        assert code == OK, f"{name}: {said}"
        states = [member["state"] for member in json.loads(out)["members"]]
        assert states == ["healthy", "unreachable", "healthy"]
        assert told in out + said, f"{name}: {out}{said}"
        assert {c for c in out + said if not c.isprintable()} <= {"\n"}
        assert peak < 300 * MIB


@pytest.mark.reliability(
    "Hostile input",
    "the state directory on a host is a link, another user's, or open to others: nothing is put"
    " there, nothing stops, and the error says what to do",
)
def test_a_state_directory_that_somebody_else_made(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    crash_loop(host)
    untouched = Untouched(lab)
    for script, told in (
        (f"mkdir -m 700 /run/trap && ln -s /run/trap {STATE}", "is a link"),
        (f"rm {STATE} && mkdir -m 700 {STATE} && chown nobody {STATE}", "not owned by uid 0"),
        (f"chown root {STATE} && chmod 1777 {STATE}", "chmod 700"),
    ):
        host.run(["sh", "-c", script])
        ended = rescue_node("master-1", "master-0")
        assert ended.code in (REFUSED, UNREACHABLE), ended.err
        require_clear(ended, STATE, told)
        assert host.run(["sh", "-c", f"ls -A {STATE} /run/trap"]).stdout.count("agent") == 0
        untouched.require()
    host.run(["chmod", "700", STATE])
    rescue_node("master-1", "master-0").expect(OK)
    lab.wait_healthy(timeout=20)


@pytest.mark.reliability(
    "Hostile input",
    "file names, logs and manifests on a host hold shell metacharacters and terminal escapes: no"
    " shell evaluates them, and no escape reaches the operator's terminal",
)
def test_evil_names_on_a_host(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    evil = "x;touch ${IFS}run${IFS}pwned;$(touch .run.pwned)\x1b]0;owned\x07\u202e\n.yaml"
    host.write(f"/etc/kubernetes/manifests/{evil}", host.read(MANIFEST))
    for form in ("table", "json", "yaml"):
        for task in ("survey", "diagnose"):
            ended = fab(task, output=form).expect(OK)
            assert {c for c in ended.out + ended.err if not c.isprintable()} <= {"\n"}
    ended = rescue_node("master-1", "master-0")
    assert {c for c in ended.out + ended.err if not c.isprintable()} <= {"\n"}
    assert host.run(["find", "/", "-xdev", "-name", "*pwned"]).stdout == ""
