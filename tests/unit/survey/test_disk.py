"""How the data directory lies, and how much room there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host import Host
from agent.survey.disk import is_read_only, read_disk


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "var/lib").mkdir(parents=True)
    return Host(str(tmp_path))


def test_a_plain_directory(host: Host, tmp_path: Path) -> None:
    (tmp_path / "var/lib/etcd").mkdir()
    disk = read_disk(host, "/var/lib/etcd")
    assert (disk.data_kind, disk.data_real) == ("plain", "/var/lib/etcd")
    assert disk.data_free > 0
    assert disk.data_inodes_free > 0
    assert disk.state_free > 0
    assert disk.same_filesystem
    assert not disk.read_only


def test_a_missing_one_is_measured_at_its_parent(host: Host) -> None:
    disk = read_disk(host, "/var/lib/etcd")
    assert disk.data_kind == "missing"
    assert disk.data_free > 0


def test_a_link_is_followed_inside_the_root(host: Host, tmp_path: Path) -> None:
    (tmp_path / "data/etcd").mkdir(parents=True)
    (tmp_path / "var/lib/etcd").symlink_to("/data/etcd")
    disk = read_disk(host, "/var/lib/etcd")
    assert (disk.data_kind, disk.data_real) == ("symlink", "/data/etcd")


def test_a_link_to_nowhere_is_missing(host: Host, tmp_path: Path) -> None:
    (tmp_path / "var/lib/etcd").symlink_to("/data/etcd")
    assert read_disk(host, "/var/lib/etcd").data_kind == "missing"


def test_a_file_where_the_directory_should_be_is_missing(host: Host, tmp_path: Path) -> None:
    (tmp_path / "var/lib/etcd").write_text("")
    assert read_disk(host, "/var/lib/etcd").data_kind == "missing"


def test_another_file_system_is_noticed() -> None:
    host = Host("/")
    if host.device("/dev/shm") == host.device("/var/lib"):
        pytest.skip("/dev/shm is no file system of its own here")
    disk = read_disk(host, "/dev/shm")
    assert disk.data_kind == "mount"
    assert not disk.same_filesystem


def test_proc_is_no_read_only_file_system_and_sys_may_be() -> None:
    assert is_read_only(Host("/"), "/var/lib/none/such") in (True, False)
    assert not is_read_only(Host("/"), "/dev/shm/none")
