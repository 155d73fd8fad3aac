"""The snapshot timer, put on hosts or taken off: on all at once, as none depends on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.model.codec import to_plain
from agent.model.plan import Plan, Promise
from agent.model.schedule import Schedule
from agent.recipes.builder import PlanBuilder
from agent.recipes.cluster import Cluster


def timer_args(schedule: Schedule) -> dict[str, Any]:
    """A schedule as the arguments of install_timer."""
    plain: dict[str, Any] = to_plain(schedule)
    limits = plain.pop("limits")
    return {**plain, **limits}


def install_timer(
    cluster: Cluster, hosts: Sequence[str], schedule: Schedule, created: float
) -> Plan:
    """Plan to put the timer on these hosts. Nothing is promised of the cluster: none is touched."""
    builder = PlanBuilder("install-timer", f"snapshots, {schedule.calendar}", cluster.addresses)
    reason = f"a verified snapshot {schedule.calendar}, the newest {schedule.limits.keep} kept"
    builder.stage("Put the snapshot timer in place", [
        builder.step(host, "install_timer", reason, **timer_args(schedule)) for host in hosts
    ], parallel=True)  # fmt: skip
    return builder.build(created, Promise(()))


def remove_timer(cluster: Cluster, hosts: Sequence[str], created: float) -> Plan:
    """Plan to take the timer off these hosts."""
    builder = PlanBuilder("remove-timer", "no more scheduled snapshots", cluster.addresses)
    builder.stage("Take the snapshot timer away", [
        builder.step(host, "remove_timer", "snapshots that were taken stay") for host in hosts
    ], parallel=True)  # fmt: skip
    return builder.build(created, Promise(()))
