"""Ways onto the hosts that a test sets up: ports, passwords, agents, bastions, and a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import names, network
from tests.lab.host import Host
from tests.lab.operator import FAB, Ended
from tests.lab.paths import OPERATOR_HOME, REPO_DIR

SSH = OPERATOR_HOME / ".ssh"
CONFIG = "/etc/ssh/sshd_config.d/00-ways.conf"


def sshd(host: Host, *lines: str) -> None:
    """Give a host's sshd these settings."""
    host.write(CONFIG, "".join(f"{line}\n" for line in lines), 0o644)
    host.run(["systemctl", "restart", "ssh"])
    host.wait_for_ssh()


def close_to_operator(host: Host) -> None:
    """Let a host take SSH from other hosts only."""
    network.drop(host.name, [22, 2222], [names.OPERATOR_ADDRESS])


def set_password(host: Host, password: str) -> None:
    """Let `core` log in with a password, and with nothing else."""
    host.run(["chpasswd"], stdin=f"core:{password}\n")
    sshd(host, "PasswordAuthentication yes", "PubkeyAuthentication no")


@contextmanager
def only_in_agent() -> Iterator[dict[str, str]]:
    """An ssh-agent that has the operator's key, which is in no file meanwhile."""
    key, away = SSH / "id_ed25519", OPERATOR_HOME / "id.away"
    socket = OPERATOR_HOME / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    environment = {"SSH_AUTH_SOCK": str(socket)}
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < deadline, "no ssh-agent"
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, **environment}, check=True)
        key.rename(away)
        yield environment
    finally:
        if away.exists():
            away.rename(key)
        agent.terminate()
        agent.wait()
        socket.unlink(missing_ok=True)


@contextmanager
def known_as(name: str, other: str) -> Iterator[None]:
    """Let known_hosts say that `name` has the keys of `other`."""
    path = SSH / "known_hosts"
    before = path.read_text()
    rows = [line.split(" ", 1) for line in before.splitlines()]
    keys = [key for patterns, key in rows if patterns.startswith(f"{other},")]
    mine = next(patterns for patterns, _key in rows if patterns.startswith(f"{name},"))
    rows = [row for row in rows if row[0] != mine] + [[mine, key] for key in keys]
    path.write_text("".join(f"{patterns} {key}\n" for patterns, key in rows))
    try:
        yield
    finally:
        path.write_text(before)


def trust_as(host: Host, *names_: str) -> None:
    """Add names under which the operator knows a host's keys."""
    path = SSH / "known_hosts"
    keys = [line.split(" ", 1)[1] for line in path.read_text().splitlines()
            if line.startswith(f"{host.name},")]  # fmt: skip
    path.write_text(path.read_text() + "".join(f"{n} {key}\n" for n in names_ for key in keys))


def surveyed(ended: Ended) -> list[str]:
    """Hosts that a survey found, those that could be looked at."""
    rows: list[dict[str, Any]] = ended.result or []
    return sorted(row["host"] for row in rows if row["survey"] is not None)


def kubectl(folder: Path, nodes: dict[str, str] | None) -> str:
    """A PATH with a kubectl that lists these nodes, or, for None, an API that is down."""
    items = [
        {"kind": "Node", "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "node-role.kubernetes.io/control-plane": ""}},
         "status": {"addresses": [{"type": "InternalIP", "address": address},
                                  {"type": "Hostname", "address": name}]}}
        for name, address in (nodes or {}).items()
    ]  # fmt: skip
    worker = {"kind": "Node", "metadata": {"name": "worker", "labels": {}}, "status": {}}
    answer = {"apiVersion": "v1", "kind": "List", "items": [*items, worker]}
    (folder / "nodes.json").write_text(json.dumps(answer))
    down = 'echo "The connection to the server 10.77.0.9:6443 was refused - did you specify the '
    down += 'right host or port?" >&2; exit 1'
    body = f"exec /bin/cat {folder}/nodes.json" if nodes else down
    wanted = '"$*" = "get nodes -o json --request-timeout=10s"'
    path = folder / "kubectl"
    path.write_text(f"#!/bin/sh\n[ {wanted} ] || exit 64\n{body}\n")
    path.chmod(0o755)
    return f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"


def fab_at_terminal(answers: Sequence[tuple[str, str]], *words: str) -> Ended:
    """Run `fab` at a terminal of its own, and type an answer when each question is there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(FAB), *words], cwd=REPO_DIR, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), text=True,
    )  # fmt: skip
    os.close(theirs)
    said, todo = "", list(answers)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 0.2)
        try:
            said += os.read(ours, 4096).decode(errors="replace") if ready else ""
        except OSError:  # the other end is closed: it ended
            break
        if todo and todo[0][0] in said:
            os.write(ours, f"{todo.pop(0)[1]}\n".encode())
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    print(said, file=sys.stderr)
    assert not todo, f"never asked: {todo[0][0]!r}"
    return Ended(tuple(words), process.returncode, out, said)
