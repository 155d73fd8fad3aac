"""etcd's containers and pod sandboxes as the container runtime lists them, through crictl."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Optional

import yaml

from agent.errors import CommandFailed, Damaged
from agent.host import Host
from agent.model.facts import Container, Runtime
from agent.platforms.base import Platform
from agent.survey.docker import read_docker, running_in_docker
from agent.survey.loglines import LogLine
from agent.survey.logs import POD_LOGS
from agent.survey.timestamps import parse_time

_KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
_KUBEADM_FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
_CRICTL_CONFIG = "/etc/crictl.yaml"
_SOCKETS = (
    "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/cri-dockerd.sock",
)  # fmt: skip
_ENDPOINT_FLAG = re.compile(r"--container-runtime-endpoint[= ]([^\s\"']+)")
_STATES = {
    "CONTAINER_RUNNING": "running", "CONTAINER_EXITED": "exited", "CONTAINER_CREATED": "created",
}  # fmt: skip
_LABEL = "io.kubernetes."


def read_runtime(
    host: Host, platform: Platform, timeout: float = 3.0, ends: bool = True
) -> Runtime:
    """Ask the runtime for etcd's containers and sandboxes, both at once.

    ends: ask a second time, for how the newest ended container did so.
    A runtime that is down, silent or missing is a fact, not an error: answers is False then.
    """
    crictl, docker = host.which("crictl"), host.which("docker")
    if not crictl and docker:
        return read_docker(host, docker, platform, timeout)
    if not crictl:
        return Runtime(False, error="crictl is not installed on this host")
    base = crictl_base(host, crictl, timeout)
    container = f"{_LABEL}container.name={platform.container}"
    namespace = f"{_LABEL}pod.namespace={platform.namespace}"
    ps = [*base, "ps", "-a", "--label", container, "--label", namespace, "-o", "json"]
    pods = [*base, "pods", "--label", namespace, "-o", "json"]
    with ThreadPoolExecutor(2) as pool:
        listings = pool.map(lambda argv: _ask(host, argv, timeout), (ps, pods))
        (containers_json, error), (pods_json, pods_error) = listings
    if error or pods_error:
        return Runtime(False, error=error or pods_error)
    try:
        containers = parse_containers(containers_json)
        ready = count_ready(pods_json, containers, platform)
    except Damaged as damaged:
        return Runtime(False, error=damaged.seen)
    if ends:
        containers = _with_exit(host, base, containers, timeout)
    return Runtime(True, containers, ready)


def crictl_base(host: Host, crictl: str, timeout: float) -> list[str]:
    """How every call of crictl begins: the endpoint that the kubelet uses, and a deadline."""
    return [crictl, *_endpoint(host), "--timeout", f"{max(timeout - 1, 1):g}s"]


def running_containers(
    host: Host, namespace: str, timeout: float = 10.0
) -> tuple[tuple[str, str, float], ...]:
    """(container name, ID, time created) of what runs in a namespace.

    Empty where there is neither crictl nor docker. Raises CommandFailed where the runtime does not
    answer, Damaged.
    """
    crictl, docker = host.which("crictl"), host.which("docker")
    if not crictl:
        return running_in_docker(host, docker, namespace, timeout) if docker else ()
    label = f"{_LABEL}pod.namespace={namespace}"
    argv = [*crictl_base(host, crictl, timeout), "ps", "--label", label, "-o", "json"]
    items = _listed(host.run(argv, timeout=timeout).stdout, "containers")
    return tuple(
        (
            str(_dict(item, "labels").get(f"{_LABEL}container.name", "")),
            str(item.get("id", "")),
            parse_time(_scalar(item.get("createdAt"))),
        )
        for item in items
        if item.get("state") == "CONTAINER_RUNNING"
    )


def running_in(host: Host, sandbox: str, timeout: float = 10.0) -> tuple[str, ...]:
    """IDs of the containers that run in a sandbox; none where there is no crictl.

    Raises CommandFailed, Damaged.
    """
    crictl = host.which("crictl")
    if not crictl:
        return ()
    argv = [*crictl_base(host, crictl, timeout), "ps", "--pod", sandbox, "-o", "json"]
    items = _listed(host.run(argv, timeout=timeout).stdout, "containers")
    return tuple(str(i.get("id", "")) for i in items if i.get("state") == "CONTAINER_RUNNING")


def stop_container(host: Host, container: str, grace: int) -> None:
    """Stop a container through the runtime that lists it; killed after `grace` seconds.

    Raises CommandFailed.
    """
    crictl, limit = host.which("crictl"), grace + 20.0
    if crictl:
        argv = [*crictl_base(host, crictl, limit), "stop", "--timeout", str(grace), container]
    else:
        argv = ["docker", "stop", "-t", str(grace), container]
    host.run(argv, timeout=limit)


def stop_sandbox(host: Host, sandbox: str) -> None:
    """Stop a pod sandbox through the runtime that lists it; one that is gone is no error."""
    crictl, limit = host.which("crictl"), 20.0
    if crictl:
        argv = [*crictl_base(host, crictl, limit), "stopp", sandbox]
    else:
        argv = ["docker", "stop", "-t", "1", sandbox]
    host.run(argv, timeout=limit, ok=(0, 1))


def parse_containers(text: str) -> tuple[Container, ...]:
    """`crictl ps -a -o json` as containers, the newest first. Raises Damaged."""
    found = [_container(item) for item in _listed(text, "containers")]
    return tuple(sorted(found, key=lambda c: (c.created, c.attempt), reverse=True))


def count_ready(text: str, containers: Sequence[Container], platform: Platform) -> int:
    """How many sandboxes in `crictl pods -o json` are etcd's static pods and ready.

    A sandbox is etcd's if an etcd container is in it, or if it is a static pod (annotation
    kubernetes.io/config.source, or kubeadm's label) with etcd's name. Raises Damaged.
    """
    known = {container.sandbox_id for container in containers}
    ready = 0
    for item in _listed(text, "items"):
        metadata, labels, annotations = (
            _dict(item, key) for key in ("metadata", "labels", "annotations")
        )
        static = annotations.get("kubernetes.io/config.source") == "file"
        named = str(metadata.get("name", "")).startswith(platform.pod_prefix)
        named = named and metadata.get("namespace") == platform.namespace
        is_etcd = named and (static or labels.get("component") == "etcd")
        if item.get("state") == "SANDBOX_READY" and (is_etcd or item.get("id") in known):
            ready += 1
    return ready


def parse_inspect(text: str, container: Container) -> Container:
    """The container with what `crictl inspect -o json` adds: end, exit code, reason, log file.

    Newer crictl give a list for one ID too. Raises Damaged.
    """
    data = _loads(text)
    if isinstance(data, list):
        data = data[0] if data else {}
    status = _dict(data if isinstance(data, dict) else {}, "status")
    code = status.get("exitCode")
    exited = container.state == "exited" and isinstance(code, int)
    return replace(
        container,
        finished=parse_time(_scalar(status.get("finishedAt"))),
        exit_code=code if exited else None,
        reason=str(status.get("reason") or ""),
        log_path=str(status.get("logPath") or container.log_path),
    )


def as_lines(runtime: Runtime) -> tuple[LogLine, ...]:
    """How the last container that ended did so, as a line for the table of causes."""
    ended = next((c for c in runtime.containers if c.exit_code is not None), None)
    if ended is None:
        return ()
    reason = f", reason {ended.reason}" if ended.reason else ""
    message = f"container ended with exit code {ended.exit_code}{reason}"
    return (LogLine(ended.finished, "error", message, "runtime"),)


def _with_exit(
    host: Host, base: list[str], containers: tuple[Container, ...], timeout: float
) -> tuple[Container, ...]:
    """The newest exited container with its end; the others as they are."""
    newest = next((c for c in containers if c.state == "exited"), None)
    if newest is None:
        return containers
    text, error = _ask(host, [*base, "inspect", "-o", "json", newest.id], timeout)
    try:
        told = newest if error else parse_inspect(text, newest)
    except Damaged:
        told = newest
    return tuple(told if c is newest else c for c in containers)


def _ask(host: Host, argv: list[str], timeout: float) -> tuple[str, str]:
    """(output, "") of a command, or ("", why there is none)."""
    try:
        return host.run(argv, timeout=timeout).stdout, ""
    except CommandFailed as error:
        return "", error.seen


def _endpoint(host: Host) -> list[str]:
    """--runtime-endpoint as the kubelet uses it; nothing where crictl is configured by itself.

    Without any, crictl tries old sockets one after another, each with its own timeout.
    """
    endpoint = _kubelet_endpoint(host)
    if not endpoint and not host.exists(_CRICTL_CONFIG):
        endpoint = next((f"unix://{path}" for path in _SOCKETS if host.exists(path)), "")
    return ["--runtime-endpoint", endpoint] if endpoint else []


def _kubelet_endpoint(host: Host) -> str:
    try:
        config = yaml.safe_load(host.read_text(_KUBELET_CONFIG, 256 * 1024))
        endpoint = config.get("containerRuntimeEndpoint") if isinstance(config, dict) else ""
        if isinstance(endpoint, str) and endpoint:
            return endpoint
    except (OSError, Damaged, yaml.YAMLError, RecursionError, ValueError):
        pass  # the kubelet's own flags may still tell
    try:
        found = _ENDPOINT_FLAG.search(host.read_text(_KUBEADM_FLAGS))
    except (OSError, Damaged):
        return ""
    return found.group(1) if found else ""


def _container(item: dict[str, Any]) -> Container:
    metadata, labels = _dict(item, "metadata"), _dict(item, "labels")
    attempt = metadata.get("attempt")
    attempt = attempt if isinstance(attempt, int) else 0
    names = [str(labels.get(f"{_LABEL}pod.{key}", "")) for key in ("namespace", "name", "uid")]
    container = str(labels.get(f"{_LABEL}container.name", ""))
    log = posixpath.join(POD_LOGS, "_".join(names), container, f"{attempt}.log")
    return Container(
        id=str(item.get("id", "")),
        sandbox_id=str(item.get("podSandboxId", "")),
        state=_STATES.get(str(item.get("state", "")), "unknown"),
        attempt=attempt,
        created=parse_time(_scalar(item.get("createdAt"))),
        pod_uid=names[2],
        log_path=log if all(names) and container else "",
    )


def _listed(text: str, key: str) -> list[dict[str, Any]]:
    data = _loads(text)
    items = data.get(key) if isinstance(data, dict) else None
    if items is None and isinstance(data, dict):
        return []  # crictl leaves the list out where it is empty
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Damaged(f"crictl: no list of {key} in its JSON output")
    return items


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"crictl: its output is not JSON: {error}") from None


def _dict(item: dict[str, Any], key: str) -> dict[str, Any]:
    value = item.get(key)
    return value if isinstance(value, dict) else {}


def _scalar(value: Any) -> Optional[str]:
    return str(value) if isinstance(value, (str, int)) else None
