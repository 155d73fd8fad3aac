"""Takes from one host to another what neither a plan nor a journal may hold: the key of a CA.

It lives in this process's memory between the two calls, and on the way in two SSH connections whose
host keys were verified (connection.py opens no others).
"""

from __future__ import annotations

from typing import Any

from agent.errors import RescueError
from agent.model.plan import Plan, Step
from coordinator.fleet import Fleet


def brought_for(step: Step, plan: Plan, fleet: Fleet, token: int) -> dict[str, Any]:
    """What has to go with the request for a step: {"secrets": {…}}, or nothing.

    Raises what the lending host says.
    """
    if step.action != "install_authority":
        return {}
    source = step.args.get("source", "")
    lends = [s for s in plan.steps() if s.host == source and s.action == "check_authority"]
    if not lends:
        raise RescueError(f"internal: plan {plan.short_id} does not say that {source} lends its CA")
    asked = {"plan": plan.id, "step": lends[0].id, "token": token}
    return {"secrets": fleet.call(source, "lend_ca", asked, 30)}
