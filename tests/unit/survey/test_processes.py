"""Which processes are etcd, what systemd says, and when etcd counts as stopped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from agent.host import Host
from agent.model.facts import Container, EtcdConfig, Runtime
from agent.survey.processes import (
    addresses,
    etcd_ports,
    etcd_processes,
    is_etcd_stopped,
    is_scratch,
    listening,
    parse_service,
    read_service,
)
from tests.unit.etcd_lab import free_port

HOST = Host("/")


@pytest.fixture
def config(tmp_path: Path) -> EtcdConfig:
    """A definition that is parked, on ports that nothing else uses."""
    return EtcdConfig(
        definition=str(tmp_path / "manifests/etcd.yaml"),
        sha256="",
        name="m0",
        data_dir=str(tmp_path / "data"),
        listen_client_urls=(f"https://127.0.0.1:{free_port()}",),
        listen_peer_urls=(f"https://127.0.0.1:{free_port()}",),
    )


@pytest.fixture
def fake_etcd(tmp_path: Path) -> Iterator[int]:
    """The pid of a process named etcd: a copy of sleep."""
    binary = tmp_path / "etcd"
    shutil.copy("/bin/sleep", binary)
    process = subprocess.Popen([str(binary), "60"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("etcd", "--data-dir=/var/lib/etcd-rescue/work/1f2e"), True),
        (("etcd", "--data-dir", "/var/lib/etcd/.etcd-rescue/work/1f2e"), True),
        (("etcd", "-data-dir=/var/lib/etcd-rescue/work/1f2e"), True),
        (("etcd", "--data-dir=/var/lib/etcd"), False),
        (("etcd", "--data-dir=/var/lib/etcd-rescue/quarantine/1f2e"), False),
        (("etcd", "--data-dir"), False),
        (("etcd", "--wal-dir=/var/lib/etcd-rescue/work/1"), False),
        ((), False),
    ],
)
def test_a_scratch_etcd_is_told_by_its_data_directory(
    argv: tuple[str, ...], expected: bool
) -> None:
    assert is_scratch(argv) is expected


def test_a_process_named_etcd_is_found_and_one_that_ended_is_not(fake_etcd: int) -> None:
    (found,) = [p for p in etcd_processes(HOST) if p.pid == fake_etcd]
    assert abs(found.started - time.time()) < 30
    assert found.argv[1:] == ("60",)
    assert not found.scratch


def test_ports_are_the_usual_ones_and_the_configured_ones(config: EtcdConfig) -> None:
    assert etcd_ports(None) == (2379, 2380, 2381)
    odd = replace(config, listen_client_urls=("http://[::]:4001", "unix:///x", "http://h:bad"))
    assert 4001 in etcd_ports(odd)
    port = int(config.listen_client_urls[0].rsplit(":", 1)[1])
    assert port not in listening(HOST, config)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        assert port in listening(HOST, config)


class Alone(Host):
    """This machine without what others run on it: only the test's own processes, no usual ports."""

    def processes(self, name: str) -> Iterator[psutil.Process]:
        mine = {child.pid for child in psutil.Process().children(recursive=True)}
        return (process for process in super().processes(name) if process.pid in mine)

    def listening_ports(self) -> set[int]:
        return super().listening_ports() - {2379, 2380, 2381}


def stopped(config: EtcdConfig, runtime: Runtime | None) -> tuple[bool, str]:
    return is_etcd_stopped(Alone("/"), config, runtime)


GONE = Runtime(answers=True)


def test_stopped_needs_all_signs(config: EtcdConfig) -> None:
    is_stopped, seen = stopped(config, GONE)
    assert is_stopped
    assert "no pod sandbox ready" in seen
    assert stopped(config, None)[0]


def test_a_definition_in_place_is_not_stopped(config: EtcdConfig) -> None:
    Path(config.definition).parent.mkdir()
    Path(config.definition).write_text("kind: Pod\n")
    assert stopped(config, GONE) == (False, f"its definition is in place: {config.definition}")


def test_a_port_that_listens_is_not_stopped(config: EtcdConfig) -> None:
    port = int(config.listen_peer_urls[0].rsplit(":", 1)[1])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()
        assert stopped(config, GONE) == (False, f"something listens on port {port}")


def test_a_process_is_not_stopped(config: EtcdConfig, fake_etcd: int) -> None:
    is_stopped, seen = stopped(config, GONE)
    assert not is_stopped
    assert seen == f"etcd runs as process {fake_etcd}"


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (Runtime(answers=True, sandboxes_ready=1), "still ready"),
        (Runtime(True, (Container("c" * 64, "s", "running"),)), "container ccccccccccccc is"),
    ],
)
def test_a_pod_that_may_come_back_is_not_stopped(
    config: EtcdConfig, runtime: Runtime, said: str
) -> None:
    is_stopped, seen = stopped(config, runtime)
    assert not is_stopped
    assert said in seen


class Hung(Alone):
    """A machine whose container runtime runs (here: the test itself) and does not answer."""

    def processes(self, name: str) -> Iterator[psutil.Process]:
        return iter([psutil.Process()]) if name == "containerd" else super().processes(name)


def test_a_runtime_that_does_not_answer_proves_nothing_unless_none_runs(
    config: EtcdConfig,
) -> None:
    silent = Runtime(answers=False, error="no answer in 3 s")
    is_stopped, seen = is_etcd_stopped(Hung("/"), config, silent)
    assert not is_stopped
    assert "no answer in 3 s" in seen
    is_stopped, seen = stopped(config, silent)
    assert is_stopped
    assert "no container runtime running to start any, no etcd process" in seen


def test_an_exited_container_in_a_dead_sandbox_is_stopped(config: EtcdConfig) -> None:
    assert stopped(config, Runtime(True, (Container("c", "s", "exited"),)))[0]


@pytest.mark.parametrize(
    ("shown", "active", "since"),
    [
        ("LoadState=loaded\nActiveState=active\nActiveEnterTimestampMonotonic=5000000\n"
         "StateChangeTimestampMonotonic=6000000\n", "active", 1005.0),
        ("LoadState=loaded\nActiveState=failed\nActiveEnterTimestampMonotonic=5000000\n"
         "StateChangeTimestampMonotonic=6000000\n", "failed", 1006.0),
        ("LoadState=loaded\nActiveState=inactive\nActiveEnterTimestampMonotonic=0\n"
         "StateChangeTimestampMonotonic=0\n", "inactive", 0.0),
        ("LoadState=not-found\nActiveState=inactive\n", "not-found", 0.0),
        ("", "", 0.0),
    ],
)  # fmt: skip
def test_what_systemctl_shows(shown: str, active: str, since: float) -> None:
    service = parse_service("kubelet.service", shown, booted=1000.0)
    assert (service.name, service.active, service.since) == ("kubelet.service", active, since)


def test_without_systemd_the_state_is_empty_or_not_found(tmp_path: Path) -> None:
    assert read_service(HOST, "no-such-thing.service").active in ("", "not-found")
    assert read_service(Host(str(tmp_path)), "kubelet.service").active == ""


def test_addresses_leave_out_loopback() -> None:
    assert not [a for a in addresses() if a.startswith(("127.", "fe80")) or a == "::1"]
