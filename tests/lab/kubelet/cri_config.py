"""Pod and container configurations for the container runtime, with a kubelet's labels."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

from .manifest import StaticPod

CONTAINER_NAME = "io.kubernetes.container.name"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
RESTART_COUNT = "io.kubernetes.container.restartCount"
LOG_ROOT = Path("/var/log/pods")


def pod_labels(pod: StaticPod) -> dict[str, str]:
    """The labels by which everybody finds a pod's sandboxes and containers."""
    return {POD_NAME: pod.name, POD_NAMESPACE: pod.namespace, POD_UID: pod.uid}


def log_directory(pod: StaticPod) -> Path:
    """Where a pod's logs are: NAMESPACE_NAME_UID."""
    return LOG_ROOT / f"{pod.namespace}_{pod.name}_{pod.uid}"


def sandbox_config(pod: StaticPod, attempt: int, node: str) -> dict[str, Any]:
    """The configuration of a pod sandbox."""
    annotations = {
        "kubernetes.io/config.hash": pod.uid,
        "kubernetes.io/config.seen": time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
        "kubernetes.io/config.source": "file",
    }
    return {
        "metadata": {
            "name": pod.name,
            "uid": pod.uid,
            "namespace": pod.namespace,
            "attempt": attempt,
        },
        "hostname": "" if pod.spec.get("hostNetwork") else node,
        "log_directory": str(log_directory(pod)),
        "labels": {**pod.labels, **pod_labels(pod)},
        "annotations": {**pod.annotations, **annotations},
        "linux": {
            "cgroup_parent": f"/kubepods/burstable/pod{pod.uid}",
            "security_context": {
                "namespace_options": _namespaces(pod),
                "privileged": any(map(_is_privileged, pod.spec["containers"])),
            },
        },
    }


def _is_privileged(spec: dict[str, Any]) -> bool:
    return bool((spec.get("securityContext") or {}).get("privileged"))


def _namespaces(pod: StaticPod) -> dict[str, int]:
    # 0: the pod's own, 1: the container's own, 2: the host's.
    return {
        "network": 2 if pod.spec.get("hostNetwork") else 0,
        "pid": 2 if pod.spec.get("hostPID") else 1,
        "ipc": 2 if pod.spec.get("hostIPC") else 0,
    }


def container_config(pod: StaticPod, spec: dict[str, Any], attempt: int) -> dict[str, Any]:
    """The configuration of one container of a pod."""
    name = str(spec["name"])
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()
    envs = [_variable(entry, pod) for entry in spec.get("env") or []]
    privileged = _is_privileged(spec)
    return {
        "metadata": {"name": name, "attempt": attempt},
        "image": {"image": str(spec["image"])},
        "command": _expanded(spec.get("command") or [], envs),
        "args": _expanded(spec.get("args") or [], envs),
        "working_dir": str(spec.get("workingDir") or ""),
        "envs": envs,
        "mounts": [mount for mount in map(_mounter(pod), spec.get("volumeMounts") or []) if mount],
        "labels": {CONTAINER_NAME: name, **pod_labels(pod)},
        "annotations": {
            "io.kubernetes.container.hash": digest[:8],
            RESTART_COUNT: str(attempt),
            "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
            "io.kubernetes.container.terminationMessagePolicy": "File",
            "io.kubernetes.pod.terminationGracePeriod": str(pod.grace),
        },
        "log_path": f"{name}/{attempt}.log",
        "linux": {
            "resources": {"cpu_shares": 102},
            "security_context": {"namespace_options": _namespaces(pod), "privileged": privileged},
        },
    }


def _variable(entry: dict[str, Any], pod: StaticPod) -> dict[str, str]:
    path = ((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath", "")
    known = {"metadata.name": pod.name, "metadata.namespace": pod.namespace}
    looked_up = _node_ip() if path == "status.podIP" else known.get(path, "")
    return {"key": str(entry["name"]), "value": str(entry.get("value", looked_up))}


def _node_ip() -> str:
    """The node's address by its own name: what a pod on the host's network has, too."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def _expanded(words: list[Any], envs: list[dict[str, str]]) -> list[str]:
    """Words with the kubelet's $(NAME) replaced; an unknown one stays as it is."""
    known = {each["key"]: each["value"] for each in envs}

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else known.get(match[1][1:-1], match[0])

    return [re.sub(r"\$(\$|\([A-Za-z_.-][\w.-]*\))", value, str(word)) for word in words]


class _mounter:  # noqa: N801 - a function with memory
    def __init__(self, pod: StaticPod) -> None:
        self._volumes = {v["name"]: v.get("hostPath") for v in pod.spec.get("volumes") or []}

    def __call__(self, mount: dict[str, Any]) -> dict[str, Any] | None:
        host_path = self._volumes.get(mount["name"])
        if not host_path:
            return None
        return {
            "container_path": mount["mountPath"],
            "host_path": host_path["path"],
            "readonly": bool(mount.get("readOnly")),
        }


def prepare_host_paths(pod: StaticPod) -> None:
    """Do what the types of hostPath volumes ask for; raises where a path is not as required."""
    for volume in pod.spec.get("volumes") or []:
        host_path = volume.get("hostPath") or {}
        path, kind = Path(host_path.get("path", "/")), host_path.get("type") or ""
        if kind == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644)
        elif kind == "Directory" and not path.is_dir():
            raise FileNotFoundError(f"hostPath type check failed: {path} is not a directory")
        elif kind == "File" and not path.is_file():
            raise FileNotFoundError(f"hostPath type check failed: {path} is not a file")
