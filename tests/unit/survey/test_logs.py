"""Log files of etcd's pod, read from the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.host import Host
from agent.platforms.kubeadm import Kubeadm
from agent.survey.logs import MAX_TAIL, _of_another, etcd_lines, kubelet_lines, log_files, shown

KUBEADM = Kubeadm()
PODS = "var/log/pods"


def put(root: Path, path: str, lines: list[str], age: int = 0) -> None:
    file = root / PODS / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))
    os.utime(file, (1_700_000_000 - age, 1_700_000_000 - age))


def cri(text: str, second: int = 0) -> str:
    return f"2024-01-01T00:00:{second:02d}.0Z stderr F {text}"


def test_newest_attempts_in_order(tmp_path: Path) -> None:
    put(tmp_path, "kube-system_etcd-m0_aaaa/etcd/0.log", [cri("first")], age=50)
    put(tmp_path, "kube-system_etcd-m0_bbbb/etcd/1.log", [cri("third", 2)], age=10)
    put(tmp_path, "kube-system_etcd-m0_bbbb/etcd/0.log", [cri("second", 1)], age=20)
    put(tmp_path, "kube-system_etcd-m0_bbbb/other/0.log", [cri("other")])
    put(tmp_path, "kube-system_kube-apiserver-m0_cccc/etcd/0.log", [cri("other")])
    put(tmp_path, "default_etcd-m0_dddd/etcd/0.log", [cri("other")])
    put(tmp_path, "kube-system_etcd-m0_bbbb/etcd/0.log.20240101-000000.gz", ["x"])
    host = Host(str(tmp_path))
    assert [line.message for line in etcd_lines(host, KUBEADM)] == ["first", "second", "third"]


def test_rotated_files_are_read(tmp_path: Path) -> None:
    put(tmp_path, "kube-system_etcd-m0_a/etcd/0.log.20240101-000000", [cri("before")], age=5)
    put(tmp_path, "kube-system_etcd-m0_a/etcd/0.log", [])
    assert [line.message for line in etcd_lines(Host(str(tmp_path)), KUBEADM)] == ["before"]


def test_only_the_tail_is_read(tmp_path: Path) -> None:
    put(tmp_path, "kube-system_etcd-m0_a/etcd/0.log", [cri(f"line {n}") for n in range(100_000)])
    lines = etcd_lines(Host(str(tmp_path)), KUBEADM)
    assert lines[-1].message == "line 99999"
    assert 1000 < len(lines) < MAX_TAIL // 30
    assert lines[0].message.startswith("line ")


def test_one_endless_line(tmp_path: Path) -> None:
    put(tmp_path, "kube-system_etcd-m0_a/etcd/0.log", ["x" * (2 * MAX_TAIL)])
    assert len(etcd_lines(Host(str(tmp_path)), KUBEADM)) <= 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / PODS / "kube-system_etcd-m0_a/etcd/0.log"
    file.parent.mkdir(parents=True)
    file.write_bytes(cri("ok").encode() + b"\n" + b"\xff\xfe\x00" * 10)
    assert etcd_lines(Host(str(tmp_path)), KUBEADM)[0].message == "ok"


def test_no_logs(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    assert etcd_lines(host, KUBEADM) == ()
    assert log_files(host, KUBEADM) == []


def test_dangling_links_are_skipped(tmp_path: Path) -> None:
    directory = tmp_path / PODS / "kube-system_etcd-m0_a/etcd"
    directory.mkdir(parents=True)
    (directory / "0.log").symlink_to("/var/lib/docker/containers/gone")
    assert etcd_lines(Host(str(tmp_path)), KUBEADM) == ()


def test_journal_that_does_not_answer(tmp_path: Path) -> None:
    assert kubelet_lines(Host(str(tmp_path)), KUBEADM) == ()


@pytest.mark.parametrize(("count", "texts"), [(1, 1), (40, 2)])
def test_shown(tmp_path: Path, count: int, texts: int) -> None:
    long = cri("x" * 900, 1)
    put(tmp_path, "kube-system_etcd-m0_a/etcd/0.log", [cri("a"), long])
    told = shown(etcd_lines(Host(str(tmp_path)), KUBEADM), count)
    assert len(told) == texts
    assert told[-1].startswith("2024-01-01T00:00:01Z xxx")
    assert len(told[-1]) < 600


@pytest.mark.parametrize(
    ("line", "is_other"),
    [
        ("restarting failed container=etcd-metrics pod=etcd-master-0_openshift-etcd(3bd)", True),
        ("restarting failed container=etcd pod=etcd-master-0_openshift-etcd(3bd)", False),
        ('"Killing container" pod="kube-system/etcd-master-0"', False),
    ],
)
def test_another_container_of_the_pod_says_nothing_of_etcd(line: str, is_other: bool) -> None:
    assert _of_another(line, KUBEADM) is is_other
