"""Where an etcd can be run from, without starting or fetching anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.facts import Binary, EtcdConfig, EtcdProcess
from agent.survey.binaries import image_names, read_binaries
from tests.unit.rooted import ProgramsOutside

CONFIG = EtcdConfig(
    "/m/etcd.yaml", "", "m0", "/var/lib/etcd", image="registry.k8s.io/etcd:3.5.16-0"
)


class LocalHost(ProgramsOutside):
    """A root prefix whose few programs are run without a chroot."""

    def outside(self, argv: Sequence[str]) -> list[str]:
        first, *rest = list(argv)
        return [self.real(first if first.startswith("/") else self.which(first)), *rest]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return LocalHost(str(tmp_path))


def install(host: Host, name: str, script: str) -> None:
    folder = Path(host.root, "usr/local/bin")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_host_with_nothing_has_none(host: Host) -> None:
    assert read_binaries(host, CONFIG, ()) == ()
    assert read_binaries(host, None, ()) == ()


def test_a_binary_on_the_path_tells_its_version(host: Host) -> None:
    install(host, "etcd", "echo etcd Version: 3.5.16; echo Git SHA: f20bbad")
    assert read_binaries(host, None, ()) == (Binary("path", "/usr/local/bin/etcd", "3.5.16"),)


@pytest.mark.parametrize("script", ["exit 1", "echo something else", "sleep 60"])
def test_one_that_does_not_run_is_none(host: Host, script: str) -> None:
    install(host, "etcd", script)
    assert read_binaries(host, None, ()) == ()


def test_the_manifests_image_is_found_in_the_local_store(host: Host) -> None:
    install(host, "ctr", f"echo registry.k8s.io/pause:3.9; echo {CONFIG.image}")
    assert read_binaries(host, CONFIG, ()) == (Binary("image", CONFIG.image),)
    assert read_binaries(host, replace(CONFIG, image="registry.k8s.io/etcd:3.4"), ()) == ()


def test_podman_is_asked_where_containerd_has_none(host: Host) -> None:
    install(host, "ctr", "echo cannot access socket >&2; exit 1")
    install(host, "podman", f"echo {CONFIG.image}; echo quay.io/x@sha256:1")
    assert read_binaries(host, CONFIG, ()) == (Binary("image", CONFIG.image),)
    by_digest = replace(CONFIG, image="quay.io/x@sha256:1")
    assert read_binaries(host, by_digest, ()) == (Binary("image", "quay.io/x@sha256:1"),)


def test_a_running_etcd_comes_first_and_a_scratch_one_does_not_count() -> None:
    me = EtcdProcess(os.getpid(), 0.0, ("etcd",))
    found = read_binaries(Host("/"), None, (replace(me, scratch=True), me))
    exe = os.readlink(f"/proc/{os.getpid()}/exe")
    assert found[0] == Binary("process", f"/proc/{os.getpid()}/root{exe}")
    assert os.path.exists(found[0].ref)
    gone = EtcdProcess(2**22 + 1, 0.0, ("etcd",))
    assert [b for b in read_binaries(Host("/"), None, (gone,)) if b.kind == "process"] == []


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ("registry.k8s.io/etcd:3.5.16-0", ("registry.k8s.io/etcd:3.5.16-0",)),
        ("localhost/etcd:1", ("localhost/etcd:1",)),
        ("host:5000/etcd", ("host:5000/etcd", "host:5000/etcd:latest")),
        ("etcd", ("etcd", "docker.io/library/etcd:latest")),
        ("bitnami/etcd:3", ("bitnami/etcd:3", "docker.io/bitnami/etcd:3")),
        ("quay.io/x@sha256:ab", ("quay.io/x@sha256:ab",)),
    ],
)
def test_names_as_stores_hold_them(image: str, names: tuple[str, ...]) -> None:
    assert image_names(image) == names
