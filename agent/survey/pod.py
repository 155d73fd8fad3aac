"""A static pod as its manifest writes it: containers, and where their paths lie on the host."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from yaml.nodes import MappingNode, Node

from agent.errors import Damaged, Refused
from agent.survey.podyaml import Document, compose, get, line

_SHELLS = frozenset({"sh", "bash", "ash", "dash", "busybox"})
_SCRIPT_RUNS_ETCD = re.compile(r"(?:^|[\s;&|(/])etcd[\s\\]+-")
_ETCD_IMAGE = re.compile(r"(?:^|/)etcd(?:-(?:amd64|arm64|arm|ppc64le|s390x))?(?:[:@]|$)")
_VARIABLE = re.compile(r"\$(\$|\([A-Za-z_.-][A-Za-z0-9_.-]*\))")


@dataclass(frozen=True)
class Mount:
    """A volumeMount joined to its volume. source is the host's path, empty where there is none."""

    target: str
    source: str
    kind: str


@dataclass(frozen=True)
class ContainerSpec:
    """One container: its strings as written, and the environment that the manifest itself gives.

    unresolved: variables whose value the manifest does not hold (valueFrom, envFrom).
    """

    name: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    working_dir: str
    env: dict[str, str]
    unresolved: tuple[str, ...]
    mounts: tuple[Mount, ...]
    node: MappingNode = field(repr=False, compare=False)

    @property
    def argv(self) -> tuple[str, ...]:
        """Command and arguments with $(VARIABLE) replaced, as the kubelet starts them."""
        return tuple(_expand(text, self.env) for text in (*self.command, *self.args))

    def runs_etcd(self, container: str = "etcd") -> bool:
        """True if this is the etcd container, by its name, its command or its image."""
        argv = self.argv
        if self.name == container or (argv and posixpath.basename(argv[0]) == "etcd"):
            return argv[1:2] != ("grpc-proxy",)
        if is_shell(argv):
            return any(_SCRIPT_RUNS_ETCD.search(text) for text in argv[1:])
        plain = not self.command and all(text.startswith("-") for text in argv[:1])
        return plain and bool(_ETCD_IMAGE.search(self.image))

    def host_path(self, path: str) -> tuple[str, str]:
        """(the host's path, "") of a container's path, or ("", why there is none)."""
        path = posixpath.normpath(path)
        fitting = [m for m in self.mounts if _below(path, m.target)]
        if not fitting:
            return "", f"{path} lies inside the container, in no volume"
        mount = max(fitting, key=lambda m: len(m.target))
        if not mount.source:
            return "", f"{path} lies in a volume that is not on the host ({mount.kind})"
        rest = posixpath.relpath(path, mount.target)
        return posixpath.normpath(posixpath.join(mount.source, rest)), ""


@dataclass(frozen=True)
class Pod:
    """What matters of a pod. document holds the nodes, for who edits the text."""

    path: str
    name: str
    namespace: str
    containers: tuple[ContainerSpec, ...]
    document: Document = field(repr=False, compare=False)

    def etcd(self, container: str = "etcd") -> Optional[ContainerSpec]:
        """The container that runs etcd, or None. Raises Refused where there are several."""
        found = [spec for spec in self.containers if spec.runs_etcd(container)]
        if len(found) > 1:
            where = ", ".join(f"{spec.name} on line {line(spec.node)}" for spec in found)
            raise Refused(
                f"{self.path}: {len(found)} containers run etcd: {where}",
                "which of them holds this host's member cannot be told",
                f"leave one etcd container in {self.path}",
            )
        return found[0] if found else None


def parse_pod(text: str, path: str) -> Pod:
    """Read a manifest as the kubelet would. Raises Damaged where it is not a readable Pod."""
    document = compose(text, path)
    root = document.mapping(document.root, "the document")
    kind = document.string(get(root, "kind"), "kind")
    version = document.string(get(root, "apiVersion"), "apiVersion")
    if (kind, version) != ("Pod", "v1"):
        shown = f"{version or 'without apiVersion'} {kind or 'without kind'}"
        raise Damaged(f"{path}: {shown}, not a v1 Pod", "the kubelet runs nothing else")
    spec = document.mapping(get(root, "spec"), "spec")
    nodes = document.items(get(spec, "containers"), "spec.containers")
    if not nodes:
        raise Damaged(f"{path}: a Pod without spec.containers", "the kubelet cannot run it")
    metadata = document.mapping(get(root, "metadata"), "metadata")
    volumes = dict(_volume(document, n) for n in document.items(get(spec, "volumes"), "volumes"))
    return Pod(
        path,
        document.string(get(metadata, "name"), "metadata.name"),
        document.string(get(metadata, "namespace"), "metadata.namespace") or "default",
        tuple(_container(document, node, volumes) for node in nodes),
        document,
    )


