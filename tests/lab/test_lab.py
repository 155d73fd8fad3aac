"""Proves the lab: that its hosts, their kubelets and their faults behave as real ones do."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from tests.lab.host import Host, wait_until
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.lab import MANIFEST, Lab

MakeLab = Callable[..., Lab]
MANIFESTS = "/etc/kubernetes/manifests"
PKI = "/etc/kubernetes/pki"


def containers(host: Host, *options: str) -> list[dict[str, Any]]:
    """The etcd containers that crictl lists, the newest first."""
    label = "io.kubernetes.container.name=etcd"
    listed = host.run(["crictl", "ps", "--label", label, *options, "-o", "json"]).stdout
    found: list[dict[str, Any]] = json.loads(listed)["containers"]
    return found


def pod_uid(host: Host) -> str:
    """The UID of the pod that runs etcd; empty where none does."""
    running = containers(host)[:1]
    return "".join(found["labels"]["io.kubernetes.pod.uid"] for found in running)


def kubelet_log(host: Host) -> str:
    """What the kubelet logged since the host's boot."""
    return host.run(["journalctl", "-u", "kubelet", "-b", "--no-pager", "-o", "cat"]).stdout


def park(host: Host) -> str:
    """Take the manifest out and wait until etcd is gone; returns the manifest."""
    text = host.read(MANIFEST).decode()
    host.path(MANIFEST).unlink()
    wait_until(lambda: not host.etcd_pids() and not containers(host), 15, "etcd's end")
    return text


# The cluster and its hosts


def test_cluster_is_healthy_and_replicates(lab: Lab) -> None:
    assert {m.name for m in lab.members("master-1")} == set(lab.hosts)
    assert not any(m.is_learner for m in lab.members("master-1"))
    written = lab.put_keys(250)
    assert all(lab.get_all(name) == written for name in lab.hosts)
    health = lab.etcdctl("master-2", "endpoint", "health", "--cluster")
    assert health.count("is healthy") == 3


def test_manifests_have_the_shape_that_kubeadm_leaves(lab: Lab) -> None:
    first, last = (lab.hosts[name].read(MANIFEST).decode() for name in ("master-0", "master-2"))
    assert "--initial-cluster=master-0=https://10.77.0.10:2380\n" in first
    assert "--initial-cluster-state" not in first
    assert "--initial-cluster-state=existing" in last
    assert len(re.findall(r"master-\d=https://[\d.]+:2380", last)) == 3
    assert lab.hosts["master-0"].path(MANIFEST).stat().st_mode & 0o777 == 0o600


