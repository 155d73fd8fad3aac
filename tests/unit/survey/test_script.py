"""Shell scripts that start etcd: arguments and environment as the shell would give them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Damaged, Refused
from agent.survey.manifest import etcd_config
from agent.survey.script import scripted_etcd

FIXTURES = Path(__file__).parents[3].parent / "shared/fixtures/ocp4-etcd-pod"
SCRIPT = """\
#!/bin/sh
set -euo pipefail

etcdctl member list || true

# a comment with 'one quote and $( a parenthesis
ETCD_INITIAL_CLUSTER=$(discover-etcd-initial-cluster \\
  --endpoints=${ALL_ETCD_ENDPOINTS} \\
  --target-name="x)y")
 export ETCD_INITIAL_CLUSTER

time while [ -n "$(ss -Htan '( sport = 2379 )')" ]; do
  echo -n "."
done

export ETCD_NAME=${NODE_master_0_example_ETCD_NAME}
env | grep ETCD | grep -v NODE
set -x
exec nice -n -19 ionice -c2 -n0 etcd \\
  --logger=zap \\
  --peer-cert-file '/c/a b.crt' \\
  --initial-advertise-peer-urls=https://${NODE_master_0_example_IP}:2380 \\
  --listen-metrics-urls=https://0.0.0.0:9978 ||  mv /a/etcd-member.yaml /b
"""
ENV = {
    "ALL_ETCD_ENDPOINTS": "https://10.0.0.1:2379",
    "NODE_master_0_example_ETCD_NAME": "master-0.example",
    "NODE_master_0_example_IP": "10.0.0.1",
    "ETCD_DATA_DIR": "/var/lib/etcd",
}


def test_the_operators_script_is_read() -> None:
    found = scripted_etcd(SCRIPT, ENV, "x")
    assert found.arguments == (
        "--logger=zap",
        "--peer-cert-file",
        "/c/a b.crt",
        "--initial-advertise-peer-urls=https://10.0.0.1:2380",
        "--listen-metrics-urls=https://0.0.0.0:9978",
    )
    assert found.environment["ETCD_NAME"] == "master-0.example"
    assert found.environment["ETCD_DATA_DIR"] == "/var/lib/etcd"
    assert "ETCD_INITIAL_CLUSTER" not in found.environment
    assert found.unresolved == ("ETCD_INITIAL_CLUSTER",)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("etcd --a=1", ("--a=1",)),
        ("A=1 /usr/bin/etcd --a=$A", ("--a=$A",)),  # A is etcd's, not the shell's, there
        ("A=1; exec etcd --a=$A --b='$A'", ("--a=1", "--b=$A")),
        ("etcd grpc-proxy start; etcd --a", ("--a",)),
        ("etcd --a=$B", ("--a=$B",)),
        ("if x; then B=2; fi; B=${B}3 ; etcd --a=${B}", ("--a=${B}",)),
        ("etcd --a=$(date) &", ("--a=${a command}",)),
        ("exec etcd --a \\\n  --b > /log 2>&1", ("--a", "--b")),
        ("etcd --a#b # c", ("--a#b",)),
        ("etcd ''", ("",)),
    ],
)
def test_words(script: str, arguments: tuple[str, ...]) -> None:
    found = scripted_etcd(script, {}, "x").arguments
    assert found[: len(arguments)] == arguments


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "starts no etcd"),
        ("etcdctl member list", "starts no etcd"),
        ("etcd a; etcd b", "2 places"),
        ("while true; do etcd; done", "under a condition"),
        ("case x in a) etcd;; esac", "under a condition"),
        ("cat <<E\netcd\nE", "here-document"),
        ("etcd 'a", "quote"),
        ('etcd "a', "quote"),
        ("etcd $(a", "without its end"),
        ("etcd `a", "without its end"),
    ],
)
def test_what_only_a_shell_would_know_is_refused(script: str, said: str) -> None:
    with pytest.raises(Refused) as error:
        scripted_etcd(script, {}, "FILE: line 3: the script of container etcd")
    assert said in error.value.seen
    assert error.value.seen.startswith("FILE: line 3")


_WORD = st.text(st.sampled_from("ab$'\"\\ -=#{}"), min_size=1, max_size=8)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0'"), max_size=9)))
@settings(deadline=None)
def test_single_quotes_keep_everything(words: list[str]) -> None:
    script = "etcd " + " ".join(f"'{word}'" for word in words)
    assert scripted_etcd(script, {}, "x").arguments == tuple(words)


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_ends_in_an_answer(text: str) -> None:
    with contextlib.suppress(Refused):
        assert isinstance(scripted_etcd(text, {"A": "1"}, "x").arguments, tuple)


@given(st.lists(_WORD, min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_what_is_read_is_what_a_shell_gives(words: list[str]) -> None:
    """Where words have no expansion in them, a real sh must give the same arguments."""
    line = " ".join(words)
    if "$" in line:
        return
    try:
        found = scripted_etcd(f"etcd {line}\n", {}, "x")
    except Refused:
        return
    script = f'etcd() {{ for a in "$@"; do printf "%s\\0" "$a"; done; }}\netcd {line}\n'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        assert done.stdout == "".join(f"{word}\0" for word in found.arguments)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the shared fixtures are not here")
def test_a_real_pod_of_openshift() -> None:
    document = json.loads((FIXTURES / "01-mirror-pod-json-47.json").read_text())
    document.update(apiVersion="v1", kind="Pod")
    config = etcd_config(json.dumps(document), "/m/etcd-pod.yaml")
    name = "master-0.imeixner20210707.lab.upshift.rdu2.redhat.com"
    certs = "/etc/kubernetes/static-pod-resources/etcd-certs"
    assert (config.name, config.data_dir, config.scripted) == (name, "/var/lib/etcd", True)
    assert config.advertise_peer_urls == ("https://10.0.88.27:2380",)
    assert config.peer_tls.cert == f"{certs}/secrets/etcd-all-peer/etcd-peer-{name}.crt"
    assert config.server_tls.ca == f"{certs}/configmaps/etcd-serving-ca/ca-bundle.crt"
    assert config.flags["quota-backend-bytes"] == "7516192768"
    assert config.problems == ()


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the shared fixtures are not here")
def test_a_pod_that_forces_a_new_cluster_says_so() -> None:
    text = (FIXTURES / "07-ceo-head-quorum-restore.yaml").read_text()
    with pytest.raises(Damaged):  # a template is no pod
        etcd_config(text, "x")
    filled = re.sub(
        r"^\$\{COMPUTED_ENV_VARS\}$", "      - name: A\n        value: b", text, flags=re.M
    )
    config = etcd_config(filled, "x")
    assert config.force_new_cluster
    assert any("never replaced" in problem for problem in config.problems)
