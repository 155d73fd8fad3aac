"""etcd's containers and pod sandboxes as docker lists them: nodes of OpenShift 3.11 have no crictl.

The kubelet's docker shim labels what it makes (kubernetes 1.11, pkg/kubelet/dockershim/naming.go,
docker_service.go): io.kubernetes.docker.type is `podsandbox` or `container`.
"""

from __future__ import annotations

import json
from typing import Any

from agent.errors import CommandFailed, Damaged
from agent.host import Host
from agent.model.facts import Container, Runtime
from agent.platforms.base import Platform
from agent.survey.timestamps import parse_time

_LABEL = "io.kubernetes."
_STATES = ("running", "exited", "created")
_MAX_IDS = 500


def read_docker(host: Host, docker: str, platform: Platform, timeout: float = 3.0) -> Runtime:
    """Ask docker for etcd's containers and sandboxes; a docker that is silent is a fact."""
    only = f"label={_LABEL}pod.namespace={platform.namespace}"
    try:
        ids = host.run(
            [docker, "ps", "-a", "-q", "--no-trunc", "--filter", only], timeout=timeout
        ).stdout.split()
        text = host.run([docker, "inspect", *ids[:_MAX_IDS]], timeout=timeout).stdout if ids else ""
        return parse_docker(text or "[]", platform)
    except (CommandFailed, Damaged) as error:
        return Runtime(False, error=error.seen)


def running_in_docker(
    host: Host, docker: str, namespace: str, timeout: float
) -> tuple[tuple[str, str, float], ...]:
    """(container name, ID, time created) of what runs in a namespace, sandboxes left out.

    Raises CommandFailed where docker does not answer, Damaged.
    """
    argv = [docker, "ps", "-q", "--no-trunc"]
    for label in (f"pod.namespace={namespace}", "docker.type=container"):
        argv += ["--filter", f"label={_LABEL}{label}"]
    ids = host.run(argv, timeout=timeout).stdout.split()
    if not ids:
        return ()
    # Exit code 1 where one of them has ended meanwhile; the others are told all the same.
    told = host.run([docker, "inspect", *ids[:_MAX_IDS]], timeout=timeout, ok=(0, 1)).stdout
    rows = _rows(told)
    return tuple(
        (
            str(_dict(_dict(row, "Config"), "Labels").get(f"{_LABEL}container.name", "")),
            str(row.get("Id", "")),
            _time(row.get("Created")),
        )
        for row in rows
        if _dict(row, "State").get("Running") is True
    )


def _rows(text: str) -> list[dict[str, Any]]:
    """What `docker inspect` lists. Raises Damaged."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"docker: its output is not JSON: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Damaged("docker: no list of containers in its output")
    return rows


def parse_docker(text: str, platform: Platform) -> Runtime:
    """`docker inspect` of all containers of a namespace. Raises Damaged."""
    found, ready = [], 0
    for row in _rows(text):
        labels, state = _dict(_dict(row, "Config"), "Labels"), _dict(row, "State")
        kind, name = labels.get(f"{_LABEL}docker.type"), labels.get(f"{_LABEL}container.name")
        pod = str(labels.get(f"{_LABEL}pod.name", ""))
        if kind == "podsandbox" and pod.startswith(platform.pod_prefix):
            ready += state.get("Running") is True
        elif kind == "container" and name == platform.container:
            found.append(_container(row, labels, state))
    newest = sorted(found, key=lambda c: (c.created, c.attempt), reverse=True)
    return Runtime(True, tuple(newest), ready)


def _container(row: dict[str, Any], labels: dict[str, Any], state: dict[str, Any]) -> Container:
    status = str(state.get("Status", ""))
    code = state.get("ExitCode")
    count = str(labels.get(f"annotation.{_LABEL}container.restartCount", ""))
    return Container(
        id=str(row.get("Id", "")),
        sandbox_id=str(labels.get(f"{_LABEL}sandbox.id", "")),
        state=status if status in _STATES else "unknown",
        attempt=int(count) if count.isascii() and count.isdigit() and len(count) < 9 else 0,
        created=_time(row.get("Created")),
        finished=_time(state.get("FinishedAt")),
        exit_code=code if status == "exited" and isinstance(code, int) else None,
        reason="OOMKilled" if state.get("OOMKilled") is True else "",
        pod_uid=str(labels.get(f"{_LABEL}pod.uid", "")),
        log_path=str(labels.get(f"{_LABEL}container.logpath", "")),
    )


def _time(value: Any) -> float:
    """0 for none: docker writes year 1 for what has not happened."""
    text = str(value) if isinstance(value, str) else ""
    return 0.0 if text.startswith("0001-") else parse_time(text or None)


def _dict(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}
