"""Which plan fits: what the diagnosis advises and the operator consents to."""

from __future__ import annotations

import time

from agent.model.plan import Plan
from agent.recipes.choosing import consent_needed, offered, plan_of
from agent.recipes.choosing import why_not as why_not
from coordinator.console import ask_consent
from coordinator.tasks.common import Looked, Options
from coordinator.tasks.open_plans import refuse_open_plans as refuse_open_plans
from coordinator.tasks.open_plans import without_left_behind


def choose_plan(looked: Looked, options: Options, host: str = "") -> Plan | None:
    """Give the plan for this host, or for the cluster; None where nothing is to be done.

    Raises Refused with what was seen, why that forbids it, and the next command.
    """
    refuse_open_plans(looked)
    looked = without_left_behind(looked, options.lost)
    recipe, target = offered(looked.diagnosis, host, options.lost)
    return make_plan(looked, options, recipe, target) if recipe else None


def make_plan(looked: Looked, options: Options, recipe: str, target: str) -> Plan:
    """Give the plan of one recipe, with every consent it needs asked for."""
    needed, absent = consent_needed(looked.diagnosis, recipe, options.accept)
    if needed:
        ask_consent(needed, absent)
    lost = [*options.lost, *absent]
    return plan_of(looked.observations, recipe, target, time.time(), lost, options.in_manifest)
