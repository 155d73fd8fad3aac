"""Delivery over a real sshd and on this machine: pushed once, checked, started."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from agent.errors import Refused, Unreachable
from coordinator import delivery
from coordinator.agent_file import AgentFile
from coordinator.channel import Messages
from coordinator.connection import Access
from coordinator.delivery import Code, host_command, open_channel
from coordinator.hosts import HostSpec
from coordinator.onhost import code
from coordinator.onhost.code import SUDO_COMMAND, start_lines
from coordinator.streams import ProcessStream
from tests.unit.coordinator.conftest import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent is started as root")

HERE = HostSpec("here", transport="local")
M1 = HostSpec("m1")


def test_first_delivery_leaves_a_private_checked_file(
    sshd: Sshd, agent_file: AgentFile, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    with open_channel(M1, agent_file, sshd.access(), str(state)) as channel:
        assert channel.hello.version == "9.9"
        assert channel.hello.hostname == os.uname().nodename
        assert channel.call("echo", {"text": "snæfell"}) == {"text": "snæfell"}
    stored = state / "agent" / f"{agent_file.sha256}.pyz"
    assert stored.read_bytes() == agent_file.path.read_bytes()
    for path in (state, state / "agent", stored):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert sorted(p.name for p in stored.parent.iterdir()) == sorted([stored.name, "unpacked"])


def test_second_delivery_pushes_nothing(sshd: Sshd, agent_file: AgentFile, tmp_path: Path) -> None:
    open_channel(M1, agent_file, sshd.access(), str(tmp_path)).close()
    stored = tmp_path / "agent" / f"{agent_file.sha256}.pyz"
    before = stored.stat()
    without_content = dataclasses.replace(agent_file, path=tmp_path / "not-there")
    with open_channel(M1, without_content, sshd.access(), str(tmp_path)) as channel:
        assert channel.call("echo", {}) == {}
    assert stored.stat().st_ino == before.st_ino


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 400_000])
def test_a_damaged_file_on_the_host_is_replaced(
    agent_file: AgentFile, tmp_path: Path, damage: bytes
) -> None:
    (tmp_path / "agent").mkdir(mode=0o700)
    stored = tmp_path / "agent" / f"{agent_file.sha256}.pyz"
    stored.write_bytes(damage)
    with open_channel(HERE, agent_file, state_dir=str(tmp_path)) as channel:
        assert channel.call("echo", {"a": 1}) == {"a": 1}
    assert stored.read_bytes() == agent_file.path.read_bytes()


def test_content_that_is_not_what_was_announced_never_runs(
    agent_file: AgentFile, tmp_path: Path
) -> None:
    other = tmp_path / "other.pyz"
    data = bytearray(agent_file.path.read_bytes())
    data[len(data) // 2] ^= 1
    other.write_bytes(bytes(data))
    wrong = dataclasses.replace(agent_file, path=other)
    with pytest.raises(Unreachable, match="sha256 is not the one announced"):
        open_channel(HERE, wrong, state_dir=str(tmp_path / "state"))
    assert list((tmp_path / "state" / "agent").glob("*.pyz*")) == []


def test_what_an_earlier_boot_unpacked_is_not_trusted(
    agent_file: AgentFile, tmp_path: Path
) -> None:
    open_channel(HERE, agent_file, state_dir=str(tmp_path)).close()
    unpacked = tmp_path / "agent" / "unpacked"
    (home,) = unpacked.iterdir()
    old = home.with_name(home.name[:-8] + "00000000")
    home.rename(old)
    (old / "site-packages" / "agent" / "entry" / "cli.py").write_text("")  # what a power cut leaves
    with open_channel(HERE, agent_file, state_dir=str(tmp_path)) as channel:
        assert channel.call("echo", {}) == {}
    assert [p.name for p in unpacked.iterdir()] == [home.name]


@pytest.mark.parametrize("what", ["link", "file"])
def test_a_state_directory_that_is_none_is_refused(
    agent_file: AgentFile, tmp_path: Path, what: str
) -> None:
    state = tmp_path / "state"
    if what == "link":
        (tmp_path / "elsewhere").mkdir()
        state.symlink_to(tmp_path / "elsewhere")
    else:
        state.write_text("")
    with pytest.raises(Unreachable, match="cannot be put there") as caught:
        open_channel(HERE, agent_file, state_dir=str(state))
    assert "df" in caught.value.next


def test_no_room_is_said(agent_file: AgentFile, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        with pytest.raises(Unreachable, match="No space left"):
            open_channel(HERE, agent_file, state_dir=str(tmp_path / "state"))
        assert list((tmp_path / "state" / "agent").glob("*.pyz*")) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_another_machine_gets_the_agent_built_for_it(
    agent_file: AgentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build(machine: str) -> AgentFile:
        asked.append(machine)
        return agent_file

    monkeypatch.setattr(delivery, "build_agent", build)
    foreign = dataclasses.replace(agent_file, machine="riscv64")
    with open_channel(HERE, foreign, state_dir=str(tmp_path)) as channel:
        assert channel.call("echo", {}) == {}
    assert asked == [os.uname().machine]


# ---- the command line on the host ----------------------------------------------------------------


def run_command(
    command: str, stdin: bytes, *shell: str, path: str = "/usr/bin:/bin"
) -> subprocess.CompletedProcess[bytes]:
    argv = [*(shell or ("sh", "-c")), command]
    return subprocess.run(argv, input=stdin, capture_output=True, env={"PATH": path}, check=False)


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "busybox", "csh", "tcsh", "zsh", "fish"])
def test_any_login_shell_runs_it(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    argv = ("busybox", "sh", "-c") if shell == "busybox" else (shell, "-c")
    lines = start_lines("/nowhere", []) + b"print('ran')\n"
    done = run_command(host_command(True, False), lines, *argv)
    assert done.stdout.decode().splitlines() == ["{}", "ran"]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "busybox", "csh", "tcsh", "zsh", "fish"])
def test_any_login_shell_asks_sudo_for_the_documented_command(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nshift; printf "%s" "$*"\n')
    sudo.chmod(0o755)
    command = host_command(False, False).replace("/usr/sbin:", f"{tmp_path}:/usr/sbin:")
    argv = ("busybox", "sh", "-c") if shell == "busybox" else (shell, "-c")
    assert run_command(command, b"", *argv).stdout.decode() == SUDO_COMMAND


# ---- sudo ------------------------------------------------------------------------------------

SUDO = """#!/bin/sh
# What sudo does, as far as it matters here: asks on stderr, reads one line of stdin.
while [ "${1#-}" != "$1" ]; do
  case $1 in -S) ask=1 ;; -p) prompt=$2; shift ;; -n) never=1 ;; esac; shift
