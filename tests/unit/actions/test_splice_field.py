"""Edits of manifests as they are found in the field: one flag changes, and not a byte besides."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Union

import pytest

from agent.actions.splice import add_flag, get_flag, remove_flag, set_flag
from agent.errors import Damaged, Refused, RescueError

FIXTURES = Path(__file__).parents[3].parent / "shared" / "fixtures"
HAS_FIXTURES = pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures here")
NEW = "m0=https://10.0.0.1:2380,m1=https://10.0.0.2:2380"

NO_ETCD = "no container of this pod runs etcd"
FIELD: dict[str, Union[str, RescueError]] = {
    "kubeadm-etcd/01-comment-after-flag.yaml": "initial-cluster",
    "kubeadm-etcd/02-tracing-flags-appended.yaml": "initial-cluster",
    "kubeadm-etcd/04-k107-http-plain.yaml": "data-dir",
    "kubeadm-etcd/06-no-annotation-no-final-newline.yaml": "initial-cluster",
    "kubeadm-etcd/07-custom-pki-no-initial-cluster.yaml": "name",
    "kubeadm-etcd/09-quota-flag-dns-name.yaml": "initial-cluster",
    "kubeadm-etcd/11-aliyun-3315.yaml": "initial-cluster",
    "kubeadm-etcd/12-aws-fqdn-356.yaml": "initial-cluster",
    "kubeadm-etcd/14-typo-listen-peer-no-name.yaml": "initial-cluster",
    "kubeadm-etcd/16-live-pod-dump-with-status.yaml": "initial-cluster",
    "kubeadm-etcd/17-command-plus-args-no-value.yaml": "strict-reconfig-check",
    "kubeadm-etcd/21-no-creationtimestamp-livez.yaml": "initial-cluster",
    "kubeadm-etcd/22-split-flag-value-discovery.yaml": "name",
    "kubeadm-etcd/24-split-dollar-brace-placeholders.yaml": "listen-peer-urls",
    "kubeadm-etcd/19-dedented-broken-tutorial.yaml": Damaged("line 21, column 5"),
    "kubeadm-etcd/26-quoted-args-broken-indent.yaml": Damaged("line 26, column 9"),
    "kubeadm-etcd/27-quoted-args-daemonset.yaml": Damaged("another document"),
    "kubeadm-etcd/29-insecure-quoted-args.yaml": Refused(NO_ETCD),
    "kubeadm-etcd/31-crlf-notes-not-a-manifest.yaml": Damaged("not a mapping"),
    "kubeadm-etcd/32-docker-compose-openshift-ha-list.yaml": Damaged("v1 List, not a v1 Pod"),
    "kubeadm-etcd/33-kops-etcd-manager-main.yaml": Refused(NO_ETCD),
    "kubeadm-etcd/34-config-file-static-pod.yaml": Refused("--config-file"),
    "kubeadm-etcd/36-compose-doublequoted-continuation.yaml": Damaged("not a v1 Pod"),
    "kubeadm-etcd/38-quoted-command-cluster-excerpt.yaml": Damaged("line 15, column 5"),
    "kubeadm-etcd/39-compose-anchors-merge.yaml": Damaged("not a v1 Pod"),
    "kubeadm-apiserver/01-ext-etcd-comment.yaml": Refused(NO_ETCD),
    "kubeadm-apiserver/02-commented-flags-etcd2.yaml": Refused(NO_ETCD),
    "kubeadm-apiserver/04-stacked-trailing-comment.yaml": Refused(NO_ETCD),
    "kubeadm-apiserver/06-no-final-newline.yaml": Refused(NO_ETCD),
    "kubeadm-apiserver/07-live-pod-dump.yaml": Refused(NO_ETCD),
    "kubeadm-apiserver/09-hyperkube-multi-container-flow.yaml": Refused(NO_ETCD),
    "kubeadm-apiserver/11-k8s-13-coreos.yaml": Refused(NO_ETCD),
}


@HAS_FIXTURES
def test_every_manifest_of_the_field_is_expected() -> None:
    folders = ("kubeadm-etcd", "kubeadm-apiserver")
    found = {f"{name}/{p.name}" for name in folders for p in (FIXTURES / name).iterdir()}
    assert found == set(FIELD)


@HAS_FIXTURES
@pytest.mark.parametrize("name", FIELD)
def test_manifests_of_the_field(name: str) -> None:
    text = (FIXTURES / name).read_bytes().decode()
    expected = FIELD[name]
    if isinstance(expected, RescueError):
        for edit in (partial(set_flag, text, "name", "m9"), partial(add_flag, text, "x", "1")):
            with pytest.raises(type(expected)) as error:
                edit()
            assert expected.seen in error.value.seen
    else:
        require_exact_edits(text, expected)


@HAS_FIXTURES
@pytest.mark.parametrize(
    "name",
    [
        "01-ext-etcd-comment.yaml",
        "02-commented-flags-etcd2.yaml",
        "04-stacked-trailing-comment.yaml",
        "06-no-final-newline.yaml",
        "07-live-pod-dump.yaml",
    ],
)
def test_shapes_of_other_control_plane_pods(name: str) -> None:
    text = (FIXTURES / "kubeadm-apiserver" / name).read_bytes().decode()
    require_exact_edits(text.replace("- kube-apiserver", "- etcd"), "etcd-servers")


def require_exact_edits(text: str, flag: str) -> None:
    old = get_flag(text, flag)
    assert old is not None
    changed = set_flag(text, flag, NEW)
    before, after = text.splitlines(), changed.splitlines()
    differing = [(a, b) for a, b in zip(before, after) if a != b]
    assert len(before) == len(after)
    assert [b for _, b in differing] == [a.replace(old, NEW) for a, _ in differing]
    assert len(differing) == 1
    assert set_flag(changed, flag, old) == text
    added = add_flag(text, "force-new-cluster", "true")
    new_lines = [line for line in added.splitlines() if "--force-new-cluster=true" in line]
    assert len(new_lines) == 1
    assert [line for line in added.splitlines() if line not in new_lines] == before
    assert remove_flag(added, "force-new-cluster") == text
