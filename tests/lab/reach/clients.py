"""The lab's oc and kubectl: `debug node/…`, `exec`, `wait`, `delete`, with the documented options.

They take the arguments that the real ones document and fail on any other; what they are asked for
and do not do, they say. Run as: python -m tests.lab.reach.clients oc|kubectl WORDS.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tests.lab.reach import debug_pods
from tests.lab.reach.debug_pods import DebugPod, Hosts

_GLOBAL = {"kubeconfig": True, "context": True, "namespace": True, "request-timeout": True}
_OC_DEBUG = {
    "image": True, "to-namespace": True, "quiet": False, "no-stdin": False, "tty": False,
    "no-tty": False, "container": True, "keep-annotations": False, "keep-labels": False,
    "keep-liveness": False, "keep-init-containers": False, "keep-readiness": False,
    "keep-startup": False, "one-container": False, "node-name": True, "as-root": False,
    "as-user": True, "image-stream": True, "preserve-pod": False, "dry-run": True, "output": True,
    "filename": True,
}  # fmt: skip
_KUBECTL_DEBUG = {
    "image": True, "profile": True, "image-pull-policy": True, "arguments-only": False,
    "attach": False, "container": True, "copy-to": True, "custom": True, "env": True,
    "filename": True, "keep-annotations": False, "keep-init-containers": False,
    "keep-labels": False, "keep-liveness": False, "keep-readiness": False, "keep-startup": False,
    "quiet": False, "replace": False, "same-node": False, "set-image": True,
    "share-processes": False, "stdin": False, "target": True, "tty": False,
}  # fmt: skip
_EXEC = {
    "container": True, "stdin": False, "tty": False, "quiet": False, "filename": True,
    "pod-running-timeout": True,
}  # fmt: skip
_WAIT = {
    "for": True, "timeout": True, "all": False, "all-namespaces": False, "filename": True,
    "selector": True, "output": True,
}  # fmt: skip
_DELETE = {
    "wait": False, "ignore-not-found": False, "grace-period": True, "now": False, "force": False,
    "all": False, "cascade": True, "timeout": True, "filename": True, "selector": True,
    "output": True,
}  # fmt: skip
_GET = {
    "output": True, "all-namespaces": False, "filename": True, "selector": True,
    "field-selector": True, "ignore-not-found": False, "show-labels": False, "watch": False,
}  # fmt: skip
_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
_SHORT = {
    "n": "namespace", "c": "container", "i": "stdin", "t": "tty", "q": "quiet", "f": "filename",
    "T": "no-tty", "I": "no-stdin", "o": "output", "l": "selector", "A": "all-namespaces",
}  # fmt: skip


def fail(said: str) -> NoReturn:
    """End as both end on an error."""
    print(f"error: {said}", file=sys.stderr)
    sys.exit(1)


@dataclass
class Said:
    """A command line: its words, its options, and what comes behind --."""

    words: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)

    def only(self, *names: str) -> None:
        """Fail for an option that is documented, and that this stand-in does not imitate."""
        for name in self.options:
            if name not in names and name not in ("kubeconfig", "context"):
                fail(f"the lab's stand-in does not do --{name}")


def parse(verb: str, argv: Sequence[str], known: Mapping[str, bool]) -> Said:
    """As pflag reads it: --name=value, --name value, -n value, flags in any place before --."""
    said, todo = Said(), list(argv)
    options = {**_GLOBAL, **known}
    while todo:
        word = todo.pop(0)
        if word == "--":
            said.command = todo
            return said
        if not word.startswith("-") or word == "-":
            said.words.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--"):
            name, rest = _SHORT.get(name[:1], name), name[1:]
            equals, value = ("=", rest) if rest and not equals else (equals, value)
        if name not in options:
            kind = "flag" if word.startswith("--") else "shorthand flag"
            fail(f"unknown {kind}: {word}\nSee '{verb} --help' for usage.")
        if options[name] and not equals:
            if not todo:
                fail(f"flag needs an argument: {word}")
            value = todo.pop(0)
        said.options[name] = value if options[name] or equals else "true"
    return said


# ---- debug ---------------------------------------------------------------------------------------


def node_of(said: Said, hosts: Hosts) -> str:
    """The node that the words name. Fails as an API does for one that it does not know."""
    if len(said.words) != 1 or not said.words[0].startswith(("node/", "nodes/")):
        fail("the lab's stand-in debugs node/NAME only")
    node = said.words[0].partition("/")[2]
    if node not in hosts:
        print(f'Error from server (NotFound): nodes "{node}" not found', file=sys.stderr)
        sys.exit(1)
    if not said.options.get("image") or not said.command:
        fail("the lab's stand-in wants --image, and a command behind --")
    return node


def oc_debug(argv: Sequence[str], hosts: Hosts) -> int:
    """Make the pod, follow its log until it ends, and remove it."""
    said = parse("oc debug", argv, _OC_DEBUG)
    said.only("image", "to-namespace")
    node = node_of(said, hosts)
    own = said.options.get("to-namespace", "")
    namespace = own or f"openshift-debug-{debug_pods.random_suffix()}"
    if not own:
        tell(f"Temporary namespace {namespace} is created for debugging node...")
    name = f"{node}-debug-{debug_pods.random_suffix()}"
    tell(f"Starting pod/{name} ...")
    tell(
        "To use host binaries, run `chroot /host`. Instead, if you need to access host namespaces,"
        " run `nsenter -a -t 1`."
    )
    made: list[DebugPod] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: interrupted(hosts, made))
    spec = debug_pods.oc_spec(node, said.options["image"], said.command)
    while not made:
        try:
            made.append(debug_pods.create(hosts, name, namespace, spec))
        except debug_pods.NoImage as error:
            tell(f"warning: Container container-00 is unable to start due to an error: {error}")
            time.sleep(10)  # as the kubelet backs off; oc waits 15 min
    code = follow(hosts, made[0])
    tell("\nRemoving debug pod ...")
    debug_pods.delete(hosts, made[0])
    if not own:
        tell(f"Temporary namespace {namespace} was removed.")
    if code:
        fail("non-zero exit code from debug container")
    return 0


def tell(text: str) -> None:
    """Say something that is not the pod's."""
    print(text, file=sys.stderr, flush=True)


