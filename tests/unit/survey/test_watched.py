"""The watched directory: which etcd runs, what else is there, what is parked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.facts import Parked
from agent.platforms import detect
from agent.platforms.base import Platform
from agent.survey.watched import find_parked, read_config, read_watched
from tests.unit.survey.manifests import pod, with_flags

MANIFESTS = "/etc/kubernetes/manifests"
APISERVER = pod("name: kube-apiserver\nimage: x\ncommand: [kube-apiserver]")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in ("pki/etcd/ca.crt", "pki/etcd/healthcheck-client.crt",
                 "pki/etcd/healthcheck-client.key"):  # fmt: skip
        put(Host(str(tmp_path)), f"/etc/kubernetes/{name}", "x")
    return Host(str(tmp_path))


@pytest.fixture
def platform(host: Host) -> Platform:
    return detect(host)


def put(host: Host, path: str, text: str) -> None:
    file = Path(host.real(path))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())


def test_the_usual(host: Host, platform: Platform) -> None:
    put(host, f"{MANIFESTS}/etcd.yaml", with_flags())
    put(host, f"{MANIFESTS}/kube-apiserver.yaml", APISERVER)
    put(host, f"{MANIFESTS}/.etcd.yaml.swp", with_flags())
    put(host, f"{MANIFESTS}/old/etcd.yaml", with_flags())
    config, strays, problems = read_watched(host, platform)
    assert (strays, problems) == ((), ())
    assert config is not None
    assert config.definition == f"{MANIFESTS}/etcd.yaml"
    assert config.client_tls.cert == "/etc/kubernetes/pki/etcd/healthcheck-client.crt"


def test_nothing_there(host: Host, platform: Platform) -> None:
    assert read_watched(host, platform) == (None, (), ())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("etcd.yaml.bak", with_flags(), "also runs etcd"),
        ("a.json", '{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "db",'
         ' "command": ["etcd"]}]}}', "also runs etcd"),
        ("script.yaml", pod("name: x\nimage: x\ncommand: [sh, -c, 'etcd --name=a']"), "also runs"),
        ("notes.txt", "remember the milk\n", "not a mapping"),
        ("broken.yaml", "a: [", "line 1"),
        ("latin1", "é", "not UTF-8"),
        ("two.yaml", with_flags() + "---\nkind: Service\n", "another document"),
    ],
)  # fmt: skip
def test_strays(host: Host, platform: Platform, name: str, text: str, said: str) -> None:
    put(host, f"{MANIFESTS}/etcd.yaml", with_flags())
    put(host, f"{MANIFESTS}/{name}", text)
    if name == "latin1":
        Path(host.real(f"{MANIFESTS}/{name}")).write_bytes(b"\xe9")
    config, strays, problems = read_watched(host, platform)
    assert config is not None
    assert [s.path for s in strays] == [f"{MANIFESTS}/{name}"]
    assert said in strays[0].problem
    assert problems == ()


def test_links_are_read_and_special_files_are_not(host: Host, platform: Platform) -> None:
    put(host, "/srv/etcd.yaml", with_flags())
    directory = Path(host.real(MANIFESTS))
    directory.mkdir(parents=True)
    (directory / "etcd.yaml").symlink_to("/srv/etcd.yaml")
    (directory / "gone.yaml").symlink_to("/nowhere")
    os.mkfifo(directory / "fifo")
    config, strays, problems = read_watched(host, platform)
    assert config is not None
    assert (strays, problems) == ((), ())


def test_an_etcd_under_another_name_is_the_one_that_runs(host: Host, platform: Platform) -> None:
    put(host, f"{MANIFESTS}/etcd.yaml.bak", with_flags())
    config, strays, problems = read_watched(host, platform)
    assert config is not None
    assert config.definition == f"{MANIFESTS}/etcd.yaml.bak"
    assert strays == ()
    assert "there is no" in problems[0]


def test_two_etcds_under_other_names_are_strays(host: Host, platform: Platform) -> None:
    put(host, f"{MANIFESTS}/etcd.yaml.1", with_flags())
    put(host, f"{MANIFESTS}/etcd.yaml.2", with_flags())
    config, strays, _ = read_watched(host, platform)
    assert config is None
    assert len(strays) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line 1"),
        (APISERVER, "no container of this pod runs etcd"),
        (pod("name: etcd\nimage: x\ncommand: [sh, /run/etcd.sh]"), "shell script"),
    ],
)
def test_a_bad_manifest_is_a_problem(host: Host, platform: Platform, text: str, said: str) -> None:
    put(host, f"{MANIFESTS}/etcd.yaml", text)
    put(host, f"{MANIFESTS}/etcd.yaml.bak", with_flags())
    config, strays, problems = read_watched(host, platform)
    assert config is None
    assert [s.path for s in strays] == [f"{MANIFESTS}/etcd.yaml.bak"]
    assert said in problems[0]


def test_parked(host: Host, platform: Platform) -> None:
    told = {"original": f"{MANIFESTS}/etcd.yaml", "sha256": "ab", "plan": "p1"}
    directory = "/var/lib/etcd-rescue/parked"
    put(host, f"{directory}/etcd.yaml", with_flags())
    put(host, f"{directory}/etcd.yaml.json", json.dumps(told))
    put(host, f"{directory}/b.yaml", "x")
    put(host, f"{directory}/b.yaml.json", "[1]")
    put(host, f"{directory}/c.yaml", "x")
    assert find_parked(host) == (
        Parked(f"{directory}/b.yaml", "", "", ""),
        Parked(f"{directory}/c.yaml", "", "", ""),
        Parked(f"{directory}/etcd.yaml", f"{MANIFESTS}/etcd.yaml", "ab", "p1"),
    )
    assert read_config(host, platform, f"{directory}/etcd.yaml").name == "m0"
