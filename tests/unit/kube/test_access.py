"""Who asks the API on a host: oc before kubectl, the operator's kubeconfig before the node's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.actions.openshift4.api import NODE_KUBECONFIGS
from agent.errors import PreconditionFailed
from agent.host import STATE_DIR, Host
from agent.kube.access import find_program, node_access
from agent.platforms.openshift4 import LOCAL_KUBECONFIG

GIVEN = f"{STATE_DIR}/work/kubeconfig"


def host_with(root: Path, *programs: str, configs: tuple[str, ...] = ()) -> Host:
    for path in (*programs, *configs):
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        file.chmod(0o755 if path in programs else 0o600)
    (root / "tmp").mkdir(exist_ok=True)
    return Host(str(root))


def test_oc_before_kubectl_and_kubectl_where_there_is_no_oc(tmp_path: Path) -> None:
    both = host_with(tmp_path / "a", "/usr/bin/oc", "/usr/local/bin/kubectl")
    assert find_program(both) == "/usr/bin/oc"
    one = host_with(tmp_path / "b", "/usr/local/bin/kubectl")
    assert find_program(one) == "/usr/local/bin/kubectl"
    (tmp_path / "c").mkdir()
    with pytest.raises(PreconditionFailed, match="neither oc nor kubectl"):
        find_program(Host(str(tmp_path / "c")))


def test_the_nodes_own_api_server_is_asked_first(tmp_path: Path) -> None:
    order = NODE_KUBECONFIGS
    assert order[0] == LOCAL_KUBECONFIG
    host = host_with(tmp_path / "a", "/usr/bin/oc", configs=order)
    with node_access(host, order) as access:
        assert access.kubeconfigs == order
    some = host_with(tmp_path / "b", "/usr/bin/oc", configs=order[1:])
    with node_access(some, order) as access:
        assert access.kubeconfigs == order[1:]


def test_without_one_it_is_said_how_to_bring_one(tmp_path: Path) -> None:
    host = host_with(tmp_path, "/usr/bin/oc")
    with pytest.raises(PreconditionFailed) as caught, node_access(host, NODE_KUBECONFIGS):
        pass
    assert "--kubeconfig FILE" in caught.value.next


def test_the_operators_goes_before_the_nodes_and_is_gone_afterwards(tmp_path: Path) -> None:
    host = host_with(tmp_path, "/usr/bin/oc", configs=NODE_KUBECONFIGS)
    real = tmp_path / GIVEN.lstrip("/")
    with node_access(host, NODE_KUBECONFIGS, "the operator's") as access:
        assert access.kubeconfigs == (GIVEN,)
        assert real.read_text() == "the operator's"
        assert os.stat(real).st_mode & 0o777 == 0o600
    assert not real.exists()
    with (
        pytest.raises(RuntimeError, match="broke"),
        node_access(host, NODE_KUBECONFIGS, "the operator's"),
    ):
        raise RuntimeError("broke")
    assert not real.exists()
