"""Debug pods as oc and kubectl make them, run by the host's own containerd: there is no API here.

The pods' specs are those of openshift/oc pkg/cli/debug/debug.go (approximatePodTemplateForObject,
transformPodForDebug; oc 4.19) and of kubernetes/kubectl pkg/cmd/debug (generateNodeDebugPod, and
profiles.go for sysadmin; 1.32), for a node and a command. What an API server would keep of them is
in a file each.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lab import names
from tests.lab.disk import Disk
from tests.lab.host import Host
from tests.lab.kubelet import cri_config
from tests.lab.kubelet.manifest import StaticPod
from tests.lab.paths import STATE_DIR

PODS = STATE_DIR / "debug-pods"
Hosts = Mapping[str, Host]


@dataclass(frozen=True)
class DebugPod:
    """A pod that was made. id: of its container. sandbox: of its sandbox."""

    name: str
    namespace: str
    node: str
    container: str
    id: str
    sandbox: str

    @property
    def file(self) -> Path:
        return PODS / f"{self.namespace}_{self.name}.json"


def hosts_of_lab() -> dict[str, Host]:
    """The hosts of the lab that runs here, as far as their inside goes."""
    disks = [Disk(index, Path("/"), Path("/")) for index in range(names.MAX_HOSTS)]
    return {names.host_name(d.index): Host(d) for d in disks if d.top.exists()}


def random_suffix() -> str:
    """Five letters, as the API machinery makes names unique."""
    return "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


def oc_spec(node: str, image: str, command: Sequence[str]) -> dict[str, Any]:
    """The pod of `oc debug node/NODE --image=IMAGE -- COMMAND`."""
    container = {
        "name": "container-00",
        "image": image,
        "command": list(command),
        "securityContext": {"privileged": True, "runAsUser": 0},
        "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        "env": [{"name": "TMOUT", "value": "900"}, {"name": "HOST", "value": "/host"}],
        "stdin": False,
        "stdinOnce": False,
        "tty": False,
    }
    return _pod(node, container, {"name": "host", "hostPath": {"path": "/", "type": "Directory"}})


def kubectl_spec(node: str, image: str, command: Sequence[str]) -> dict[str, Any]:
    """The pod of `kubectl debug node/NODE --profile=sysadmin --image=IMAGE -- COMMAND`."""
    container = {
        "name": "debugger",
        "image": image,
        "command": list(command),
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "host-root", "mountPath": "/host"}],
        "stdin": False,
        "tty": False,
    }
    return _pod(node, container, {"name": "host-root", "hostPath": {"path": "/"}})


def _pod(node: str, container: dict[str, Any], volume: dict[str, Any]) -> dict[str, Any]:
    return {
        "nodeName": node,
        "hostNetwork": True,
        "hostPID": True,
        "hostIPC": True,
        "restartPolicy": "Never",
        "volumes": [volume],
        "containers": [container],
    }


class NoImage(RuntimeError):
    """The node has no such image, and there is no registry."""


def create(hosts: Hosts, name: str, namespace: str, spec: dict[str, Any]) -> DebugPod:
    """Run a pod on its node, as its kubelet would. Raises NoImage."""
    host = hosts[spec["nodeName"]]
    (told,) = spec["containers"]
    if host.run(["crictl", "inspecti", told["image"]], check=False).returncode:
        raise NoImage(f'Back-off pulling image "{told["image"]}"')
    pod = StaticPod(str(uuid.uuid4()), name, namespace, "api", spec, {}, {})
    sandbox = cri_config.sandbox_config(pod, 0, host.name)
    sandbox["annotations"]["kubernetes.io/config.source"] = "api"
    container = cri_config.container_config(pod, told, 0)
    user = told["securityContext"].get("runAsUser")
    if user is not None:
        container["linux"]["security_context"]["run_as_user"] = {"value": user}
    folder = cri_config.log_directory(pod) / told["name"]
    host.run(["mkdir", "-p", folder])
    files = [_file(host, f"{pod.uid}-{n}", said) for n, said in enumerate((sandbox, container))]
    try:
        sandbox_id = host.run(["crictl", "runp", files[0]]).stdout.strip()
        made = host.run(["crictl", "create", sandbox_id, files[1], files[0]]).stdout.strip()
        host.run(["crictl", "start", made])
    finally:
        host.run(["rm", "-f", *files])
    result = DebugPod(name, namespace, host.name, told["name"], made, sandbox_id)
    PODS.mkdir(exist_ok=True)
    result.file.write_text(json.dumps(asdict(result)))
    return result


def _file(host: Host, name: str, said: dict[str, Any]) -> str:
    path = f"/run/{name}.json"
    host.run(["tee", path], stdin=json.dumps(said))
    return path


def find(namespace: str, name: str) -> DebugPod | None:
    """The pod of that name; None where there is none."""
    try:
        return DebugPod(**json.loads((PODS / f"{namespace}_{name}.json").read_text()))
    except FileNotFoundError:
        return None


def pods_on(node: str = "") -> list[DebugPod]:
    """The pods that there are, on one node or on all."""
    found = [DebugPod(**json.loads(path.read_text())) for path in sorted(PODS.glob("*.json"))]
    return [pod for pod in found if node in ("", pod.node)]


def delete(hosts: Hosts, pod: DebugPod) -> None:
    """Remove a pod at once, as a deletion with no grace does."""
    pod.file.unlink(missing_ok=True)
    host = hosts[pod.node]
    if host.is_up:
        host.run(["crictl", "rmp", "-f", pod.sandbox], check=False)


def exit_code(hosts: Hosts, pod: DebugPod) -> int | None:
    """How the pod's container ended; None while it runs."""
    said = hosts[pod.node].run(["crictl", "inspect", pod.id], check=False)
    if said.returncode:
        return 137  # it was removed
    status = json.loads(said.stdout)["status"]
    return int(status.get("exitCode", 0)) if status["state"] == "CONTAINER_EXITED" else None


def import_image(host: Host, archive: Path) -> None:
    """Put an image's file into a node's store, as docs/debug-pod.md tells to."""
    argv = host.enter_command(["ctr", "-n", "k8s.io", "images", "import", "-"])
    with archive.open("rb") as file:
        subprocess.run(argv, stdin=file, check=True, capture_output=True, timeout=120)