def test_certificates_are_as_kubeadm_makes_them(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    for name in ("server", "peer"):
        leaf = x509.load_pem_x509_certificate(host.read(f"{PKI}/etcd/{name}.crt"))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["master-1", "localhost"]
        addresses = [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]
        assert addresses == ["10.77.0.11", "127.0.0.1", "::1"]
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(usage) == {Usage.SERVER_AUTH, Usage.CLIENT_AUTH}
        assert host.path(f"{PKI}/etcd/{name}.key").stat().st_mode & 0o777 == 0o600
    client = x509.load_pem_x509_certificate(host.read(f"{PKI}/etcd/healthcheck-client.crt"))
    assert client.subject.rfc4514_string() == "CN=kube-etcd-healthcheck-client,O=system:masters"


def ssh(target: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The operator's plain ssh."""
    argv = ["ssh", "-o", "BatchMode=yes", target, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20)


def test_operator_logs_in_by_name_with_checked_host_keys(lab: Lab) -> None:
    assert ssh("master-0", "hostname").stdout == "master-0\n"
    assert ssh("10.77.0.12", "-l", "core", "id", "-un").stdout == "core\n"
    assert ssh("master-0", "sudo", "-n", "id").returncode != 0  # one command only, see README.md
    assert "Permission denied" in ssh("root@master-0", "true").stderr


def test_image_serves_the_binaries_on_the_host(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    image = json.loads(host.run(["crictl", "images", "-o", "json"]).stdout)["images"]
    etcd = next(tag for i in image for tag in i["repoTags"] if "/etcd:" in tag)
    host.run(["mkdir", "/mnt/image"])
    host.run(["ctr", "-n", "k8s.io", "images", "mount", etcd, "/mnt/image"])
    assert "etcd Version: 3.5" in host.run(["/mnt/image/usr/local/bin/etcd", "--version"]).stdout
    inside = host.run(["crictl", "exec", containers(host)[0]["id"], "etcdutl", "version"]).stdout
    assert "etcdutl version: 3.5" in inside


# The kubelet


def test_unchanged_manifest_put_back_is_the_same_pod(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=1, kubelet=KubeletTiming(teardown=30, backoff_base=30))
    host = lab.hosts["master-0"]
    before = pod_uid(host)
    for _ in range(3):
        started = time.monotonic()
        text = park(host)
        assert time.monotonic() - started < 3
        host.write(MANIFEST, text)
        lab.wait_healthy(timeout=15)
        assert pod_uid(host) == before


def test_changed_manifest_waits_for_the_old_pods_end(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=1, kubelet=KubeletTiming(teardown=3.0))
    host = lab.hosts["master-0"]
    before = pod_uid(host)
    text = park(host)
    gone = time.monotonic()
    host.write(MANIFEST, text.replace("100Mi", "101Mi"))
    wait_until(lambda: bool(containers(host)), 15, "the changed pod")
    assert time.monotonic() - gone >= 2.5
    assert pod_uid(host) != before


def test_crash_loop_backs_off_further_and_further_until_the_kubelet_restarts(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    wal = host.path("/var/lib/etcd/member/wal")
    kept = {f: f.read_bytes() for f in wal.glob("*.wal")}
    host.crash_etcd()
    waits = [f"back-off {w} restarting failed container=etcd" for w in ("500ms", "1s", "2s")]
    wait_until(lambda: waits[-1] in kubelet_log(host), 20, "the longest back-off")
    log = kubelet_log(host)
    assert "CrashLoopBackOff" in log
    assert [log.index(w) for w in waits] == sorted(log.index(w) for w in waits)
    ended = containers(host, "-a")
    assert ended[0]["state"] == "CONTAINER_EXITED"
    assert int(ended[0]["annotations"]["io.kubernetes.container.restartCount"]) >= 2
    for file, content in kept.items():
        file.write_bytes(content)
    host.kubelet_restart()
    lab.wait_healthy(timeout=15)


def test_kubelet_reads_every_file_but_dot_files_and_subdirectories(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    text = host.read(MANIFEST).decode()
    host.write(f"{MANIFESTS}/.hidden.yaml", text.replace("name: etcd\n  name", "name: dot\n  name"))
    host.write(f"{MANIFESTS}/sub/etcd.yaml", text)
    host.write(f"{MANIFESTS}/broken.yaml", "a: [")
    before = pod_uid(host)
    host.write(f"{MANIFESTS}/etcd.yaml.bak", text)
    wait_until(lambda: "broken.yaml" in kubelet_log(host), 10, "the report of the broken file")
    assert pod_uid(host) == before
    # The backup is a pod of the same name; it runs as soon as the first one has gone.
    host.path(MANIFEST).unlink()
    wait_until(lambda: pod_uid(host) not in ("", before), 15, "the backup's pod")
    lab.wait_healthy(timeout=15)
    pods = json.loads(host.run(["crictl", "pods", "-o", "json"]).stdout)["items"]
    assert {pod["metadata"]["name"] for pod in pods} == {"etcd-master-0"}


def test_restarted_kubelet_adopts_what_runs_and_ends_what_is_not_wanted(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    before = containers(host)[0]["id"]
    host.kubelet_restart()
    time.sleep(1)
    assert containers(host)[0]["id"] == before
    host.run(["systemctl", "stop", "kubelet"])
    host.path(MANIFEST).unlink()
    assert host.etcd_pids()
    host.run(["systemctl", "start", "kubelet"])
    wait_until(lambda: not host.etcd_pids(), 15, "the orphan's end")


def test_dead_container_is_restarted(lab: Lab) -> None:
    host = lab.hosts["master-1"]
    before = containers(host)[0]["id"]
    host.stop_etcd_kill9()
    wait_until(lambda: containers(host)[:1] not in ([], [before]), 10, "the restart")
    lab.wait_healthy(timeout=15)
    assert containers(host)[0]["id"] != before
    assert len(containers(host, "-a")) == 2


def test_wipe_leaves_an_empty_data_directory(lab: Lab) -> None:
    host = lab.hosts["master-2"]
    host.run(["systemctl", "stop", "kubelet"])
    host.wipe_etcd()
    wait_until(lambda: not host.etcd_pids(), 5, "etcd's end")
    assert list(host.path("/var/lib/etcd").iterdir()) == []
    lab.wait_healthy(["master-0", "master-1"])


# Faults


def test_power_cut_keeps_the_disk(lab: Lab) -> None:
    written = lab.put_keys(50)
    host = lab.hosts["master-0"]
    pids = [host.leader, *host.etcd_pids()]
    host.power_cut()
    assert not host.is_up
    assert not any(_exists(pid) for pid in pids if pid)
    lab.wait_healthy(["master-1", "master-2"])
    assert host.path("/var/lib/etcd/member/wal").is_dir()
    started = time.monotonic()
    host.boot()
    assert time.monotonic() - started < 10
    lab.wait_healthy()
    assert lab.get_all("master-0", serializable=True) == written


def _exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_network_is_cut_by_port_by_peer_and_wholly(lab: Lab) -> None:
    host, other = lab.hosts["master-0"], lab.hosts["master-1"]
    host.cut_network(ports=[22])
    assert not host.ssh_answers(0.5)
    lab.wait_healthy([host])
    host.heal_network()
    assert host.ssh_answers()
    host.cut_network(peers=[other])
    assert host.ssh_answers()
    ping = ["bash", "-c", f"exec 3<>/dev/tcp/{host.address}/22"]
    assert other.run(["timeout", "0.5", *ping], check=False).returncode
    host.heal_network()
    host.cut_network()
    assert not host.ssh_answers(0.5)
    wait_until(lambda: not lab.is_healthy(host), 10, "the isolated member to notice")
    lab.wait_healthy(["master-1", "master-2"])
    host.heal_network()
    lab.wait_healthy()


def test_reset_brings_everything_back(lab: Lab) -> None:
    lab.put_keys(20)
    fresh = {name: host.read(MANIFEST) for name, host in lab.hosts.items()}
    first, second, third = lab.hosts.values()
    first.run(["systemd-run", "--unit=stray", "sleep", "600"])
    first.write("/var/lib/etcd-rescue/journal/1", "x")
    first.write("/usr/local/bin/stray", "x")
    first.write(MANIFEST, first.read(MANIFEST).replace(b"100m", b"50m"))
    first.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    second.wipe_etcd()
    second.cut_network(ports=[2380])
    third.cut_network()
    third.power_cut()
    lab.reset()
    assert lab.get_all() == {}
    assert {name: host.read(MANIFEST) for name, host in lab.hosts.items()} == fresh
    assert "stray" not in first.run(["systemctl", "list-units", "--all"]).stdout
    assert not first.path("/var/lib/etcd-rescue").exists()
    assert not first.path("/usr/local/bin/stray").exists()
    assert first.run(["mountpoint", "-q", "/mnt"], check=False).returncode
    assert all(host.ssh_answers() for host in lab.hosts.values())
    lab.wait_healthy()


# Hosts that differ


def test_data_directory_can_be_a_mount_a_link_or_small(make_lab: MakeLab) -> None:
    lab = make_lab(
        hosts=3,
        data_dir_kind={"master-0": "mount", "master-1": "symlink"},
        data_dir_size={"master-2": "200m"},
        without_python=["master-1"],
    )
    mounted, linked, small = lab.hosts.values()
    assert mounted.run(["mountpoint", "/var/lib/etcd"]).returncode == 0
    assert linked.run(["readlink", "/var/lib/etcd"]).stdout == "/mnt/disk/etcd\n"
    assert linked.path("/var/lib/etcd/member/wal").is_dir()
    assert linked.run(["which", "python3"], check=False).returncode
    size = small.run(["df", "--output=size", "-BM", "/var/lib/etcd"]).stdout.split()[-1]
    assert size == "200M"
    lab.reset()
    assert lab.get_all() == {}


def test_seven_hosts(make_lab: MakeLab) -> None:
    lab = make_lab(hosts=7)
    assert len(lab.members("master-6")) == 7
    assert lab.put_keys(10) == lab.get_all("master-6")


@pytest.mark.parametrize("etcd", ["3.4", "3.5.1"])
def test_other_versions_of_etcd(make_lab: MakeLab, etcd: str) -> None:
    lab = make_lab(hosts=3, etcd=etcd)
    assert lab.client("master-0").status()["version"].startswith(etcd)
    assert lab.put_keys(5) == lab.get_all("master-2")
