"""oc and kubectl as debug pods need them: their arguments, and what they say. Nothing is started.

oc debug node/NAME (openshift/oc, pkg/cli/debug/debug.go) makes a privileged pod in the host's
network, PID and IPC namespaces, with the host's root at /host, follows its log, and removes it, and
the temporary namespace it may have made, once its command has ended. With a command it gives the
pod no stdin. kubectl debug node/NAME (kubernetes/kubectl, pkg/cmd/debug) makes the same pod with
--profile=sysadmin, which kubectl has from 1.29; it returns at once, and removes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent import __version__
from agent.errors import Refused, RescueError, Unreachable, UsageError

DEFAULT_IMAGE = f"localhost/etcd-rescue:{__version__}"
"""What `make image` calls it, for nodes into whose store it was imported."""

TOOLS = ("oc", "kubectl")

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,252}")


@dataclass(frozen=True)
class PodWish:
    """How debug pods are made. Empty: the defaults of whichever tool is found, oc first.

    image: a reference that the nodes can pull or have. tool: oc, kubectl, or a path of one.
    namespace, context, kubeconfig: as the tool's options of these names.
    """

    image: str = ""
    tool: str = ""
    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""


def checked_wish(wish: PodWish) -> PodWish:
    """The wish, fit for an argument list. Raises UsageError."""
    if wish.image and not _IMAGE.fullmatch(wish.image):
        raise UsageError(f"{wish.image!r} is not the reference of an image")
    if wish.namespace and not _NAME.fullmatch(wish.namespace):
        raise UsageError(f"{wish.namespace!r} is not the name of a namespace")
    if wish.context and not _WORD.fullmatch(wish.context):
        raise UsageError(f"{wish.context!r} is not the name of a context")
    return wish


@dataclass(frozen=True)
class PodName:
    """A pod that a tool made. namespace: empty for the tool's current one."""

    name: str
    container: str
    namespace: str = ""


@dataclass(frozen=True)
class Tool:
    """A client of the API. program: its path."""

    program: str
    wish: PodWish

    @property
    def is_oc(self) -> bool:
        """Whether it speaks oc's dialect of `debug`."""
        return os.path.basename(self.program).startswith("oc")

    def ready(self, node: str) -> list[str]:
        """What says "True" of a node whose kubelet can start pods."""
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        words = ["get", "node", node, f"--output=jsonpath={path}", "--request-timeout=10s"]
        return [*self._base(), *words]

    def debug(self, node: str, argv: Sequence[str]) -> list[str]:
        """What makes a debug pod that runs `argv`."""
        image = self.wish.image or DEFAULT_IMAGE
        words = ["debug", f"node/{node}", f"--image={image}"]
        if self.is_oc:
            words += [f"--to-namespace={self.wish.namespace}"] if self.wish.namespace else []
        else:
            words += ["--profile=sysadmin", "--image-pull-policy=IfNotPresent"]
            words += [f"--namespace={self.wish.namespace}"] if self.wish.namespace else []
        return [*self._base(), *words, "--", *argv]

    def exec(self, pod: PodName, argv: Sequence[str]) -> list[str]:
        """What runs `argv` in a pod, its stdin and stdout ours."""
        words = ["exec", "-i", pod.name, f"--container={pod.container}", *_in(pod)]
        return [*self._base(), *words, "--", *argv]

    def wait(self, pod: PodName, seconds: int) -> list[str]:
        """What waits until a pod's container runs."""
        words = ["wait", "--for=condition=Ready", f"pod/{pod.name}", f"--timeout={seconds}s"]
        return [*self._base(), *words, *_in(pod)]

    def wait_end(self, pod: PodName, seconds: int) -> list[str]:
        """What waits until a pod's container has ended well."""
        words = ["wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod.name}"]
        return [*self._base(), *words, f"--timeout={seconds}s", *_in(pod)]

    def delete(self, pod: PodName) -> list[str]:
        """What removes a pod."""
        words = ["delete", "pod", pod.name, "--wait=false", "--ignore-not-found=true"]
        return [*self._base(), *words, *_in(pod)]

    def delete_namespace(self, pod: PodName) -> list[str]:
        """What removes the namespace that was made for a pod, of an oc that was interrupted."""
        words = ["delete", "namespace", pod.namespace, "--wait=false", "--ignore-not-found=true"]
        return [*self._base(), *words]

    def _base(self) -> list[str]:
        words = [self.program]
        words += [f"--kubeconfig={self.wish.kubeconfig}"] if self.wish.kubeconfig else []
        return words + ([f"--context={self.wish.context}"] if self.wish.context else [])

    def made(self, said: str) -> PodName | None:
        """The pod that `debug` says it makes; None where it has not said so yet.

        oc says it on stderr, kubectl on stdout.
        """
        if self.is_oc:
            pod = re.search(r"^Starting pod/([a-z0-9.-]+)(?: \.\.\.|, command was:)", said, re.M)
            own = re.search(r"^Temporary namespace ([a-z0-9-]+) is created", said, re.M)
            namespace = own[1] if own else self.wish.namespace
            return PodName(pod[1], "container-00", namespace) if pod else None
        words = r"^Creating debugging pod ([a-z0-9.-]+) with container ([a-z0-9-]+) on node "
        pod = re.search(words, said, re.M)
        return PodName(pod[1], pod[2], self.wish.namespace) if pod else None