def etcd_arguments(spec: ContainerSpec, path: str) -> tuple[str, ...]:
    """The arguments behind etcd's own name. Raises Refused where etcd is not started directly."""
    argv = spec.argv
    if is_shell(argv):
        raise Refused(
            f"{path}: line {line(spec.node)}: container {spec.name} starts a shell script",
            "what etcd will run with cannot be read from a script, nor safely changed in it",
            f"write etcd and its flags as a plain list under `command:` in {path}",
        )
    if argv and not argv[0].startswith("-"):
        if posixpath.basename(argv[0]) != "etcd":
            raise Refused(
                f"{path}: line {line(spec.node)}: container {spec.name} runs {argv[0]}, not etcd",
                "what etcd itself will run with cannot be read from that",
                f"write etcd and its flags as a plain list under `command:` in {path}",
            )
        return argv[1:]
    return argv


def is_shell(argv: tuple[str, ...]) -> bool:
    """True for `sh -c SCRIPT` in any of its usual shapes."""
    return bool(argv) and posixpath.basename(argv[0]) in _SHELLS


def _container(document: Document, node: Node, volumes: Mapping[str, Mount]) -> ContainerSpec:
    mapping = document.mapping(node, "a container")
    if mapping is None:  # not reached: items() gives nodes
        raise Damaged(f"{document.path}: an empty container")
    env, unresolved = _environment(document, mapping)
    mounts = document.items(get(mapping, "volumeMounts"), "volumeMounts")
    image = document.string(get(mapping, "image"), "image")
    if image.startswith("-") or any(c.isspace() or not c.isprintable() for c in image):
        raise document.error(mapping, f"image {image!r} is no image's name")  # but an option
    return ContainerSpec(
        document.string(get(mapping, "name"), "a container's name"),
        image,
        _strings(document, mapping, "command"),
        _strings(document, mapping, "args"),
        document.string(get(mapping, "workingDir"), "workingDir"),
        env,
        unresolved,
        tuple(_mount(document, mount, volumes) for mount in mounts),
        mapping,
    )


def _strings(document: Document, node: Node, key: str) -> tuple[str, ...]:
    items = document.items(get(node, key), key)
    return tuple(document.string(item, f"an item of {key}") for item in items)


def _environment(document: Document, node: Node) -> tuple[dict[str, str], tuple[str, ...]]:
    env: dict[str, str] = {}
    unresolved: list[str] = []
    for item in document.items(get(node, "env"), "env"):
        name = document.string(get(item, "name"), "the name of a variable")
        if get(item, "valueFrom") is not None:
            unresolved.append(name)
            env.pop(name, None)
        else:
            value = document.string(get(item, "value"), f"the value of {name}")
            env[name] = _expand(value, env)
    if document.items(get(node, "envFrom"), "envFrom"):
        unresolved.append("envFrom")
    return env, tuple(unresolved)


def _volume(document: Document, node: Node) -> tuple[str, Mount]:
    name = document.string(get(node, "name"), "the name of a volume")
    source = document.string(get(get(node, "hostPath"), "path"), f"the path of volume {name}")
    mapping = document.mapping(node, "a volume")
    kinds = [key.value for key, _ in mapping.value if key.value != "name"] if mapping else []
    return name, Mount("", source, ", ".join(kinds) or "emptyDir")


def _mount(document: Document, node: Node, volumes: Mapping[str, Mount]) -> Mount:
    name = document.string(get(node, "name"), "the name of a volumeMount")
    target = document.string(get(node, "mountPath"), "mountPath") or "/"
    volume = volumes.get(name, Mount("", "", f"volume {name} is not defined"))
    sub = document.string(get(node, "subPath"), "subPath")
    source = volume.source
    if get(node, "subPathExpr") is not None:
        source = ""
    elif source and sub:
        source = posixpath.join(source, sub)
    return Mount(posixpath.normpath(target), source, volume.kind)


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _expand(text: str, env: Mapping[str, str]) -> str:
    """Kubernetes' $(NAME); an unknown one stays as it is, and $$ is a dollar sign.

    Source: kubernetes third_party/forked/golang/expansion/expand.go.
    """

    def value(match: re.Match[str]) -> str:
        inner = match.group(1)
        return "$" if inner == "$" else env.get(inner[1:-1], match.group(0))

    return _VARIABLE.sub(value, text)
