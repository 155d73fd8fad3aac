"""Builds plans: numbers the steps, and gives each the words of the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.model.catalog import CATALOG
from agent.model.codec import to_plain
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step


class PlanBuilder:
    """Collects stages in order; `build` gives the plan with its ID."""

    def __init__(self, recipe: str, summary: str, hosts: Mapping[str, str]) -> None:
        self._recipe, self._summary, self._hosts = recipe, summary, dict(hosts)
        self._stages: list[Stage] = []
        self._count = 0

    def stage(
        self,
        title: str,
        steps: Sequence[Step],
        waits_for: Sequence[str] = (),
        parallel: bool = False,
    ) -> None:
        """Add a stage; one without steps is left out."""
        if steps:
            self._stages.append(Stage(title, tuple(steps), tuple(waits_for), parallel))

    def step(self, host: str, action: str, reason: str, /, **args: Any) -> Step:
        """Make the next step of the plan."""
        self._count += 1
        spec = CATALOG[action]
        return Step(
            id=f"{self._count:02d}",
            host=host,
            action=action,
            args=to_plain(args),
            reason=reason,
            precondition=spec.precondition,
            undo=spec.undo,
            final=spec.final,
        )

    def turning_point(self, host: str, action: str, reason: str, /, **args: Any) -> Step:
        """Make the next step, and declare it the plan's point of no return."""
        return replace(self.step(host, action, reason, **args), final=True)

    def build(
        self,
        created: float,
        promise: Promise,
        losses: Sequence[str] = (),
        declared_lost: Sequence[str] = (),
    ) -> Plan:
        """Give the plan. created: seconds since the epoch; it makes two runs two plans."""
        return Plan(
            format=FORMAT,
            recipe=self._recipe,
            summary=self._summary,
            created=created,
            hosts=self._hosts,
            stages=tuple(self._stages),
            promise=promise,
            losses=tuple(losses),
            declared_lost=tuple(sorted(declared_lost)),
        ).with_id()
