"""A static pod's manifest: what the etcd in it will run with."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from agent.errors import Refused
from agent.model.facts import EtcdConfig
from agent.survey.flags import from_environment, parse_argv
from agent.survey.pod import ContainerSpec, Pod, etcd_arguments, is_shell, parse_pod
from agent.survey.podyaml import line
from agent.survey.script import scripted_etcd
from agent.survey.settings import Settings, settle

__all__ = ["Pod", "etcd_config", "parse_pod"]


def etcd_config(text: str, path: str, container: str = "etcd") -> EtcdConfig:
    """What the etcd of this manifest will run with; paths are the host's, client_tls is empty.

    Command, arguments and ETCD_* variables are read as the kubelet and etcd read them: a flag wins
    over its variable. Raises Damaged where the text is not a readable Pod, and Refused where no
    container runs etcd, several do, or etcd starts through a shell script that cannot be read.
    """
    pod = parse_pod(text, path)
    spec = pod.etcd(container)
    if spec is None:
        names = ", ".join(c.name or "(no name)" for c in pod.containers)
        raise Refused(f"{path}: no container of this pod runs etcd; it has: {names}")
    return pod_config(pod, spec)


def pod_config(pod: Pod, spec: ContainerSpec) -> EtcdConfig:
    """What the etcd of this container will run with; see `etcd_config`."""
    arguments, environment, hidden = _started(pod, spec)
    settings = Settings(
        pod.path,
        parse_argv(arguments),
        from_environment(environment),
        spec.host_path,
        spec.working_dir,
    )
    if hidden:
        settings.note(f"settings come from outside this file: {', '.join(hidden)}")
    digest = hashlib.sha256(pod.document.text.encode()).hexdigest()
    return replace(settle(settings, digest, spec.image), scripted=is_shell(spec.argv))


def _started(
    pod: Pod, spec: ContainerSpec
) -> tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]:
    """(etcd's arguments, its environment, settings that the file does not hold).

    What a script finds out by itself while it runs (OpenShift's --initial-cluster) is no setting of
    this file, and nothing to note.
    """
    hidden = tuple(v for v in spec.unresolved if v.startswith("ETCD_") or v == "envFrom")
    if not is_shell(spec.argv):
        return etcd_arguments(spec, pod.path), spec.env, hidden
    where = f"{pod.path}: line {line(spec.node)}: the script of container {spec.name}"
    found = scripted_etcd(_script(spec, pod.path), spec.env, where)
    return found.arguments, found.environment, hidden


def _script(spec: ContainerSpec, path: str) -> str:
    """The text behind `-c`. Raises Refused where the shell is started in another way."""
    words = spec.argv[1:]
    if len(words) >= 2 and re.fullmatch(r"-[a-z]*c", words[0]):
        return words[1]
    etcd_arguments(spec, path)  # refuses any shell
    return ""
