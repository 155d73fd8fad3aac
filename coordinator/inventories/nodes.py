"""Control-plane hosts as the API server lists them: `kubectl get nodes -o json`, or oc's.

Only while the API serves; where it does not, the error names the other ways to say which hosts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import Unreachable, UsageError
from agent.model.codec import parse_json
from coordinator.hosts import HostSpec, checked_name, is_ip

LABELS = (
    "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/etcd", "node-role.kubernetes.io/controlplane",
)  # fmt: skip
PROGRAMS = ("kubectl", "oc")
TIMEOUT = 10
"""Seconds that the API server may take (--request-timeout); the program gets a few more."""

MAX_ANSWER = 64 * 1024 * 1024
OTHER_WAYS = (
    "-H HOST with any one control-plane host that answers SSH, a cluster.yaml, "
    "or --hosts-from ansible:INVENTORY"
)


def hosts_from_nodes(kubeconfig: str = "") -> tuple[HostSpec, ...]:
    """The control-plane nodes and their internal addresses. kubeconfig: a path; empty: the usual.

    Raises UsageError where neither program is there, or the answer is no list of nodes;
    Unreachable where the API does not answer; both with the other ways.
    """
    if kubeconfig and not Path(kubeconfig).is_file():
        raise UsageError(f"{kubeconfig} is no file", "no kubeconfig is there", OTHER_WAYS)
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise UsageError(
            "neither kubectl nor oc is on PATH", "one of them asks the API for its nodes",
            OTHER_WAYS,
        )  # fmt: skip
    return hosts_of_answer(_ask(program, kubeconfig), f"{Path(program).name} get nodes")


def _ask(program: str, kubeconfig: str) -> bytes:
    argv = [program, *([f"--kubeconfig={kubeconfig}"] if kubeconfig else [])]
    argv += ["get", "nodes", "-o", "json", f"--request-timeout={TIMEOUT}s"]
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT + 5, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _silent(program, f"no answer within {TIMEOUT + 5} s") from None
    except OSError as error:
        raise UsageError(f"{program}: {error.strerror}", next=OTHER_WAYS) from None
    if done.returncode != 0:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise _silent(program, said[-1] if said else f"exit code {done.returncode}")
    return done.stdout


def _silent(program: str, said: str) -> Unreachable:
    return Unreachable(
        f"{Path(program).name} cannot list the nodes: {said[:400]}",
        "the API is what a lost etcd takes away: who asks it for the hosts needs it to serve",
        OTHER_WAYS,
    )


def hosts_of_answer(data: bytes, where: str) -> tuple[HostSpec, ...]:
    """Hosts out of a v1 List of Node objects, JSON. Raises UsageError for anything else."""
    if len(data) > MAX_ANSWER:
        raise UsageError(f"{where}: an answer larger than {MAX_ANSWER} bytes")
    answer = parse_json(data, where)
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise UsageError(f"{where}: no list of nodes came", next=OTHER_WAYS)
    found = [_spec(item, where) for item in items if _is_control_plane(item)]
    if not found:
        raise UsageError(
            f"{where}: none of {len(items)} nodes is labelled as a control plane",
            f"one of these labels says so: {', '.join(LABELS)}",
            OTHER_WAYS,
        )
    return tuple(found)


def _is_control_plane(item: Any) -> bool:
    labels = _below(item, "metadata", "labels")
    return isinstance(labels, dict) and any(label in labels for label in LABELS)


def _spec(item: Mapping[str, Any], where: str) -> HostSpec:
    name = checked_name(_below(item, "metadata", "name"), "node name")
    rows = _below(item, "status", "addresses")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    internal = [row.get("address") for row in rows if row.get("type") == "InternalIP"]
    address = next((text for text in internal if isinstance(text, str) and is_ip(text)), "")
    if not address:
        raise UsageError(f"{where}: node {name} has no InternalIP", next=OTHER_WAYS)
    return HostSpec(name, address)


def _below(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
