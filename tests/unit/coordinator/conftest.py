"""A private sshd on the loopback, with keys and configuration of its own, and a small agent."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import CommandFailed
from coordinator.agent_file import AgentFile, build_agent
from coordinator.connection import Access
from coordinator.runtime_file import RuntimeFile
from images import runtime

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
KEY_TYPES = ("ed25519", "ecdsa", "rsa")

FAKE_AGENT = """
import json, os, sys, time


def say(message):
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\\n")
    sys.stdout.buffer.flush()


def main():
    name = os.uname().nodename
    say({"hello": {"format": 1, "version": "9.9", "hostname": name, "pid": os.getpid()}})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        id, verb, args = request["id"], request["verb"], request["args"]
        if verb == "echo":
            say({"id": id, "ok": args})
        elif verb == "steps":
            for number in range(args["count"]):
                say({"id": id, "progress": f"step {number}"})
                time.sleep(args.get("pause", 0))
            say({"id": id, "ok": args["count"]})
        elif verb == "refuse":
            error = {"kind": "refused", "seen": "no", "why": "because", "next": "x"}
            say({"id": id, "error": error})
        elif verb == "sleep":
            time.sleep(args["seconds"])
            say({"id": id, "ok": "slept"})
        elif verb == "bytes":
            say({"id": id, "ok": "x" * args["count"]})
        elif verb == "flood":
            while True:
                sys.stdout.buffer.write(b"y" * 65536)
        elif verb == "stderr":
            sys.stderr.write("d" * args["count"])
            say({"id": id, "ok": "said"})
        elif verb == "garbage":
            sys.stdout.buffer.write(b"not json\\n")
            say({"id": id, "ok": "anyway"})
        elif verb == "die":
            sys.stderr.write("the last words\\n")
            os._exit(3)
    return 0
"""


@dataclass
class Sshd:
    """A running sshd and an ssh_config that leads to it as `m1`. Files are in `dir`."""

    dir: Path
    port: int
    config: Path
    known_hosts: Path
    process: subprocess.Popen[bytes]

    def access(self, connect_timeout: float = 3.0) -> Access:
        return Access(config=str(self.config), connect_timeout=connect_timeout)

    def public_key(self, kind: str) -> str:
        return " ".join((self.dir / f"host_{kind}.pub").read_text().split()[:2])

    def trust(self, *kinds: str, name: str = "") -> None:
        """Write known_hosts anew: the host's keys of these kinds, under `name`."""
        name = name or f"[127.0.0.1]:{self.port}"
        self.known_hosts.write_text("".join(f"{name} {self.public_key(k)}\n" for k in kinds))

    def configure(self, text: str) -> None:
        """Write ssh_config anew: `text` first, then what every host needs."""
        self.config.write_text(
            textwrap.dedent(text)
            + textwrap.dedent(f"""
            Host *
                HostName 127.0.0.1
                Port {self.port}
                User root
                IdentityFile {self.dir}/login
                IdentitiesOnly yes
                UserKnownHostsFile {self.known_hosts}
                GlobalKnownHostsFile /dev/null
            """)
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path, kind: str = "ed25519") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(path)], check=True
    )


@pytest.fixture(scope="session")
def running_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if not SSHD or not shutil.which("ssh-keygen") or os.geteuid() != 0:
        pytest.skip("needs root, sshd and ssh-keygen")
    directory = tmp_path_factory.mktemp("sshd")
    for kind in KEY_TYPES:
        make_key(directory / f"host_{kind}", kind)
    make_key(directory / "login")
    shutil.copy(directory / "login.pub", directory / "authorized_keys")
    port = free_port()
    (directory / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nMaxStartups 100\n"
        + "".join(f"HostKey {directory}/host_{kind}\n" for kind in KEY_TYPES)
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [str(SSHD), "-D", "-f", f"{directory}/sshd_config", "-E", f"{directory}/log"],
        start_new_session=True,
    )
    sshd = Sshd(directory, port, directory / "config", directory / "known_hosts", process)
    try:
        _wait_for(port)
        yield sshd
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=5)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    pytest.fail("the private sshd did not start")


@pytest.fixture
def sshd(running_sshd: Sshd) -> Sshd:
    """The sshd, known and configured anew for every test."""
    running_sshd.trust(*KEY_TYPES)
    running_sshd.configure("")
    return running_sshd


@pytest.fixture(scope="session")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> AgentFile:
    """A real rescue-agent.pyz around the small agent above."""
    directory = tmp_path_factory.mktemp("agent")
    sources = directory / "agent"
    sources.mkdir()
    (sources / "__init__.py").write_text('__version__ = "9.9"\n')
    (sources / "entry").mkdir()
    (sources / "entry" / "__init__.py").write_text("")
    (sources / "entry" / "cli.py").write_text(FAKE_AGENT)
    return build_agent(sources=sources, output_dir=directory / "dist")


@pytest.fixture(scope="session")
def carried() -> RuntimeFile:
    """The real runtime for this machine."""
    try:
        return runtime.build_for_tests().file
    except CommandFailed as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no runtime can be built here: {error.seen}")
