"""What a coordinator can ask of an agent about the Kubernetes API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.errors import UsageError
from agent.host import Host
from agent.model.codec import to_plain

Say = Callable[[str], None]
Args = dict[str, Any]


def look_at_machines(host: Host, args: Args, say: Say) -> Any:
    """Ask the API for machines, nodes and pods: {"kubeconfig": text, or none for the node's own}.

    Gives ApiFacts. Raises ApiUnavailable after 20 s of silence.
    """
    from agent.actions.openshift4.api import NODE_KUBECONFIGS
    from agent.kube.access import node_access
    from agent.kube.client import Kube, Patience
    from agent.kube.look import look_at_machines as look

    given = args.get("kubeconfig", "")
    if not isinstance(given, str):
        raise UsageError("argument 'kubeconfig' is not a text")
    with node_access(host, NODE_KUBECONFIGS, given) as access:
        return to_plain(look(Kube(host, access, say, patience=Patience(whole=20.0))))


API_REQUESTS: dict[str, Callable[[Host, Args, Say], Any]] = {
    f.__name__: f for f in (look_at_machines,)
}
"""Name → verb."""
