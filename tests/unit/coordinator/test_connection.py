"""Connections to a real sshd: host keys verified on every hop, every failure with its own text."""

from __future__ import annotations

import base64
import dataclasses
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import fabric
import pytest

from agent.errors import Refused, RescueError, Unreachable, UsageError
from coordinator import sshconfig
from coordinator.connection import Access, connect, resolve
from coordinator.hostkeys import fingerprint
from coordinator.hosts import HostSpec
from tests.unit.coordinator.conftest import KEY_TYPES, Sshd, free_port, make_key

M1 = HostSpec("m1")


def hostname_over(spec: HostSpec, access: Access) -> str:
    link = connect(spec, access)
    try:
        assert isinstance(link.connection, fabric.Connection)
        return str(link.connection.run("uname -n", hide=True, in_stream=False).stdout.strip())
    finally:
        link.close()


def failure_of(spec: HostSpec, access: Access) -> RescueError:
    with pytest.raises(RescueError) as caught:
        connect(spec, access)
    return caught.value


# ---- host keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_the_key_type_that_is_known_is_asked_for(sshd: Sshd, kind: str) -> None:
    sshd.trust(kind)
    assert hostname_over(M1, sshd.access()) == os.uname().nodename


@pytest.mark.parametrize("names", ["m1", "127.0.0.1", "*.0.0.1,other", "[127.0.0.*]:*"])
def test_names_a_key_may_be_known_under(sshd: Sshd, names: str) -> None:
    sshd.trust("ed25519", name=names)
    connect(M1, sshd.access()).close()


def test_hashed_names_are_known(sshd: Sshd) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(sshd.known_hosts)], check=True)
    assert "127.0.0.1" not in sshd.known_hosts.read_text()
    connect(M1, sshd.access()).close()


def test_an_alias_is_looked_up_alone(sshd: Sshd) -> None:
    sshd.configure("Host m1\n  HostKeyAlias the-alias\n")
    assert isinstance(failure_of(M1, sshd.access()), Refused)
    sshd.trust("ed25519", name="the-alias")
    connect(M1, sshd.access()).close()


