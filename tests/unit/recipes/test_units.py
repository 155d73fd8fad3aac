"""Recipes on hosts whose etcd is run by systemd: the same steps, and no restart for an edit."""

from __future__ import annotations

from typing import Any

import pytest

from agent.diagnosis.cluster import diagnose
from agent.model.facts import Service
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import check_plan
from agent.recipes.replace_member import remove_member
from tests.unit.builders import NOW, Lab

LAB = Lab(3)
UNIT: dict[str, Any] = {
    "unit": Service("etcd.service", "active", enabled="enabled"), "runtime": None, "kubelet": None,
}  # fmt: skip


@pytest.mark.parametrize(("more", "edited"), [(UNIT, ["master-1", "master-2"]), ({}, [])])
def test_two_voters_are_left(more: dict[str, Any], edited: list[str]) -> None:
    """A manifest's edit would restart one of two; a unit's is only read at an empty start."""
    observations = (LAB.healthy(0, **more), LAB.healthy(1, **more), LAB.unreachable(2))
    cluster = Cluster(diagnose(observations), observations)
    plan = remove_member(cluster, "master-3", NOW)
    assert check_plan(plan, cluster) == ()
    assert [s.host for s in plan.steps() if s.action == "set_initial_cluster"] == edited
