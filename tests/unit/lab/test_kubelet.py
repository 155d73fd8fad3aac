"""The pure parts of the lab's kubelet: files that count, who a pod is, how long it backs off."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.etcd_versions import VERSIONS
from tests.lab.kubelet import klog
from tests.lab.kubelet.backoff import BackOff
from tests.lab.kubelet.cri_config import container_config, prepare_host_paths, sandbox_config
from tests.lab.kubelet.manifest import (
    InvalidManifest,
    StaticPod,
    directory_state,
    manifest_files,
    parse_pod,
    read_directory,
)
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.manifests import etcd_manifest

SOURCE = Path("/etc/kubernetes/manifests/etcd.yaml")


def etcd_text() -> str:
    return etcd_manifest(0, VERSIONS["3.5"], "3.5.30")


def etcd_pod() -> StaticPod:
    return parse_pod(etcd_text(), "master-0", SOURCE)


def test_every_file_counts_but_dot_files_and_subdirectories(tmp_path: Path) -> None:
    for name in ("etcd.yaml", "etcd.yaml.bak", ".etcd.yaml.new", "notes"):
        (tmp_path / name).write_text("x")
    (tmp_path / "sub").mkdir()
    found = [path.name for path in manifest_files(tmp_path)]
    assert found == ["etcd.yaml", "etcd.yaml.bak", "notes"]
    assert manifest_files(tmp_path / "absent") == []


def test_directory_state_changes_with_content_and_not_with_dot_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a")
    before = directory_state(tmp_path)
    (tmp_path / ".hidden").write_text("b")
    assert directory_state(tmp_path) == before
    (tmp_path / "a.yaml").write_text("ab")
    assert directory_state(tmp_path) != before


def test_bad_files_are_reported_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "etcd.yaml").write_text(etcd_text())
    bad = []
    pods = read_directory(tmp_path, "master-0", lambda path, _: bad.append(path.name))
    assert [pod.name for pod in pods] == ["etcd-master-0"]
    assert bad == ["broken.yaml"]


@pytest.mark.parametrize("text", ["", "a: [", "kind: Service", "kind: Pod\nmetadata: {name: x}"])
def test_what_is_no_pod_is_refused(text: str) -> None:
    with pytest.raises(InvalidManifest):
        parse_pod(text, "master-0", SOURCE)


def test_uid_depends_on_content_host_and_file_but_not_on_comments() -> None:
    text = etcd_text()
    uid = etcd_pod().uid
    assert parse_pod("# a comment\n" + text, "master-0", SOURCE).uid == uid
    others = {
        parse_pod(text.replace("100Mi", "101Mi"), "master-0", SOURCE).uid,
        parse_pod(text, "master-1", SOURCE).uid,
        parse_pod(text, "master-0", SOURCE.with_suffix(".yaml.bak")).uid,
    }
    assert len(others | {uid}) == 4


def test_configurations_carry_a_kubelets_labels() -> None:
    pod = etcd_pod()
    sandbox = sandbox_config(pod, 2, "master-0")
    assert sandbox["labels"]["component"] == "etcd"
    assert sandbox["labels"]["io.kubernetes.pod.uid"] == pod.uid
    assert sandbox["log_directory"] == f"/var/log/pods/kube-system_etcd-master-0_{pod.uid}"
    container = container_config(pod, pod.spec["containers"][0], 3)
    assert container["labels"]["io.kubernetes.container.name"] == "etcd"
    assert container["annotations"]["io.kubernetes.container.restartCount"] == "3"
    assert container["log_path"] == "etcd/3.log"
    assert {m["host_path"] for m in container["mounts"]} == {
        "/var/lib/etcd",
        "/etc/kubernetes/pki/etcd",
    }


def test_host_paths_are_made_or_required(tmp_path: Path) -> None:
    def pod(kind: str) -> StaticPod:
        volume = {"name": "data", "hostPath": {"path": str(tmp_path / "data"), "type": kind}}
        return StaticPod("u", "n", "ns", "s", {"volumes": [volume]}, {}, {})

    with pytest.raises(FileNotFoundError):
        prepare_host_paths(pod("Directory"))
    prepare_host_paths(pod("DirectoryOrCreate"))
    prepare_host_paths(pod("Directory"))
    assert (tmp_path / "data").is_dir()


def test_back_off_doubles_to_its_longest_and_starts_over_after_a_long_life() -> None:
    backoff, now, waits = BackOff(10, 300), 1000.0, []
    for _ in range(8):
        waits.append(backoff.remaining(now, now))
        now += waits[-1]
        backoff.advance(now)
        now += 1
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    now += 1000
    assert backoff.remaining(now, now) == 0
    backoff.advance(now)
    assert backoff.current == 10


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "500ms"), (2, "2s"), (10, "10s"), (80, "1m20s"), (300, "5m0s")],
)
def test_durations_read_as_the_kubelet_prints_them(seconds: float, text: str) -> None:
    assert klog.duration(seconds) == text


def test_timing_survives_its_file(tmp_path: Path) -> None:
    timing = KubeletTiming(teardown=7, backoff_max=9)
    (tmp_path / "t.yaml").write_text(timing.to_yaml())
    assert KubeletTiming.from_file(tmp_path / "t.yaml") == timing
