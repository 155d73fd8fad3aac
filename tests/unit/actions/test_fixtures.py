"""Definitions of etcd as people have them: changed and changed back, or refused for a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.actions.kind import Flags
from agent.actions.manifest_kind import with_flags
from agent.actions.splice_unit import change_flags
from agent.errors import RescueError
from agent.survey.manifest import etcd_config
from agent.survey.units import read_view
from tests.unit.unit_host import UNIT, make_host

FIXTURES = Path(__file__).parents[3].parent / "shared" / "fixtures"
MANIFESTS = ("kubeadm-etcd", "ocp4-etcd-pod", "ocp311-pods")
ENV_FILES = ("kubespray-env", "ocp311-etcdconf")
KINDS = (*MANIFESTS, *ENV_FILES, "systemd-unit", "etcd-config-yaml")
WANTED: Flags = {
    "initial-cluster": "m0=https://10.0.0.10:2380,m1=https://[fd00::11]:2380",
    "initial-cluster-state": "existing",
}
READS_ENV = "[Service]\nEnvironmentFile=/e\nExecStart=/usr/bin/etcd\n"
READS_YAML = "[Service]\nExecStart=/usr/bin/etcd --config-file=/e\n"

REFUSED = {
    "etcd-config-yaml/04-": "advertise-client-urls is a mapping",
    "etcd-config-yaml/06-": "mapping values are not allowed",
    "kubeadm-etcd/19-": "not a readable YAML",
    "kubeadm-etcd/26-": "not a readable YAML",
    "kubeadm-etcd/27-": "single document",
    "kubeadm-etcd/29-": "no container of this pod runs etcd",
    "kubeadm-etcd/31-": "is not a mapping",
    "kubeadm-etcd/32-": "not a v1 Pod",
    "kubeadm-etcd/33-": "no container of this pod runs etcd",
    "kubeadm-etcd/34-": "--config-file",
    "kubeadm-etcd/36-": "not a v1 Pod",
    "kubeadm-etcd/38-": "not a readable YAML",
    "kubeadm-etcd/39-": "not a v1 Pod",
    "kubespray-env/02-": "looks like a comment and is part of the value",
    "ocp311-pods/01-": "starts no etcd",
    "ocp311-pods/02-": "no container of this pod runs etcd",
    "ocp311-pods/04-": "no container of this pod runs etcd",
    "ocp311-pods/06-": "not a v1 Pod",
    "ocp311-pods/07-": "not a v1 Pod",
    "ocp311-pods/08-": "not a v1 Pod",
    "ocp311-pods/09-": "not a v1 Pod",
    "ocp311-pods/11-": "not a readable YAML",
    "ocp4-etcd-pod/01-": "not a v1 Pod",
    "ocp4-etcd-pod/02-": "not a readable YAML",  # a template with its placeholders
    "ocp4-etcd-pod/04-": "not a readable YAML",
    "ocp4-etcd-pod/06-": "not a readable YAML",
    "ocp4-etcd-pod/07-": "not a readable YAML",
    "systemd-unit/02-": "which nothing sets",  # its environment file is not among the fixtures
    "systemd-unit/04-": "kube-apiserver, not etcd",
    "systemd-unit/07-": "which nothing sets",
    "systemd-unit/09-": "does more than run etcd",
    "systemd-unit/11-": "not etcd",
    "systemd-unit/12-": "no ExecStart=",
    "systemd-unit/18-": "is missing",
    "systemd-unit/20-": "no ExecStart=",
}
"""Beginning of the name → a part of the reason; every other file can be changed."""


def rows() -> list[tuple[str, str]]:
    index = FIXTURES / "INDEX.tsv"
    lines = index.read_text().splitlines()[1:] if index.exists() else []
    found = [tuple(line.split("\t")[:2]) for line in lines]
    return [(name, kind) for name, kind in found if kind in KINDS]


def files_of(kind: str, content: bytes) -> dict[str, str | bytes]:
    if kind == "systemd-unit":
        return {UNIT: content}
    return {UNIT: READS_ENV if kind in ENV_FILES else READS_YAML, "/e": content}


def change_unit(root: Path, files: dict[str, str | bytes], flags: Flags) -> dict[str, str | bytes]:
    host = make_host(root, files)
    texts = change_flags(lambda more: read_view(host, "etcd.service", more), flags)
    return {**files, **{p: t.encode("utf-8", "surrogateescape") for p, t in texts.items()}}


def check_manifest(text: str) -> None:
    before = etcd_config(text, "m").flags
    after = with_flags(text, WANTED)
    assert etcd_config(after, "m").flags == {**before, **WANTED}
    back: Flags = {flag: before.get(flag) for flag in reversed(WANTED)}
    assert with_flags(after, back) == text


def check_unit(root: Path, files: dict[str, str | bytes]) -> None:
    host = make_host(root, files)
    before = read_view(host, "etcd.service").values
    after = change_unit(root, files, WANTED)
    host = make_host(root, after)
    assert read_view(host, "etcd.service").values == {**before, **WANTED}
    back: Flags = {flag: before.get(flag) for flag in reversed(WANTED)}
    restored = change_unit(root, after, back)
    expected = {path: _bytes(text) for path, text in files.items()}
    if "/e" in expected:  # a key without a value goes as a whole, once it has had one
        expected["/e"] = re.sub(rb"(?m)^initial-cluster:[ \t]*\r?\n", b"", expected["/e"])
    assert {path: _bytes(text) for path, text in restored.items()} == expected


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@pytest.mark.skipif(not rows(), reason="no fixtures here")
@pytest.mark.parametrize(("name", "kind"), rows())
def test_changed_and_changed_back_or_refused(tmp_path: Path, name: str, kind: str) -> None:
    content = (FIXTURES / name).read_bytes()
    why = next((text for start, text in REFUSED.items() if name.startswith(start)), "")

    def check() -> None:
        if kind in MANIFESTS:
            check_manifest(content.decode())
        else:
            check_unit(tmp_path, files_of(kind, content))

    if not why:
        check()
        return
    with pytest.raises(RescueError) as error:
        check()
    assert why in str(error.value)
