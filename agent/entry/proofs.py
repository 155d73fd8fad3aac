"""What is proved of a plan, on which host: by this host's journal, and by those carried here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from agent.entry.stick import Stick
from agent.errors import Refused, UsageError
from agent.model.catalog import CATALOG
from agent.model.facts import Observation
from agent.model.plan import Plan, Step
from agent.recipes.parts import name_in
from agent.records.carried import Carried
from agent.records.journal import History, Journal


@dataclass(frozen=True)
class Proofs:
    """Journals of one plan. name: this host in the plan. own: its journal, None before it began.

    others: the plan's name of a host → its journal, of those that were carried here.
    """

    plan: Plan
    name: str
    own: Optional[Journal]
    others: dict[str, History]
    seen: tuple[str, ...]

    def done(self) -> set[str]:
        """IDs of steps proved done; each host's journal proves its own host's steps alone."""
        return {s for name, history in self._all() for s in self._of(name, history.done_steps())}

    def touched(self, name: str) -> list[str]:
        """IDs of steps with effects that were begun on a host and stand, in the plan's order."""
        history = dict(self._all()).get(name)
        found = history.touched_steps() if history else []
        return [s.id for s in self.plan.steps() if s.id in self._of(name, found)]

    def begun_elsewhere(self) -> list[str]:
        """Other hosts on which steps with effects were begun, and stand."""
        return [name for name in self.others if self.touched(name)]

    def is_turned(self) -> bool:
        """Whether the point of no return is behind the plan, or may be."""
        begun = {
            step_id
            for name, history in self._all()
            for step_id in self._of(name, [*history.done_steps(), *history.begun_steps()])
        }
        return any(step.final and step.id in begun for step in self.plan.steps())

    def _all(self) -> list[tuple[str, History]]:
        own: list[tuple[str, History]] = [(self.name, self.own)] if self.own else []
        return [*own, *self.others.items()]

    def _of(self, name: str, ids: Sequence[str]) -> list[str]:
        mine = {step.id for step in self.plan.steps() if step.host == name}
        return [i for i in ids if i in mine]

    def rolled_back(self) -> str:
        """Another host on which this plan was taken back, while it goes on elsewhere; or empty."""
        return next((n for n, h in self.others.items() if h.state == "rolled-back"), "")

    def closed(self) -> list[str]:
        """Other hosts that have closed the plan as complete."""
        return [name for name, history in self.others.items() if history.state == "complete"]

    def hosts(self) -> list[str]:
        """Hosts with steps, in the order of the plan."""
        return list(dict.fromkeys(step.host for step in self.plan.steps()))


def gather(plan: Plan, name: str, own: Optional[Journal], stick: Stick) -> Proofs:
    """Collect the journals of a plan. Raises Refused where a file here is ahead of the journal."""
    if stick.own is not None:
        _require_not_behind(plan, own, stick.own)
    others, seen = {}, []
    for file in stick.others:
        its_name = name_in(plan, file.survey.hostname, file.survey.addresses)
        seen.append(its_name or file.host)
        history = file.history(plan.id)
        if history is not None and its_name and its_name != name:
            others[its_name] = history
    return Proofs(plan, name, own, others, tuple(seen))


def _require_not_behind(plan: Plan, own: Optional[Journal], left: Carried) -> None:
    """The file that left this host must be the beginning of what its journal says now."""
    before = left.history(plan.id)
    if before is None:
        return
    now = own.records if own else []
    if now[: len(before.records)] != before.records:
        raise Refused(
            f"{left.where} knows more of plan {plan.short_id} than the journal here",
            "this disk is older than what it has done: a copy, or a restored one",
            "rescue-agent diagnose   (then make a new plan)",
        )


def this_host(plan: Plan, hostname: str, addresses: Sequence[str], asked: str) -> str:
    """What the plan calls this host; asked: what the operator says. Raises Refused, UsageError.

    A word that the host's own addresses speak against is not taken: every console looks alike.
    """
    found, known = name_in(plan, hostname, addresses), ", ".join(plan.hosts)
    if not asked:
        if found:
            return found
        raise UsageError(
            f"plan {plan.short_id} does not know {hostname} ({', '.join(addresses)})",
            f"its hosts: {known}",
            "if this is one of them: --host NAME",
        )
    if asked not in plan.hosts:
        raise UsageError(f"plan {plan.short_id} knows no host {asked}", f"its hosts: {known}")
    if found == asked or (not found and not _is_ip(plan.hosts[asked])):
        return asked
    raise Refused(
        f"{hostname} is not {asked}: the plan has {plan.hosts[asked]} for it, and the "
        f"addresses here are {', '.join(addresses)}",
        "the steps of one host, done on another, destroy what the rescue stands on",
        f"go to the console of {asked}" + (f"; this one is {found}" if found else ""),
    )


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def as_named(plan: Plan, observations: Sequence[Observation]) -> tuple[Observation, ...]:
    """The same observations, under the names and addresses that the plan has for these hosts."""
    found = []
    for seen in observations:
        survey = seen.survey
        name = name_in(plan, survey.hostname, survey.addresses) if survey else seen.host
        if survey is None and seen.host not in plan.hosts:
            name = next((n for n, a in plan.hosts.items() if a and a == seen.address), seen.host)
        address = plan.hosts.get(name, "") or seen.address
        found.append(replace(seen, host=name or seen.host, address=address))
    return tuple(found)


def require_known(plan: Plan, hosts: Sequence[str]) -> None:
    """Raise UsageError where the plan has nothing to do with a host that is to be given up."""
    for host in hosts:
        if host not in plan.hosts:
            raise UsageError(
                f"plan {plan.short_id} has nothing to do on {host}",
                f"its hosts: {', '.join(plan.hosts)}",
            )


def require_put_off(proofs: Proofs, hosts: Sequence[str]) -> None:
    """Raise Refused where what is to be put off was begun, UsageError where nothing waits for it.

    A stage is put off as a whole, before its first step, or not at all.
    """
    for host in hosts:
        stages = [s for s in proofs.plan.stages if host in s.waits_for]
        if not stages:
            raise UsageError(
                f"no stage of plan {proofs.plan.short_id} waits for {host}",
                "only what waits for a host can be put off with it",
            )
        begun = {i for name in proofs.hosts() for i in proofs.touched(name)}
        for stage in stages:
            step = next((s for s in stage.steps if s.id in begun and _acts(s)), None)
            left = any(s.id not in proofs.done() for s in stage.steps)
            if step is not None and left:
                raise Refused(
                    f"step {step.id} ({step.action} on {step.host}) of `{stage.title}` was begun",
                    "half of a stage is not put off: what comes after stands on all or none of it",
                    f"finish it: rescue-agent resume {proofs.plan.short_id}",
                )


def _acts(step: Step) -> bool:
    return CATALOG[step.action].effects
