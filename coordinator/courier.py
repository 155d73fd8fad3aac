"""Takes to a host what neither a plan nor a journal may hold: a key of a CA, a kubeconfig.

It lives in this process's memory between the two calls, and on the way in two SSH connections whose
host keys were verified (connection.py opens no others).
"""

from __future__ import annotations

from typing import Any

from agent.errors import RescueError
from agent.model.catalog.openshift4_machine import ON_THE_API
from agent.model.plan import Plan, Step
from coordinator.fleet import Fleet

_LENDS = {"install_authority": "check_authority", "install_ca_files": "check_ca_files"}
"""What puts in place what another host lends → the step by which that host does."""


def brought_for(step: Step, plan: Plan, fleet: Fleet, token: int) -> dict[str, Any]:
    """What has to go with the request for a step: {"secrets": {…}}, or nothing.

    With one that asks the Kubernetes API: how long, {"api_patience": seconds}. Raises what the
    lending host says.
    """
    if step.action in ON_THE_API:
        return _for_the_api(fleet)
    if step.action not in _LENDS:
        return {}
    source = step.args.get("source", "")
    lends = [s for s in plan.steps() if s.host == source and s.action == _LENDS[step.action]]
    if not lends:
        raise RescueError(f"internal: plan {plan.short_id} does not say that {source} lends its CA")
    asked = {"plan": plan.id, "step": lends[0].id, "token": token}
    return {"secrets": fleet.call(source, "lend_ca", asked, 30)}


def _for_the_api(fleet: Fleet) -> dict[str, Any]:
    brought: dict[str, Any] = {}
    if fleet.kubeconfig:
        brought["secrets"] = {"kubeconfig": fleet.kubeconfig}
    if fleet.api_patience:
        brought["api_patience"] = fleet.api_patience
    return brought