def _in(pod: PodName) -> list[str]:
    return [f"--namespace={pod.namespace}"] if pod.namespace else []


# ---- what is in the way --------------------------------------------------------------------------

_API_DOWN = re.compile(
    r"Unable to connect to the server|connection to the server .* was refused|connection refused"
    r"|i/o timeout|no route to host|TLS handshake timeout|ServiceUnavailable|etcdserver:"
    r"|unable to handle the request|couldn't get current server API group list"
)


@dataclass(frozen=True)
class _Cause:
    """What a tool's words mean. {image}, {name} and {host} are filled in."""

    pattern: re.Pattern[str]
    kind: type[RescueError]
    seen: str
    why: str
    next: str


_CAUSES = (
    _Cause(
        re.compile(r'nodes? "[^"]*" not found'), Refused,
        "there is no node of that name",
        "a debug pod is started on a node by its name in the API",
        "{name} get nodes; name the hosts so, with -H or in cluster.yaml",
    ),
    _Cause(
        re.compile(r"unknown profile|unknown flag"), Refused,
        "this {name} is too old for debug pods on nodes",
        "kubectl has --profile=sysadmin from 1.29",
        "use a newer kubectl, or oc; or SSH: the same command without --via",
    ),
    _Cause(
        re.compile(r"[Ff]orbidden|Unauthorized|must be logged in|violates PodSecurity"), Refused,
        "no debug pod may be made there",
        "it is privileged, and sees the host: cluster-admin may make it",
        "{name} auth can-i create pods; or SSH: the same command without --via",
    ),
    _Cause(
        _API_DOWN, Unreachable,
        "the Kubernetes API does not answer",
        "a debug pod is started, and spoken to, through the API; it says nothing of the host",
        "SSH: the same command without --via; or at the host's console: rescue-agent survey",
    ),
    _Cause(
        re.compile(r"\AReady="), Unreachable,
        "the node is not ready",
        "its kubelet does not report to the API: no pod would start there",
        "{name} describe node {host}; SSH: the same command without --via",
    ),
    _Cause(
        re.compile(r"ImagePull|ErrImage|pulling image|unable to start due to an error"),
        Unreachable,
        "the image {image} cannot be had there",
        "the node pulls it, or has it in its store",
        "--image REFERENCE; or import it on the node (docs/debug-pod.md says how)",
    ),
)  # fmt: skip
"""The first that matches counts: a tool may say several of these at once."""


def failed(host: str, tool: Tool, said: str) -> RescueError:
    """Why there is no debug pod, by what the tool said last."""
    told = " ".join(said.split())[-400:] or "it said nothing"
    found = next((cause for cause in _CAUSES if cause.pattern.search(said)), None)
    if found is None:
        again = " ".join(tool.debug(host, ["rescue-agent", "survey"]))
        return Unreachable(f"{host}: no debug pod: {told}", "", again)
    names = {
        "name": os.path.basename(tool.program),
        "image": tool.wish.image or DEFAULT_IMAGE,
        "host": host,
    }
    return found.kind(
        f"{host}: {found.seen.format(**names)}: {told}", found.why, found.next.format(**names)
    )
