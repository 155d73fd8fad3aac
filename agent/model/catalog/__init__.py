"""Every action a step can name, in words: what it does, needs, and how it is taken back.

Recipes (pure) write these words into plans, actions (effects) implement them; a test holds the two
together. One file per kind of action, each a tuple SPECS.
"""

from __future__ import annotations

from agent.model.catalog import etcd, openshift4, openshift4_machine, openshift311, timer
from agent.model.catalog.spec import ActionSpec

__all__ = ["CATALOG", "ActionSpec"]

CATALOG: dict[str, ActionSpec] = {
    spec.name: spec
    for spec in (
        *etcd.SPECS,
        *openshift311.SPECS,
        *openshift4.SPECS,
        *openshift4_machine.SPECS,
        *timer.SPECS,
    )
}
"""Name → spec of every action."""
