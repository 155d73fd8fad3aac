"""When a learner has caught up: by what it answers its clients, or its peers before that."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.actions.scratch import caught_up
from agent.errors import RescueError
from agent.host import Host
from tests.lab.host import wait_until
from tests.unit.etcd_lab import Node, Plain, etcd_binaries, make_nodes, needs_etcd

pytestmark = needs_etcd()
KEYS = 20


@contextmanager
def restored(folder: Path, binary: str) -> Iterator[list[Node]]:
    """A member with TLS that serves restored data, so its log has no beginning; and another."""
    nodes = make_nodes(folder, binary, Plain(size=2))
    first, second = nodes
    alone = first.config.initial_cluster[:1]
    first.config = replace(first.config, initial_cluster=alone)
    second.config = replace(second.config, initial_cluster_state="existing")
    try:
        first.start()
        first.wait_healthy()
        with first.client() as client:
            for number in range(KEYS):
                client.put(b"/k%d" % number, b"v")
            client.compact(KEYS)
        restore(first, folder)
        first.start()
        first.wait_healthy()
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def restore(node: Node, folder: Path) -> None:
    """Take a snapshot of a member, and put it in the place of its data."""
    folder_of = Path(node.binary).parent
    tls, config = node.config.client_tls, node.config
    words = [f"--cacert={tls.ca}", f"--cert={tls.cert}", f"--key={tls.key}"]
    argv = [str(folder_of / "etcdctl"), f"--endpoints={node.endpoint}", *words]
    env = {"ETCDCTL_API": "3"}
    file = str(folder / "s.db")
    subprocess.run([*argv, "snapshot", "save", file], check=True, capture_output=True, env=env)
    node.stop()
    data = f"{config.data_dir}-restored"
    (name, url), *_ = config.initial_cluster
    tool = folder_of / "etcdutl"
    subprocess.run(
        [str(tool if tool.exists() else folder_of / "etcdctl"), "snapshot", "restore", file,
         f"--data-dir={data}", f"--name={name}", f"--initial-cluster={name}={url}",
         f"--initial-advertise-peer-urls={url}", "--initial-cluster-token=new"],
        check=True, capture_output=True, env=env,
    )  # fmt: skip
    node.config = replace(config, data_dir=data)


@pytest.mark.parametrize("binary", etcd_binaries())
def test_a_learner_that_got_a_snapshot(binary: str, tmp_path: Path) -> None:
    with restored(tmp_path, binary) as (first, second), first.client() as client:
        client.member_add([second.peer_url])
        target = client.status()
        facts: dict[str, object] = {}

        def has_caught_up() -> bool:
            return caught_up(Host(), second.endpoint, second.config, target, facts)[0]

        assert not has_caught_up()  # it does not run yet
        second.start()
        wait_until(has_caught_up, 30, "the learner")
        second.stop()
        # What it has is complete: a member of this cluster, with all the keys.
        second.start()
        wait_until(lambda: answers(second), 30, "the learner")
        with second.client() as other:
            found = other.range(b"/k", b"/l", serializable=True)
        assert len(found.kvs) == KEYS


def answers(node: Node) -> bool:
    with suppress(RescueError), node.client(1.0) as client:
        return client.status().is_learner
    return False
