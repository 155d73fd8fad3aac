"""The API as a step asks it: who asks, which step it is for what is said, and bounded waits."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from agent.actions.base import Context, wait_for
from agent.errors import Paused, Timeout
from agent.kube.access import node_access
from agent.kube.client import Kube, Patience
from agent.platforms.openshift4 import LOCAL_KUBECONFIG

_FOLDER = posixpath.dirname(LOCAL_KUBECONFIG)
NODE_KUBECONFIGS = tuple(
    f"{_FOLDER}/{name}.kubeconfig" for name in ("localhost", "lb-int", "lb-ext")
)
"""Of cluster-kube-apiserver-operator: this node's API server, then the load balancers of all."""

GIVEN = "kubeconfig"
"""Name of the secret that is the text of the operator's own kubeconfig."""

CLUSTER = "cluster"
"""The name of the one object of a kind that a cluster has one of."""

PATIENCE = Patience()

INTERVAL = 1.0
"""Seconds between two looks at the API: each is a process of its own."""


@contextmanager
def asking(ctx: Context, name: str) -> Iterator[Kube]:
    """The API for one step; name: of its action, for what is said where the API will not."""
    with node_access(ctx.host, NODE_KUBECONFIGS, ctx.secrets.get(GIVEN, "")) as access:
        told = ctx.api_patience
        patience = PATIENCE if told is None else replace(PATIENCE, whole=told)
        yield Kube(ctx.host, access, ctx.say, f"step {ctx.step} ({name}): ", patience)


def wait_or_pause(
    ctx: Context, what: str, probe: Callable[[], tuple[bool, str]], deadline: float, why: str
) -> str:
    """Wait as `wait_for` does; at the deadline the plan is paused, and `resume` waits on.

    why: what may be in the way. Raises Paused.
    """
    try:
        return wait_for(ctx.say, what, probe, deadline, INTERVAL)
    except Timeout as error:
        raise Paused(error.seen, why, "fab resume   (it waits on, and repeats nothing)") from None
