"""Who speaks to the API: oc, or kubectl where there is none, with the node's kubeconfigs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import PreconditionFailed
from agent.host import STATE_DIR, Host
from agent.kube.client import Access

PROGRAMS = ("oc", "kubectl")


def find_program(host: Host) -> str:
    """The path of oc, or else of kubectl. Raises PreconditionFailed where there is neither."""
    found = next(filter(None, map(host.which, PROGRAMS)), "")
    if not found:
        raise PreconditionFailed(
            f"{host.hostname()} has neither oc nor kubectl",
            "the Kubernetes API is asked with the node's own client",
            f"put a static kubectl to /usr/local/bin on {host.hostname()}, then: fab resume",
        )
    return found


@contextmanager
def node_access(host: Host, own: tuple[str, ...], given: str = "") -> Iterator[Access]:
    """Access with the kubeconfigs of this node, or with the text of the operator's own one.

    own: paths where the platform keeps them, the node's own API server first. What is given lies in
    a file for root alone as long as it is needed. Raises PreconditionFailed where there is none.
    """
    program = find_program(host)
    if given:
        path = f"{STATE_DIR}/work/kubeconfig"
        host.makedirs(f"{STATE_DIR}/work")
        try:
            host.write_atomic(path, given.encode())
            yield Access(program, (path,))
        finally:
            host.discard(path)
        return
    there = tuple(path for path in own if host.exists(path))
    if not there:
        raise PreconditionFailed(
            f"{host.hostname()}: none of {', '.join(own)} is there",
            "without a kubeconfig the API lets nobody in",
            "give one of yours: fab … --kubeconfig FILE",
        )
    yield Access(program, there)
