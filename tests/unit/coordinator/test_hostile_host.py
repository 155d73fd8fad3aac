"""A host that is none of ours: garbage before, in and after SSH, no answer, or too many."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

import pytest

from agent.errors import Refused, Unreachable
from coordinator import connection
from coordinator.agent_file import AgentFile
from coordinator.connection import Access, connect
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from tests.unit.coordinator.conftest import Sshd

MIB = 1024 * 1024

# Runs open_channel as the coordinator does, with little patience, and tells what it cost.
ASK = """
import json, resource, sys
from pathlib import Path
from agent.errors import RescueError
from coordinator import channel, delivery
from coordinator.agent_file import AgentFile
from coordinator.connection import Access
from coordinator.hosts import HostSpec

config, fields, patience = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
delivery.START_TIMEOUT = channel.HELLO_TIMEOUT = patience
file = AgentFile(**{**fields, "path": Path(fields["path"])})
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with delivery.open_channel(HostSpec("m1"), file, Access(config=config)) as found:
        told = {"kind": "ok", "seen": found.call("survey", timeout=patience)}
except RescueError as error:
    told = {**error.to_plain(), "shown": str(error)}
told["grown"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
print(json.dumps(told))
"""

HELLO = (
    'head -n 1 >/dev/null; echo \'{"have": true, "python": "3.11", "arch": "MACHINE"}\'; '
    'echo \'{"hello": {"format": 1, "version": "0", "hostname": "x", "pid": 1}}\'; '
)
GARBAGE = {
    "lines": ("yes no agent at all", "stdout carries"),
    "one line without end": ("tr '\\0' x </dev/zero", "a line of more than 8 MiB"),
    "a gigabyte of zeros": ("head -c 1G /dev/zero", "a line of more than 8 MiB"),
    "a gigabyte of noise": ("head -c 1G /dev/urandom", "stdout carries"),
    "a gigabyte on stderr": ("head -c 1G /dev/zero >&2; exit 3", "the"),
    "nothing": ("exit 0", "ended before the agent started"),
    "never": ("exec sleep 60", "nothing was heard"),
    "another's answer": ("echo '{\"id\": 7}'; exec sleep 60", "nothing was heard"),
    "objects without end": ("yes '{\"have\": 1'; yes '{\"x\": 1}'", "stdout carries"),
    "deep nesting": ("head -c 100k /dev/zero | tr '\\0' '['; echo; exit 0", "stdout carries"),
    "escape sequences": ("printf '\\033]0;x\\007\\033[2J\\n'; exit 0", "ended before"),
    "hello and lines": (HELLO + "yes no", "stdout carries"),
    "hello and a line without end": (HELLO + "tr '\\0' x </dev/zero", "a line of more than 8 MiB"),
    "hello and never": (HELLO + "exec sleep 60", "no word from the agent"),
    "hello and a bomb of lists": (
        HELLO + "printf '{\"id\": 1, \"x\": ['; yes '[],' | head -c 6M | tr -d '\\n'; echo '1]}'",
        "stdout carries"),
    "hello of another age": ("echo '{\"have\": true, \"python\": \"3.11\", \"arch\": \"MACHINE\"}';"
                             "echo '{\"hello\": {\"format\": 99}}'; exec sleep 60", "format 99"),
}  # fmt: skip


@contextmanager
def every_login_runs(sshd: Sshd, script: str) -> Iterator[None]:
    """Whoever logs in gets this in place of what was asked for."""
    path = sshd.dir / "hostile"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    keys = sshd.dir / "authorized_keys"
    plain = (sshd.dir / "login.pub").read_text()
    keys.write_text(f'command="{path}" {plain}')
    try:
        yield
    finally:
        keys.write_text(plain)


@pytest.mark.reliability(
    "Hostile input",
    "a host answers with garbage, with 1 GiB of output, with nothing, or never, before or after its"
    " hello: it is cut off with a clear error, in bounded memory",
)
@pytest.mark.parametrize("name", GARBAGE)
def test_a_host_that_answers_with_garbage(sshd: Sshd, agent_file: AgentFile, name: str) -> None:
    script, told = GARBAGE[name]
    fields = json.dumps({**asdict(agent_file), "path": str(agent_file.path)})
    with every_login_runs(sshd, script.replace("MACHINE", agent_file.machine)):
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(sshd.config), fields, "3"],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
    ended = json.loads(done.stdout)
    assert told in ended["seen"], ended
    assert ended["kind"] in ("unreachable", "refused")
    assert all(c.isprintable() or c == "\n" for c in ended["shown"])
    assert len(ended["shown"]) < 4000
    assert ended["grown"] * 1024 < 300 * MIB, ended


BANNER = (
    "printf 'Welcome to \\033[31mm1\\033[0m\\r\\n\\n{not json}\\n[1, 2]\\n\"x\"\\n'; "
    'echo noise >&2; exec sh -c "$SSH_ORIGINAL_COMMAND"'
)


@pytest.mark.reliability(
    "Hostile input",
    "a host greets every login with a banner, on stdout and stderr: the agent's words are found"
    " behind it",
)
def test_a_login_banner_is_passed_over(sshd: Sshd, agent_file: AgentFile) -> None:
    with (
        every_login_runs(sshd, BANNER),
        open_channel(
            HostSpec("m1"), agent_file, sshd.access(), state_dir=str(sshd.dir / "state")
        ) as channel,
    ):
        assert channel.call("echo", {"a": 1}) == {"a": 1}


# ---- what is no sshd -----------------------------------------------------------------------------

NO_SSHD = {
    "one line without end": [b"x" * 65536] * 10_000,
    "lines without end": [b"line\r\n" * 1000] * 10_000,
    "a web server": [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"],
    "nothing": [],
    "noise after the greeting": [b"SSH-2.0-x\r\n", *[b"\xff" * 65536] * 1000],
    "an empty packet": [b"SSH-2.0-x\r\n", bytes(65536)],
    "an old protocol": [b"SSH-1.5-old\r\n"],
    "escape sequences": [b"SSH-\x1b]0;owned\x07-x\r\n"],
}


@pytest.mark.reliability(
    "Hostile input",
    "a port that should be an sshd's says something else, or nothing: a clear error within the"
    " deadline",
)
@pytest.mark.parametrize("name", NO_SSHD)
def test_a_port_that_is_no_sshd(sshd: Sshd, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_TIMEOUT", 2.0)
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                for piece in NO_SSHD[name]:
                    peer.sendall(piece)
                over.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        spec = HostSpec("m9", address="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(Unreachable) as caught:
            connect(spec, Access(config=str(sshd.config)))
        over.set()
    assert "SSH does not come up" in caught.value.seen
    assert all(c.isprintable() or c == "\n" for c in str(caught.value))


@pytest.mark.reliability(
    "Hostile input", "a host shows a key that is not known, or another one than is: refused"
)
@pytest.mark.parametrize(("known", "told"), [(False, "not known here"), (True, "HAS CHANGED")])
def test_unknown_and_changed_host_keys(sshd: Sshd, known: bool, told: str) -> None:
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIGEsNYkDyvXsuy7LkULlAQLAN0x8hAbfcLCNZ8LkcA8S"
    line = f"[127.0.0.1]:{sshd.port} ssh-ed25519 {other}\n"
    sshd.known_hosts.write_text(line if known else "")
    with (
        every_login_runs(sshd, "touch " + str(sshd.dir / "was-in")),
        pytest.raises(Refused, match=told) as caught,
    ):
        connect(HostSpec("m1"), sshd.access())
    assert "ssh-keygen" in str(caught.value)
    assert not (sshd.dir / "was-in").exists()
