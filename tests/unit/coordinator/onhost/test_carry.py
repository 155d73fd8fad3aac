"""The runtime that goes to a host without a Python: once, whole, or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import Refused, Unreachable
from coordinator import runtime_file
from coordinator.agent_file import AgentFile
from coordinator.channel import Channel
from coordinator.delivery import open_channel
from coordinator.hosts import HostSpec
from coordinator.onhost.settle import is_whole
from coordinator.runtime_file import RUNTIME_DIR, RuntimeFile, find_runtime
from tests.unit.coordinator.conftest import Sshd
from tests.unit.coordinator.onhost.conftest import runtimes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the agent is started as root")

HERE = HostSpec("here", transport="local")


def opened(agent_file: AgentFile, state: Path) -> Channel:
    return open_channel(HERE, agent_file, state_dir=str(state))


def command_of(channel: Channel) -> str:
    return Path(f"/proc/{channel.hello.pid}/cmdline").read_text().replace("\0", " ")


def test_the_runtime_is_taken_along_once(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    state = tmp_path / "state"
    with opened(agent_file, state) as channel:
        assert channel.call("echo", {"text": "snæfell"}) == {"text": "snæfell"}
        assert command_of(channel).startswith(f"{state}/runtime/{carried.tree_id}/lib/ld-linux")
        maps = Path(f"/proc/{channel.hello.pid}/maps").read_text().split()
        libraries = {word for word in maps if ".so" in word}
        assert libraries
        assert all(path.startswith(f"{state}/") for path in libraries)
    assert runtimes(state) == [carried.tree_id]
    assert is_whole(str(state / "runtime" / carried.tree_id))
    # From now on it is there: what would be sent cannot be read, and is not asked for.
    empty = dataclasses.replace(carried, path=tmp_path / "gone")
    monkeypatch.setattr("coordinator.delivery.find_runtimes", lambda: [empty])
    with opened(agent_file, state) as channel:
        assert channel.call("echo", {}) == {}


def test_it_comes_over_ssh(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile, sshd: Sshd
) -> None:
    spec, state = HostSpec("m1"), tmp_path / "state"
    with open_channel(spec, agent_file, sshd.access(), str(state)) as channel:
        assert channel.call("echo", {"a": 1}) == {"a": 1}
    assert runtimes(state) == [carried.tree_id]


def damage_a_byte(home: Path) -> None:
    path = home / "lib/libcrypto.so.3"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def take_a_file(home: Path) -> None:
    (home / "lib/libz.so.1").unlink()


def add_a_module(home: Path) -> None:
    (home / "lib/python3.11/ssl.py").write_text("print('not ours')\n")


def add_a_library(home: Path) -> None:
    folder = home / "lib/glibc-hwcaps"
    folder.mkdir()
    (folder / "libc.so.6").write_text("")


def change_the_sums(home: Path) -> None:
    with (home / "SHA256SUMS").open("a") as file:
        file.write("\n")


def link_elsewhere(home: Path) -> None:
    home.rename(home.with_name("elsewhere"))
    home.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "harm",
    [damage_a_byte, take_a_file, add_a_module, add_a_library, change_the_sums, link_elsewhere],
)
def test_a_runtime_that_is_not_whole_never_runs_and_is_replaced(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile, harm: object
) -> None:
    assert callable(harm)
    home = tmp_path / "runtime" / carried.tree_id
    home.parent.mkdir(mode=0o700)
    shutil.copytree(carried.path.with_name(runtime_file.stem(carried.machine)), home)
    assert is_whole(str(home))
    harm(home)
    assert not is_whole(str(home))
    with opened(agent_file, tmp_path) as channel:
        assert channel.call("echo", {}) == {}
        assert str(home) in command_of(channel)
    assert is_whole(str(home))
    assert not list(home.parent.glob("*.tmp"))


@pytest.mark.parametrize("part", ["path", "busybox"])
def test_what_arrives_damaged_never_runs(
    bare: Path, tmp_path: Path, agent_file: AgentFile, carried: RuntimeFile, part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    here = tmp_path / "here"
    here.mkdir()
    file = copied(carried, here)
    path = getattr(file, part)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    monkeypatch.setenv(RUNTIME_DIR, str(here))
    with pytest.raises(Unreachable, match="arrived damaged"):
        opened(agent_file, tmp_path / "state")
    assert runtimes(tmp_path / "state") == []


def copied(carried: RuntimeFile, here: Path) -> RuntimeFile:
    """The runtime's files in a directory of their own."""
    for path in carried.path.parent.glob(f"{runtime_file.stem(carried.machine)}[-.]*"):
        shutil.copy(path, here)
    found = find_runtime(carried.machine, here)
    assert found
    return found


def test_a_runtime_that_is_not_all_there_is_none(tmp_path: Path, carried: RuntimeFile) -> None:
    file = copied(carried, tmp_path)
    file.path.write_bytes(file.path.read_bytes()[:-1])
    assert find_runtime(carried.machine, tmp_path) is None
    assert find_runtime("vax", tmp_path) is None


def test_without_a_runtime_it_is_said_how_to_get_one(
    bare: Path, tmp_path: Path, agent_file: AgentFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path))
    with pytest.raises(Refused, match="no runtime") as caught:
        opened(agent_file, tmp_path / "state")
    assert "make runtime" in caught.value.next
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("tool", ["sha256sum", "head"])
def test_a_command_that_the_host_lacks_is_named(
    bare: Path, tmp_path: Path, agent_file: AgentFile, tool: str
) -> None:
    (bare / tool).unlink()
    with pytest.raises(Refused, match=f"commands that it lacks: {tool}"):
        opened(agent_file, tmp_path / "state")
    assert not (tmp_path / "state").exists()


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    path.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("size", ["1m", "4m", "20m", "32m"])
def test_a_full_disk_is_said_and_nothing_is_left(
    bare: Path, tmp_path: Path, agent_file: AgentFile, size: str
) -> None:
    state = tmp_path / "state"
    with mounted(state, f"size={size},mode=700"):
        with pytest.raises(Unreachable, match=r"cannot be (written|put)") as caught:
            opened(agent_file, state)
        assert "No space left" in str(caught.value)
        assert "df -h" in caught.value.next
        assert runtimes(state) == []


def test_64_mib_are_enough(bare: Path, tmp_path: Path, agent_file: AgentFile) -> None:
    state = tmp_path / "state"
    with mounted(state, "size=64m,mode=700"), opened(agent_file, state) as channel:
        assert channel.call("echo", {}) == {}


def test_a_directory_where_nothing_may_run_is_named(
    bare: Path, tmp_path: Path, agent_file: AgentFile
) -> None:
    state = tmp_path / "state"
    with mounted(state, "noexec,mode=700"):
        with pytest.raises(Unreachable, match="mounted noexec") as caught:
            opened(agent_file, state)
        assert "findmnt" in caught.value.next
        assert runtimes(state) == []


@pytest.mark.parametrize("place", ["", "runtime"])
def test_a_directory_that_others_can_write_to_is_refused(
    bare: Path, tmp_path: Path, agent_file: AgentFile, place: str
) -> None:
    state = tmp_path / "state"
    (state / "runtime").mkdir(parents=True)
    state.chmod(0o700)
    (state / place).chmod(0o770)
    with pytest.raises(Unreachable, match="others could put programs of theirs there"):
        opened(agent_file, state)