def interrupted(hosts: Hosts, made: Sequence[DebugPod]) -> NoReturn:
    """Remove the pod, and leave a temporary namespace, as oc does."""
    tell("\nRemoving debug pod ...")
    for pod in made:
        debug_pods.delete(hosts, pod)
    os._exit(1)


def follow(hosts: Hosts, pod: DebugPod) -> int:
    """Print a pod's log until its container ends; its exit code."""
    host = hosts[pod.node]
    subprocess.run(host.enter_command(["crictl", "logs", "-f", pod.id]), check=False)
    while (code := debug_pods.exit_code(hosts, pod)) is None:
        time.sleep(0.1)
    return code


def kubectl_debug(argv: Sequence[str], hosts: Hosts) -> int:
    """Make the pod, and say so."""
    said = parse("kubectl debug", argv, _KUBECTL_DEBUG)
    said.only("image", "profile", "image-pull-policy", "namespace")
    node = node_of(said, hosts)
    if said.options.get("profile") != "sysadmin":
        fail("the lab's stand-in knows --profile=sysadmin")
    if said.options.get("image-pull-policy", "") not in ("", "Always", "IfNotPresent", "Never"):
        fail(f"invalid image pull policy: {said.options['image-pull-policy']}")
    name = f"node-debugger-{node}-{debug_pods.random_suffix()}"
    print(f"Creating debugging pod {name} with container debugger on node {node}.", flush=True)
    spec = debug_pods.kubectl_spec(node, said.options["image"], said.command)
    try:
        debug_pods.create(hosts, name, said.options.get("namespace", "default"), spec)
    except debug_pods.NoImage as error:
        fail(str(error))
    return 0


# ---- the rest ------------------------------------------------------------------------------------


def pod_of(said: Said, word: str) -> DebugPod:
    """The pod of a name. Fails as an API does for one that it does not know."""
    name = word.removeprefix("pod/").removeprefix("pods/")
    found = debug_pods.find(said.options.get("namespace", "default"), name)
    if found is None:
        print(f'Error from server (NotFound): pods "{name}" not found', file=sys.stderr)
        sys.exit(1)
    return found


