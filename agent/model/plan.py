"""A plan: stages of steps, as a value that can be printed, saved, reviewed and carried."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Optional

from agent.errors import UsageError
from agent.model.codec import digest, from_plain, to_plain

FORMAT = 1
KUBERNETES_API = "kubernetes-api"
"""In `waits_for` of a stage, among the hosts: it needs the Kubernetes API, and can wait for it."""


@dataclass(frozen=True)
class Step:
    """One action on one host.

    id is unique in the plan ("07"). args are JSON values. precondition and undo are sentences for
    the reader; the action named holds both in code. final: the point of no return.
    """

    id: str
    host: str
    action: str
    args: dict[str, Any]
    reason: str
    precondition: str = ""
    undo: str = ""
    final: bool = False


@dataclass(frozen=True)
class Stage:
    """Steps in their order; where `parallel`, different hosts do theirs at the same time.

    waits_for: hosts without any of which this stage is put off, and the plan goes on with stages
    that do not need it; empty for a stage that must be done now. KUBERNETES_API among them: a step
    that finds the API silent (ApiUnavailable) puts the stage off, too.
    """

    title: str
    steps: tuple[Step, ...]
    waits_for: tuple[str, ...] = ()
    parallel: bool = False

    def without_api(self) -> tuple[str, ...]:
        """Who is put off where the API does not answer: it, and hosts that do their part here."""
        own = {step.host for step in self.steps}
        return tuple(name for name in self.waits_for if name == KUBERNETES_API or name in own)


@dataclass(frozen=True)
class Promise:
    """What must be true at the end. voters: host names; revision: at least this one is served."""

    voters: tuple[str, ...]
    cluster_id: str = ""
    revision: int = 0


@dataclass(frozen=True)
class Plan:
    """An ordered list of stages. hosts: name → address. id: hash of everything else."""

    format: int
    recipe: str
    summary: str
    created: float
    hosts: dict[str, str]
    stages: tuple[Stage, ...]
    promise: Promise
    losses: tuple[str, ...] = ()
    declared_lost: tuple[str, ...] = ()
    id: str = field(default="")

    def with_id(self) -> Plan:
        """The same plan carrying its ID: sha256 of its canonical JSON without the ID."""
        bare = replace(self, id="")
        return replace(bare, id=digest(bare))

    def steps(self) -> tuple[Step, ...]:
        """All steps in the order of the plan."""
        return tuple(step for stage in self.stages for step in stage.steps)

    def step(self, step_id: str) -> Optional[Step]:
        """The step of that ID, or None."""
        return next((s for s in self.steps() if s.id == step_id), None)

    @property
    def short_id(self) -> str:
        """The first 12 digits of the ID: what a person reads and types."""
        return self.id[:12]


def plan_from_plain(data: Any) -> Plan:
    """A plan read from JSON. Raises UsageError where it is malformed or was altered."""
    plan = from_plain(Plan, data, "plan")
    if plan.format != FORMAT:
        raise UsageError(f"plan format {plan.format}; this version reads format {FORMAT}")
    if plan.with_id().id != plan.id:
        raise UsageError(
            f"plan {plan.short_id or '(without ID)'} does not match its own hash",
            "its contents changed after it was made",
            "make a new one: fab plan",
        )
    return plan


def plan_to_plain(plan: Plan) -> dict[str, Any]:
    """The JSON shape of a plan."""
    plain: dict[str, Any] = to_plain(plan)
    return plain
