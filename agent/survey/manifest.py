"""A static pod's manifest: what the etcd in it will run with."""

from __future__ import annotations

import hashlib

from agent.errors import Refused
from agent.model.facts import EtcdConfig
from agent.survey.flags import from_environment, parse_argv
from agent.survey.pod import ContainerSpec, Pod, etcd_arguments, parse_pod
from agent.survey.settings import Settings, settle

__all__ = ["Pod", "etcd_config", "parse_pod"]


def etcd_config(text: str, path: str, container: str = "etcd") -> EtcdConfig:
    """What the etcd of this manifest will run with; paths are the host's, client_tls is empty.

    Command, arguments and ETCD_* variables are read as the kubelet and etcd read them: a flag wins
    over its variable. Raises Damaged where the text is not a readable Pod, and Refused where no
    container runs etcd, several do, or etcd starts through a shell script.
    """
    pod = parse_pod(text, path)
    spec = pod.etcd(container)
    if spec is None:
        names = ", ".join(c.name or "(no name)" for c in pod.containers)
        raise Refused(f"{path}: no container of this pod runs etcd; it has: {names}")
    return pod_config(pod, spec)


def pod_config(pod: Pod, spec: ContainerSpec) -> EtcdConfig:
    """What the etcd of this container will run with; see `etcd_config`."""
    settings = Settings(
        pod.path,
        parse_argv(etcd_arguments(spec, pod.path)),
        from_environment(spec.env),
        spec.host_path,
        spec.working_dir,
    )
    hidden = [v for v in spec.unresolved if v.startswith("ETCD_") or v == "envFrom"]
    if hidden:
        settings.note(f"settings come from outside this file: {', '.join(hidden)}")
    digest = hashlib.sha256(pod.document.text.encode()).hexdigest()
    return settle(settings, digest, spec.image)