def exec_in(argv: Sequence[str], hosts: Hosts) -> int:
    """Run a command in a pod: stdin, stdout and stderr are its own."""
    said = parse("exec", argv, _EXEC)
    said.only("container", "stdin", "namespace", "quiet")
    if len(said.words) != 1 or not said.command:
        fail("exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead")
    pod = pod_of(said, said.words[0])
    if said.options.get("container", pod.container) != pod.container:
        fail(f"container {said.options['container']} not found in pod {pod.name}")
    if debug_pods.exit_code(hosts, pod) is not None:
        fail(f"cannot exec into a container in a completed pod; current phase of {pod.name}")
    stdin = None if "stdin" in said.options else subprocess.DEVNULL
    ctr = ["ctr", "-n", "k8s.io", "tasks", "exec", "--exec-id", debug_pods.random_suffix() * 3]
    words = hosts[pod.node].enter_command([*ctr, pod.id, *said.command])
    # A runtime closes a process's stdin when its client is gone; ctr does while it lives itself.
    with subprocess.Popen(
        words, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        pumps = [
            threading.Thread(target=_pump, args=(source.fileno(), target))
            for source, target in ((running.stdout, 1), (running.stderr, 2))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
    return running.returncode


def _pump(source: int, target: int) -> None:
    """Hand on all that comes; what nobody reads any more is dropped."""
    is_read = True
    while data := os.read(source, 1 << 16):
        while is_read and data:
            try:
                data = data[os.write(target, data) :]
            except OSError:
                is_read = False


def wait(argv: Sequence[str], hosts: Hosts) -> int:
    """A pod without a readiness probe is ready once its container runs, and it was started."""
    said = parse("wait", argv, _WAIT)
    said.only("for", "timeout", "namespace")
    ready, ended = "condition=Ready", "jsonpath={.status.phase}=Succeeded"
    if said.options.get("for") not in (ready, ended) or len(said.words) != 1:
        fail(f"the lab's stand-in waits for {ready} or {ended} of one pod")
    pod = pod_of(said, said.words[0])
    deadline = time.monotonic() + float(said.options.get("timeout", "30s").removesuffix("s"))
    while said.options["for"] == ended and debug_pods.exit_code(hosts, pod) != 0:
        if time.monotonic() > deadline:
            fail(f"timed out waiting for the condition on pods/{pod.name}")
        time.sleep(0.1)
    print(f"pod/{pod.name} condition met")
    return 0


def get(argv: Sequence[str], hosts: Hosts) -> int:
    """The status of a node's condition Ready."""
    said = parse("get", argv, _GET)
    said.only("output", "request-timeout")
    if said.options.get("output") != _READY or len(said.words) != 2 or said.words[0] != "node":
        fail("the lab's stand-in gets the condition Ready of one node")
    if said.words[1] not in hosts:
        tell(f'Error from server (NotFound): nodes "{said.words[1]}" not found')
        return 1
    print("True" if hosts[said.words[1]].is_up else "Unknown", end="")
    return 0


def delete(argv: Sequence[str], hosts: Hosts) -> int:
    """Remove a pod."""
    said = parse("delete", argv, _DELETE)
    said.only("wait", "ignore-not-found", "namespace")
    if len(said.words) != 2 or said.words[0] not in ("pod", "pods", "namespace"):
        fail("the lab's stand-in deletes pod NAME, and namespace NAME")
    if said.words[0] == "namespace":
        for each in debug_pods.pods_on():
            if each.namespace == said.words[1]:
                debug_pods.delete(hosts, each)
        return 0
    name = said.words[1]
    found = debug_pods.find(said.options.get("namespace", "default"), name)
    if found is None and said.options.get("ignore-not-found") == "true":
        return 0
    debug_pods.delete(hosts, pod_of(said, name))
    print(f'pod "{name}" deleted')
    return 0


def main(tool: str, argv: Sequence[str]) -> int:
    """Run one command."""
    verbs = {
        "debug": oc_debug if tool == "oc" else kubectl_debug,
        "exec": exec_in,
        "wait": wait,
        "delete": delete,
        "get": get,
    }
    before = []
    todo = list(argv)
    while todo and todo[0].startswith("--"):
        before.append(todo.pop(0))
    if not todo or todo[0] not in verbs:
        fail(f'unknown command "{todo[0] if todo else ""}" for "{tool}"')
    return verbs[todo[0]]([*before, *todo[1:]], debug_pods.hosts_of_lab())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
