"""The container runtime, through crictl."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .cri_config import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID


class RuntimeFailure(RuntimeError):
    """crictl ended with an error."""


@dataclass(frozen=True)
class Sandbox:
    """A pod sandbox as the runtime lists it."""

    id: str
    uid: str
    name: str
    namespace: str
    ready: bool
    attempt: int
    source: str


@dataclass(frozen=True)
class Container:
    """A container as the runtime lists it."""

    id: str
    sandbox: str
    name: str
    running: bool
    attempt: int


_REQUEST_TIMEOUT = 120
"""Seconds: a kubelet's runtimeRequestTimeout; crictl's own 2 are a person's patience."""


def _crictl(*arguments: str, timeout: float = _REQUEST_TIMEOUT + 10) -> str:
    try:
        done = subprocess.run(
            ["crictl", f"--timeout={_REQUEST_TIMEOUT}s", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(str(error)) from error
    if done.returncode:
        raise RuntimeFailure(done.stderr.strip() or f"crictl {arguments[0]}: {done.returncode}")
    return done.stdout


def wait_until_ready(timeout: float = 60) -> None:
    """Wait for the runtime to answer, as a kubelet does at its start."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            _crictl("version", timeout=5)
        except RuntimeFailure:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def list_sandboxes(uid: str | None = None) -> list[Sandbox]:
    """Sandboxes of one pod, or of all; the newest first."""
    label = ["--label", f"{POD_UID}={uid}"] if uid else []
    items = json.loads(_crictl("pods", *label, "-o", "json"))["items"]
    return [
        Sandbox(
            id=item["id"],
            uid=item["labels"].get(POD_UID, ""),
            name=item["labels"].get(POD_NAME, ""),
            namespace=item["labels"].get(POD_NAMESPACE, ""),
            ready=item["state"] == "SANDBOX_READY",
            attempt=int(item["metadata"]["attempt"]),
            source=item["annotations"].get("kubernetes.io/config.source", ""),
        )
        for item in items
    ]


def list_containers(uid: str) -> list[Container]:
    """All containers of one pod, ended ones too; the newest first."""
    listed = _crictl("ps", "-a", "--label", f"{POD_UID}={uid}", "-o", "json")
    return [
        Container(
            id=item["id"],
            sandbox=item["podSandboxId"],
            name=item["labels"].get(CONTAINER_NAME, ""),
            running=item["state"] == "CONTAINER_RUNNING",
            attempt=int(item["metadata"]["attempt"]),
        )
        for item in json.loads(listed)["containers"]
    ]


def image_id(reference: str) -> str:
    """The local image of this name; there is no registry to pull from."""
    try:
        return str(json.loads(_crictl("inspecti", reference))["status"]["id"])
    except RuntimeFailure as error:
        raise RuntimeFailure(
            f'failed to "StartContainer" with ErrImagePull: "{reference}: not found"'
        ) from error


def process_of(container: str) -> int:
    """The process of a running container."""
    return int(json.loads(_crictl("inspect", container))["info"]["pid"])


def exit_code(container: str) -> int:
    """How an ended container ended."""
    return int(json.loads(_crictl("inspect", container))["status"].get("exitCode", 0))


def finished_at(container: str) -> float:
    """When a container ended, as time.time() counts; now, where the runtime does not know."""
    text = str(json.loads(_crictl("inspect", container))["status"]["finishedAt"])
    try:
        whole, _, rest = text.partition(".")
        zone = rest.lstrip("0123456789") or "+00:00"
        moment = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
        return moment.timestamp() + float("0." + (rest[: len(rest) - len(zone)] or "0"))
    except ValueError:
        return time.time()


def _with_files(arguments: Sequence[str], *configs: dict[str, Any]) -> str:
    with tempfile.TemporaryDirectory(prefix="kubelet.", dir="/run") as folder:
        files = []
        for index, config in enumerate(configs):
            file = Path(folder, f"{index}.json")
            file.write_text(json.dumps(config))
            files.append(str(file))
        return _crictl(*arguments, *files).strip()


def run_sandbox(config: dict[str, Any]) -> str:
    """Start a sandbox and return its ID."""
    return _with_files(["runp"], config)


def start_container(sandbox: str, config: dict[str, Any], sandbox_config: dict[str, Any]) -> str:
    """Create and start a container and return its ID."""
    container = _with_files(["create", sandbox], config, sandbox_config)
    _crictl("start", container)
    return container


def stop_container(container: str, grace: int) -> None:
    """End a container: SIGTERM, and SIGKILL after the grace period."""
    _crictl("stop", "-t", str(grace), container, timeout=grace + _REQUEST_TIMEOUT + 70)


def stop_sandbox(sandbox: str) -> None:
    """End a sandbox and what still runs in it."""
    _crictl("stopp", sandbox)


def remove_container(container: str) -> None:
    """Forget an ended container."""
    _crictl("rm", container)


def remove_sandbox(sandbox: str) -> None:
    """Forget a sandbox and its containers."""
    _crictl("rmp", "-f", sandbox)