def test_an_unknown_key_is_refused_and_the_command_shown_accepts_it(sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    error = failure_of(M1, sshd.access())
    assert isinstance(error, Refused)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(sshd.dir / "host_ed25519.pub")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shown.split()[1] in error.seen
    command = error.next.partition("if equal: ")[2]
    assert command.startswith("ssh-keyscan -t ed25519 -p ")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    connect(M1, sshd.access()).close()


def test_a_changed_key_is_refused_loudly_and_the_command_shown_forgets_it(
    sshd: Sshd, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    type, blob, *_ = (tmp_path / "other.pub").read_text().split()
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {type} {blob}\n")
    error = failure_of(M1, sshd.access())
    assert isinstance(error, Refused)
    assert "HAS CHANGED" in error.seen
    new = base64.b64decode(sshd.public_key("ed25519").split()[1])
    assert fingerprint(base64.b64decode(blob)) in error.seen
    assert fingerprint(new) in error.seen
    command = error.next[error.next.index("ssh-keygen") :]
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert "not known here" in failure_of(M1, sshd.access()).seen


def test_a_revoked_key_is_refused_even_if_known(sshd: Sshd) -> None:
    with sshd.known_hosts.open("a") as file:
        file.write(f"@revoked * {sshd.public_key('ed25519')}\n")
    assert "REVOKED" in failure_of(M1, sshd.access()).seen


def test_strict_host_key_checking_cannot_be_switched_off(sshd: Sshd) -> None:
    sshd.configure("Host m1\n  StrictHostKeyChecking no\n")
    sshd.known_hosts.write_text("")
    assert isinstance(failure_of(M1, sshd.access()), Refused)


# ---- ssh_config, jumps and proxies ---------------------------------------------------------------


def test_a_chain_of_jump_hosts_is_verified_hop_by_hop(sshd: Sshd) -> None:
    sshd.configure(
        "Host m1\n  ProxyJump b\nHost b\n  ProxyJump a\n  HostKeyAlias bee\n"
        "Host a\n  HostKeyAlias aye\n"
    )
    keys = f"[127.0.0.1]:{sshd.port} {sshd.public_key('ed25519')}\n"
    bee, aye = (f"{name} {sshd.public_key('rsa')}\n" for name in ("bee", "aye"))
    sshd.known_hosts.write_text(keys + bee + aye)
    link = connect(M1, sshd.access())
    assert len(link.hops) == 2
    link.close()
    for missing, hop in ((keys + bee, "a (127.0.0.1)"), (keys + aye, "b (127.0.0.1)")):
        sshd.known_hosts.write_text(missing)
        error = failure_of(M1, sshd.access())
        assert isinstance(error, Refused)
        assert error.seen.startswith(hop)
    sshd.known_hosts.write_text(bee + aye)
    error = failure_of(M1, sshd.access())
    assert error.seen.startswith("m1 (127.0.0.1)")
    assert "ssh m1" in error.next


def test_a_given_jump_host_wins_over_the_file(sshd: Sshd) -> None:
    sshd.configure("Host m1\n  ProxyCommand false\n")
    spec = HostSpec("m1", jump=f"root@127.0.0.1:{sshd.port},other")
    assert hostname_over(spec, sshd.access()) == os.uname().nodename
    assert hostname_over(HostSpec("m1", jump="none"), sshd.access())


def test_a_circle_of_jump_hosts_is_refused(sshd: Sshd) -> None:
    sshd.configure("Host m1\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(UsageError, match="more than 8 jump hosts"):
        connect(M1, sshd.access())


def test_a_dead_target_behind_a_jump_host_is_told_from_a_dead_jump_host(sshd: Sshd) -> None:
    dead = free_port()
    sshd.configure(f"Host m1\n  ProxyJump a\n  Port {dead}\n")
    assert "the jump host cannot connect to it" in failure_of(M1, sshd.access()).seen
    sshd.configure(f"Host m1\n  ProxyJump a\nHost a\n  Port {dead}\n")
    error = failure_of(M1, sshd.access())
    assert error.seen.startswith("a (127.0.0.1)")
    assert "connection refused" in error.seen


@pytest.mark.parametrize(
    "command", ["nc %h %p", "python3 {relay} %h %p 2>/dev/null", "ssh -F {config} -W %h:%p direct"]
)
def test_a_proxy_command_carries_the_connection(sshd: Sshd, tmp_path: Path, command: str) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(RELAY)
    if command.startswith("nc") and subprocess.run(["which", "nc"], check=False).returncode:
        pytest.skip("no nc here")
    command = command.format(relay=relay, config=sshd.config)
    sshd.configure(f"Host m1\n  ProxyCommand {command}\n")
    assert hostname_over(M1, sshd.access()) == os.uname().nodename


RELAY = """
import os, select, socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    for ready in select.select([0, peer], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else peer.recv(65536)
        if not data:
            sys.exit()
        peer.sendall(data) if ready == 0 else os.write(1, data)
"""


def test_a_proxy_command_that_fails_is_said(sshd: Sshd) -> None:
    sshd.configure("Host m1\n  ProxyCommand false\n")
    error = failure_of(M1, sshd.access())
    assert isinstance(error, Unreachable)
    assert "SSH does not come up" in error.seen


def test_options_come_from_the_file_and_the_spec_wins(sshd: Sshd, tmp_path: Path) -> None:
    included = tmp_path / "included"
    included.write_text("Host m2\n  HostName 192.0.2.7\n  User ann\n  ConnectTimeout 9\n")
    sshd.configure(f"Include {included}\n")
    options = resolve(HostSpec("m2"), sshd.access())
    assert (options.hostname, options.user, options.port) == ("192.0.2.7", "ann", sshd.port)
    assert options.connect_timeout == 9
    spec = HostSpec("m2", address="192.0.2.8", user="bob", port=2022, jump="c@d:5")
    options = resolve(spec, sshd.access())
    assert (options.hostname, options.user, options.port) == ("192.0.2.8", "bob", 2022)
    assert options.jumps == ("c@d:5",)


def test_without_an_ssh_client_the_file_is_still_read(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshconfig._ask_ssh.cache_clear()
    monkeypatch.setattr("coordinator.sshconfig.shutil.which", lambda _: None)
    assert hostname_over(M1, sshd.access()) == os.uname().nodename
    assert resolve(HostSpec("m1", user="bob"), sshd.access()).user == "bob"


@pytest.mark.parametrize("name", ["-oProxyCommand=x", "a b", "a;b", "", "a\n", "ü", "$(x)", "../x"])
def test_names_that_are_none_never_reach_ssh(sshd: Sshd, name: str) -> None:
    with pytest.raises(UsageError):
        connect(HostSpec(name), sshd.access())


# ---- failures ------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def answering(server: socket.socket, data: bytes) -> None:
    """Greet every connection with `data`, then hold it open."""
    held = []

    def serve() -> None:
        while True:
            try:
                held.append(server.accept()[0])
                held[-1].sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()


def test_a_refused_connection(sshd: Sshd) -> None:
    error = failure_of(HostSpec("m1", port=free_port()), sshd.access())
    assert isinstance(error, Unreachable)
    assert "connection refused" in error.seen


def test_no_answer_ends_at_the_connect_timeout(sshd: Sshd) -> None:
    with socket.socket() as full:  # a full backlog drops further SYNs, as a firewall does
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        error = failure_of(HostSpec("m1", port=port), sshd.access(connect_timeout=0.3))
        for filler in fillers:
            filler.close()
    assert "no answer in time" in error.seen


def test_a_name_that_does_not_resolve(sshd: Sshd) -> None:
    error = failure_of(HostSpec("m1", address="no-such-host.invalid"), sshd.access())
    assert "does not resolve" in error.seen


def test_a_port_that_is_no_sshd(sshd: Sshd, listener: socket.socket) -> None:
    answering(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)
    error = failure_of(HostSpec("m1", port=listener.getsockname()[1]), sshd.access())
    assert "SSH does not come up" in error.seen


def test_a_silent_port_ends_at_the_handshake_timeout(
    sshd: Sshd, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.connection.HANDSHAKE_TIMEOUT", 1)
    error = failure_of(HostSpec("m1", port=listener.getsockname()[1]), sshd.access())
    assert "the port is open, but SSH does not come up" in error.seen


def test_a_login_that_is_not_allowed(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    sshd.configure(f"Host m1\n  IdentityFile {tmp_path}/stranger\n  User nobody\n")
    error = failure_of(M1, sshd.access())
    assert isinstance(error, Unreachable)
    assert "login as nobody failed" in error.seen
    assert "ssh-add -l" in error.next


def test_no_key_at_all(sshd: Sshd) -> None:
    text = sshd.config.read_text().replace(f"{sshd.dir}/login", "/nowhere/key")
    sshd.config.write_text(text)
    assert "login as root failed" in failure_of(M1, sshd.access()).seen


def test_keys_may_come_from_an_ssh_agent(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
        while not address.exists():
            pass
        subprocess.run(["ssh-add", "-q", str(sshd.dir / "login")], check=True)
        text = sshd.config.read_text().replace(f"{sshd.dir}/login", "/nowhere/key")
        sshd.config.write_text(text.replace("IdentitiesOnly yes", "IdentitiesOnly no"))
        connect(M1, sshd.access()).close()
    finally:
        process.terminate()
        process.wait()


def test_a_passphrase_is_asked_for_by_name(sshd: Sshd, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "words", "-f", str(tmp_path / "locked")],
        check=True,
    )
    text = sshd.config.read_text().replace(f"{sshd.dir}/login", f"{tmp_path}/locked")
    sshd.config.write_text(text)
    error = failure_of(M1, sshd.access())
    assert "login as root failed" in error.seen
    assert "ssh-add" in error.next
    with (sshd.dir / "authorized_keys").open("a") as file:
        file.write((tmp_path / "locked.pub").read_text())
    connect(M1, dataclasses.replace(sshd.access(), password="words")).close()
