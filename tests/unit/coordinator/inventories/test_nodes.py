"""Control-plane hosts out of what kubectl and oc print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Unreachable, UsageError
from coordinator.hosts import HostSpec
from coordinator.inventories.nodes import LABELS, hosts_from_nodes, hosts_of_answer


def node(name: str, *addresses: str, label: str = LABELS[0]) -> dict[str, Any]:
    rows = [{"type": "Hostname", "address": name}]
    rows += [{"type": "InternalIP", "address": address} for address in addresses]
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {label: ""}},
        "status": {"addresses": rows},
    }


def answer(*items: Any) -> bytes:
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": list(items)}).encode()


def test_control_planes_of_every_label_and_their_addresses() -> None:
    rows = [node(f"m{n}", f"192.0.2.{n}", label=label) for n, label in enumerate(LABELS)]
    worker = node("w", "192.0.2.9", label="node-role.kubernetes.io/worker")
    found = hosts_of_answer(answer(*rows, worker, node("v6", "2001:db8::1", "192.0.2.8")), "x")
    assert found == (
        *(HostSpec(f"m{n}", f"192.0.2.{n}") for n in range(len(LABELS))),
        HostSpec("v6", "2001:db8::1"),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"items": 3}', answer(), answer(3), answer(node("m")),
        answer(node("-oProxyCommand=x", "192.0.2.1")), answer(node("m", "$(reboot)")),
    ],
)  # fmt: skip
def test_other_answers_are_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        hosts_of_answer(data, "kubectl get nodes")


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_api_being_down_names_the_other_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="neither kubectl nor oc") as absent:
        hosts_from_nodes()
    assert "ansible:" in absent.value.next
    program(tmp_path, "oc", 'echo "Unable to connect to the server: refused" >&2; exit 1')
    with pytest.raises(Unreachable, match="refused") as down:
        hosts_from_nodes()
    assert "-H HOST" in down.value.next


def test_the_kubeconfig_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "answer").write_bytes(answer(node("m0", "192.0.2.1")))
    (tmp_path / "config").touch()
    program(
        tmp_path,
        "kubectl",
        f'[ "$1" = "--kubeconfig={tmp_path}/config" ] && [ "$2 $3" = "get nodes" ] || exit 1\n'
        f"exec /bin/cat {tmp_path}/answer",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hosts_from_nodes(f"{tmp_path}/config") == (HostSpec("m0", "192.0.2.1"),)
    with pytest.raises(UsageError, match="is no file"):
        hosts_from_nodes(f"{tmp_path}/none")
