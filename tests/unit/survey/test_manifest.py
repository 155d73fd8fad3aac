"""Manifests as people write them, and what etcd would run with."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Damaged, Refused, RescueError
from agent.model.facts import EtcdConfig, TlsFiles
from agent.survey.manifest import etcd_config, parse_pod
from tests.unit.survey.manifests import FLAGS, pod, with_flags

FIXTURES = Path(__file__).parents[3].parent / "shared" / "fixtures"
PATH = "/etc/kubernetes/manifests/etcd.yaml"


def read(text: str) -> EtcdConfig:
    return etcd_config(text, PATH)


def test_kubeadm() -> None:
    config = read(with_flags())
    assert config.problems == ()
    assert (config.name, config.data_dir, config.image) == (
        "m0", "/var/lib/etcd", "registry.k8s.io/etcd:3.5.16-0",
    )  # fmt: skip
    assert config.listen_client_urls == ("https://127.0.0.1:2379", "https://10.0.0.1:2379")
    assert config.initial_cluster == (("m0", "https://10.0.0.1:2380"),)
    assert config.server_tls.cert == "/etc/kubernetes/pki/etcd/server.crt"
    assert config.peer_tls.ca == "/etc/kubernetes/pki/etcd/ca.crt"
    assert config.initial_cluster_state == "new"
    assert config.initial_cluster_token == "etcd-cluster"
    assert not config.force_new_cluster
    assert set(config.sources) == set(config.flags) == {f[2:].split("=")[0] for f in FLAGS}
    assert set(config.sources.values()) == {PATH}


def test_defaults_of_a_bare_etcd() -> None:
    config = read(pod("name: etcd\nimage: etcd:3.5\ncommand: [etcd]\nworkingDir: /var/lib/etcd\n"))
    assert config.name == "default"
    assert config.data_dir == "/var/lib/etcd/default.etcd"
    assert config.listen_peer_urls == config.advertise_peer_urls == ("http://localhost:2380",)
    assert config.server_tls == TlsFiles()
    assert any("no --data-dir" in p for p in config.problems)


@pytest.mark.parametrize(
    "container",
    [
        "name: etcd\nimage: x\ncommand: [etcd, --name=a, --data-dir=/var/lib/etcd]\n",
        "name: db\nimage: x\ncommand: [/usr/local/bin/etcd]\n"
        "args: [--name, a, --data-dir, /var/lib/etcd]\n",
        "name: etcd\nimage: x\nargs:\n- '--name=a'\n- \"--data-dir=/var/lib/etcd\"\n",
        "name: db\nimage: quay.io/coreos/etcd:v3\nargs: [-name=a, -data-dir=/var/lib/etcd]\n",
        "name: etcd\nimage: x\ncommand: [etcd]\nenv:\n- {name: ETCD_NAME, value: a}\n"
        "- {name: ETCD_DATA_DIR, value: /var/lib/etcd}\n",
        "name: etcd\nimage: x\ncommand: [etcd, --name=$(N), --data-dir=$(D)/etcd]\nenv:\n"
        "- {name: N, value: a}\n- {name: L, value: /var/lib}\n- {name: D, value: $(L)}\n",
        "name: etcd\nimage: x\ncommand: [etcd, --name=a]\n"
        "env:\n- {name: ETCD_NAME, value: b}\n- {name: ETCD_DATA_DIR, value: /var/lib/etcd}\n",
        "name: etcd\nimage: x\ncommand: [etcd, &n --name=a, --data-dir=/var/lib/etcd]\n",
    ],
)  # fmt: skip
def test_ways_to_say_the_same(container: str) -> None:
    config = read(pod(container))
    assert (config.name, config.data_dir, config.problems) == ("a", "/var/lib/etcd", ())


@pytest.mark.parametrize(
    ("mounts", "volumes", "found"),
    [
        ("[{mountPath: /d, name: v}]", "[{name: v, hostPath: {path: /host/d}}]", "/host/d/etcd"),
        ("[{mountPath: /d/, name: v}]", "[{name: v, hostPath: {path: /host/}}]", "/host/etcd"),
        ("[{mountPath: /d/etcd, name: w}, {mountPath: /d, name: v}]",
         "[{name: v, hostPath: {path: /outer}}, {name: w, hostPath: {path: /inner}}]", "/inner"),
        ("[{mountPath: /d, name: v, subPath: a/b}]", "[{name: v, hostPath: {path: /h}}]",
         "/h/a/b/etcd"),
        ("[{mountPath: /, name: v}]", "[{name: v, hostPath: {path: /h}}]", "/h/d/etcd"),
        ("[{mountPath: /d, name: v}]", "[{name: v, emptyDir: {}}]", ""),
        ("[{mountPath: /d, name: v, subPathExpr: $(X)}]", "[{name: v, hostPath: {path: /h}}]", ""),
        ("[{mountPath: /d, name: other}]", "[{name: v, hostPath: {path: /h}}]", ""),
        ("[{mountPath: /data, name: v}]", "[{name: v, hostPath: {path: /h}}]", ""),
        ("[]", "[]", ""),
    ],
)  # fmt: skip
def test_container_paths_become_host_paths(mounts: str, volumes: str, found: str) -> None:
    rest = f"    volumeMounts: {mounts}\n  volumes: {volumes}\n"
    config = read(pod("name: etcd\nimage: x\ncommand: [etcd, --name=a, --data-dir=/d/etcd]", rest))
    assert config.data_dir == found
    assert bool(config.problems) == (not found)


@pytest.mark.parametrize("value", ["", "=true", "=1", "=T", "=TRUE", "=yes"])
def test_force_new_cluster_as_a_flag(value: str) -> None:
    assert read(with_flags(f"--force-new-cluster{value}")).force_new_cluster


@pytest.mark.parametrize("value", ["=false", "=0", "=F"])
def test_force_new_cluster_switched_off(value: str) -> None:
    assert not read(with_flags(f"--force-new-cluster{value}")).force_new_cluster


@pytest.mark.parametrize("value", ["'true'", "'1'", "t", "T", "'TRUE'"])
def test_force_new_cluster_in_the_environment(value: str) -> None:
    container = (
        "name: etcd\nimage: x\ncommand: [etcd, --data-dir=/var/lib/etcd]\nenv:\n"
        f"- {{name: ETCD_FORCE_NEW_CLUSTER, value: {value}}}"
    )
    config = read(pod(container))
    assert config.force_new_cluster
    assert any("ETCD_FORCE_NEW_CLUSTER" in p for p in config.problems)
    off = pod(container.replace("/var/lib/etcd]", "/var/lib/etcd, --force-new-cluster=false]"))
    assert not read(off).force_new_cluster


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--config-file=/etc/etcd.yml", "--config-file"),
        ("--name=m0", "more than once"),
        ("stop", "not a valid flag"),
        ("--initial-cluster=m0=https://10.0.0.1:2380,https://10.0.0.2:2380", "not NAME=URL"),
        ("--initial-cluster=m1=https://10.0.0.2:2380", "not in --initial-cluster"),
        ("--initial-cluster-state=exists", "neither new nor existing"),
        ("--discovery=https://d/1", "discovery service"),
        ("--listen-peer-urls=http://0.0.0/0:2380", "must not contain a path"),
        ("--listen-peer-urls=http://host", "no HOST:PORT"),
        ("--listen-peer-urls=http://[::1", "is not a URL"),
        ("--listen-metrics-urls=10.0.0.1:2381", "begin with http"),
        ("--data-dir=${DIR}", "never replaced"),
        ("--client-cert-auth=<no value>", "never replaced"),
        ("--client-cert-auth=oui", "neither true nor false"),
    ],
)
def test_problems(flag: str, problem: str) -> None:
    config = read(with_flags(f"'{flag}'"))
    assert any(problem in p for p in config.problems), config.problems
    assert all(p.startswith(PATH) for p in config.problems)


def test_config_file_leaves_the_data_directory_unknown() -> None:
    assert read(with_flags("--config-file=/etc/etcd.yml")).data_dir == ""


def test_values_from_elsewhere_are_a_problem() -> None:
    config = read(pod(
        "name: etcd\nimage: x\ncommand: [etcd, --data-dir=/var/lib/etcd]\nenv:\n"
        "- {name: ETCD_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n"
        "envFrom:\n- {configMapRef: {name: etcd}}\n"
    ))  # fmt: skip
    assert any("ETCD_NAME, envFrom" in p for p in config.problems)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a: [1, 2", "line 1, column 9"),
        ("a: b\n  c: d\n", "line 2, column 4"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key a is given twice, also on line 1"),
        ("kind: Pod\n---\nkind: Pod\n", "line 2, column 1"),
        ("kind: !!python/object/apply:os.system [id]\n", "tag"),
        ("kind: !x Pod\n", "tag"),
        (BOMB, "unfold"),
        ("a: &a [*a]\n", "contains itself"),
        ("[" * 100, "deeply nested"),
        ("a: " + "[" * 5000, "deeply nested"),
        ("[" + "1," * 30000 + "]", "too many"),
        ("#" * 1_100_000, "no manifest is larger"),
        ("a: \x00\n", "special characters"),
        ("a: *b\n", "undefined alias"),
        ("{[1, 2]: 3}\n", "plain word"),
        ("- a\n", "not a mapping"),
        ("plain words\n", "not a mapping"),
        ("kind: Pod\n", "without apiVersion Pod, not a v1 Pod"),
        ("apiVersion: v1\nkind: List\nitems: []\n", "v1 List, not a v1 Pod"),
        ("apiVersion: v1\nkind: Pod\n", "without spec.containers"),
        ("apiVersion: v1\nkind: Pod\nspec: []\n", "line 3: spec is not a mapping"),
        ("apiVersion: v1\nkind: Pod\nspec:\n  containers: {}\n", "line 4: spec.containers is not"),
        ("apiVersion: v1\nkind: Pod\nspec:\n  containers: [1]\n", "not a mapping"),
        (pod("name: etcd\ncommand: etcd --name=a\n"), "line 9: command is not a list"),
        (pod("name: etcd\ncommand: [etcd, 2379]\n"), "not a string; put it in quotes"),
        (pod("name: etcd\ncommand: [etcd, true]\n"), "not a string; put it in quotes"),
    ],
)
def test_unreadable(text: str, said: str) -> None:
    with pytest.raises(Damaged) as error:
        read(text)
    assert said in error.value.seen
    assert error.value.seen.startswith(PATH)


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ("name: kube-apiserver\nimage: x\ncommand: [kube-apiserver]\n", "no container"),
        ("name: etcd\nimage: x\ncommand: [sh, /run/etcd.sh]\n", "starts a shell script"),
        ("name: etcd\nimage: x\ncommand: [sh, -c, 'if x; then etcd --name=a; fi']\n",
         "under a condition"),
        ("name: etcd\nimage: x\ncommand: [sh, -c, 'etcd --name=a; etcd --name=b']\n",
         "in 2 places"),
        ("name: etcd\nimage: x\ncommand: [sh, -c, 'sleep 5']\n", "starts no etcd"),
        ("name: etcd\nimage: x\ncommand: [/go-runner]\nargs: [etcd]\n", "runs /go-runner, not"),
        ("name: etcd\nimage: x\ncommand: [etcd]\n  - name: b\n    command: [etcd]", "2 containers"),
        ("name: etcd\nimage: x\ncommand: [etcd, grpc-proxy, start]\n", "no container"),
        ("name: copy\nimage: x\ncommand: [cp, -r, /var/lib/etcd, /b]\n", "no container"),
        ("name: copy\nimage: x\ncommand: [sh, -c, 'cp /var/lib/etcd /b']\n", "no container"),
        ("name: tool\nimage: etcd:3\ncommand: [etcdctl, snapshot]\n", "no container"),
    ],
)  # fmt: skip
def test_refused(container: str, said: str) -> None:
    text = pod(container).replace("\n      - name: b", "\n  - name: b")
    text = text.replace("\n        command: [etcd]", "\n    command: [etcd]")
    with pytest.raises(Refused) as error:
        read(text)
    assert said in error.value.seen


@settings(deadline=None)
@given(st.text(alphabet=" \n\t-:{}[]&*!|>'\"%@`#,?ae1é\x00", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(RescueError):
        parse_pod(text, PATH)


def test_merge_keys_are_followed() -> None:
    text = with_flags().replace("spec:\n", "x: &v\n  hostNetwork: true\nspec:\n  <<: *v\n")
    assert parse_pod(text, PATH).etcd() is not None


EXPECTED = {
    "01-comment-after-flag.yaml": ("cluster1-controlplane", "/var/lib/etcd", 0),
    "02-tracing-flags-appended.yaml": ("fedora", "/var/lib/etcd", 0),
    "04-k107-http-plain.yaml": ("default", "/var/lib/etcd", 0),
    "06-no-annotation-no-final-newline.yaml": ("k0", "/var/lib/etcd", 0),
    "07-custom-pki-no-initial-cluster.yaml": ("idevz-k8s", "/data/etcd", 0),
    "09-quota-flag-dns-name.yaml": (
        "node0.sv440-135628.decentralizedsch-pg0.utah.cloudlab.us", "/var/lib/etcd", 0),
    "11-aliyun-3315.yaml": ("master1", "/var/lib/etcd", 0),
    "12-aws-fqdn-356.yaml": ("ip-10-0-0-75.ap-south-1.compute.internal", "/var/lib/etcd", 0),
    "14-typo-listen-peer-no-name.yaml": ("default", "", 3),
    "16-live-pod-dump-with-status.yaml": ("kind-control-plane", "/var/lib/etcd", 0),
    "17-command-plus-args-no-value.yaml": ("master-0.cluster-2.dobry-kot.ru", "/var/lib/etcd", 1),
    "19-dedented-broken-tutorial.yaml": "line 21, column 5",
    "21-no-creationtimestamp-livez.yaml": ("test-control-plane", "/var/lib/etcd", 0),
    "22-split-flag-value-discovery.yaml": ("k8s-r4mf", "/var/etcd/data/data", 1),
    "24-split-dollar-brace-placeholders.yaml": ("${NODE_NAME}", "/var/etcd/data/data", 5),
    "26-quoted-args-broken-indent.yaml": "line 26, column 9",
    "27-quoted-args-daemonset.yaml": "another document",
    "29-insecure-quoted-args.yaml": "no container of this pod runs etcd",
    "31-crlf-notes-not-a-manifest.yaml": "line 7: the document is not a mapping",
    "32-docker-compose-openshift-ha-list.yaml": "v1 List, not a v1 Pod",
    "33-kops-etcd-manager-main.yaml": "no container of this pod runs etcd",
    "34-config-file-static-pod.yaml": ("default", "", 1),
    "36-compose-doublequoted-continuation.yaml": "not a v1 Pod",
    "38-quoted-command-cluster-excerpt.yaml": "line 15, column 5",
    "39-compose-anchors-merge.yaml": "not a v1 Pod",
}  # fmt: skip


@pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures here")
def test_every_manifest_of_the_field_is_expected() -> None:
    assert {p.name for p in (FIXTURES / "kubeadm-etcd").iterdir()} == set(EXPECTED)


@pytest.mark.skipif(not FIXTURES.exists(), reason="no fixtures here")
@pytest.mark.parametrize("name", EXPECTED)
def test_manifests_of_the_field(name: str) -> None:
    text = (FIXTURES / "kubeadm-etcd" / name).read_bytes().decode()
    expected = EXPECTED[name]
    if isinstance(expected, str):
        with pytest.raises((Damaged, Refused)) as error:
            etcd_config(text, name)
        assert expected in error.value.seen
    else:
        config = etcd_config(text, name)
        assert (config.name, config.data_dir, len(config.problems)) == expected