done
[ "$MODE" = free ] && exec "$@"
[ "$never" ] && { echo "$SAYS" >&2; exit 1; }
for try in 1 2 3; do
  printf %s "$prompt" >&2
  line=; while c=$(dd bs=1 count=1 2>/dev/null); [ "$c" ]; do line=$line$c; done
  [ "$line" = secret ] && exec "$@"
  echo "Sorry, try again." >&2
done
exit 1
"""


def as_user(
    agent_file: AgentFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    says: str = "",
) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    sudo = tmp_path / "bin" / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    monkeypatch.setattr(delivery, "SEARCH_PATH", f"{tmp_path}/bin:{code.SEARCH_PATH}")
    monkeypatch.setenv("MODE", mode)
    monkeypatch.setenv("SAYS", says)
    real = host_command
    monkeypatch.setattr(delivery, "host_command", lambda _, password: real(False, password))


@pytest.mark.parametrize("mode", ["free", "asks"])
def test_sudo_password_is_given_only_when_asked(
    agent_file: AgentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    as_user(agent_file, tmp_path, monkeypatch, mode)
    access = Access(sudo_password="secret")
    with open_channel(HERE, agent_file, access, str(tmp_path / "state")) as channel:
        assert channel.call("echo", {"a": 1}) == {"a": 1}


def test_a_wrong_sudo_password_is_tried_once(
    agent_file: AgentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(agent_file, tmp_path, monkeypatch, "asks")
    with pytest.raises(Refused, match="did not take the password"):
        open_channel(HERE, agent_file, Access(sudo_password="wrong"), str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("says", "seen", "next"),
    [
        ("sudo: a password is required", "wants a password", "--ask-sudo-password"),
        ("sudo: sorry, you must have a tty to run sudo", "requiretty", "!requiretty"),
        ("ann is not in the sudoers file.", "may not become root", "-H NAME@HOST"),
        ("bash: line 1: sudo: command not found", "no sudo", "user: root"),
        ("Segmentation fault", "ended before the agent started", "sudo -n -l"),
    ],
)
def test_what_sudo_says_becomes_a_next_command(
    agent_file: AgentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    says: str, seen: str, next: str,
) -> None:  # fmt: skip
    as_user(agent_file, tmp_path, monkeypatch, "never", says)
    with pytest.raises((Refused, Unreachable), match=seen) as caught:
        open_channel(HERE, agent_file, Access(), str(tmp_path / "state"))
    assert next in caught.value.next
    assert says in str(caught.value)


def test_no_secret_is_in_the_command_line() -> None:
    assert "secret" not in host_command(False, True)
    assert "secret" not in repr(Access(password="secret", sudo_password="secret"))


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_the_agent_starts_on_every_python(
    agent_file: AgentFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} here")
    monkeypatch.setattr(code, "PYTHONS", str(found[0]))
    for _ in range(2):
        with open_channel(HERE, agent_file, state_dir=str(tmp_path)) as channel:
            assert channel.call("echo", {"python": version}) == {"python": version}


def test_a_host_that_was_gone_before_the_code_came_is_told_by_its_own_words(
    agent_file: AgentFile,
) -> None:
    said = '{"have": false, "python": "", "found": "python3 3.6", "arch": "vax", "lacks": ""}'
    stream = ProcessStream(["/bin/echo", said])
    stream._process.wait(timeout=5)
    messages = Messages(stream, "m1")
    lines = Code(b"x" * 4096, b"")
    with pytest.raises(Refused, match=r"m1: no Python 3.9 or newer there \(python3 3.6\), and"):
        delivery.deliver("m1", stream, messages, lines, agent_file, Access())
    stream.close()
