"""What the tasks of the fabfile do: look, diagnose, plan, confirm, apply, verify, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.errors import Locked, Refused, RescueError, Unreachable, UsageError
from agent.model.facts import Observation
from agent.model.plan import Plan, plan_from_plain
from agent.model.verdict import Diagnosis, MemberState, Refusal
from agent.recipes.cluster import Cluster
from agent.recipes.invariants import require_sound
from agent.recipes.replace_member import remove_member, replace_member
from agent.recipes.reseed import reseed
from agent.recipes.restart_member import restart_member
from coordinator import report
from coordinator.agent_file import build_agent
from coordinator.console import Progress, ask_consent, confirm
from coordinator.fleet import Fleet
from coordinator.inventory import gather
from coordinator.sequencer import Sequencer
from coordinator.verify import verify


@dataclass(frozen=True)
class Options:
    """What the operator said: hosts, consent, and how to answer."""

    hosts: tuple[str, ...] = ()
    cluster: str = ""
    lost: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    dry_run: bool = False
    yes: bool = False
    output: str = "table"
    in_manifest: bool = False
    ssh_config: str = ""
    sudo_password: str = ""


@dataclass(frozen=True)
class Looked:
    """A fleet that was surveyed, and the verdict on it."""

    fleet: Fleet
    observations: tuple[Observation, ...]
    diagnosis: Diagnosis
    progress: Progress

    @property
    def cluster(self) -> Cluster:
        """Diagnosis and observations as the recipes take them."""
        return Cluster(self.diagnosis, self.observations)


@contextmanager
def looking(options: Options, host: str = "", blind: bool = False) -> Iterator[Looked]:
    """Connect to all hosts, survey and diagnose them; connections are closed at the end.

    Raises why, where not one host could be surveyed; with `blind`, only after the body.
    """
    if options.output not in report.FORMATS:
        raise UsageError(
            f"no output format {options.output!r}", f"known: {', '.join(report.FORMATS)}"
        )
    progress = Progress()
    inventory = gather(options.cluster, options.hosts, host, options.ssh_config)
    access = replace(inventory.access, sudo_password=options.sudo_password)
    fleet = Fleet(inventory.hosts, build_agent(), access, inventory.complete)
    try:
        observations = fleet.observe()
        surveyed = sum(o.survey is not None for o in observations)
        progress.say(f"surveyed {surveyed} of {len(observations)} hosts")
        if not surveyed and not blind:
            raise _nothing_seen(fleet)
        yield Looked(fleet, observations, diagnose(observations, options.lost), progress)
        if not surveyed:
            raise _nothing_seen(fleet)
    finally:
        fleet.close()


def _nothing_seen(fleet: Fleet) -> RescueError:
    """Why no host could be surveyed: the error of the only one, else all of them in one."""
    errors = list(fleet.errors.values())
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(error.seen for error in errors)
    kind = Refused if all(isinstance(error, Refused) for error in errors) else Unreachable
    return kind(
        f"none of {len(errors)} hosts could be surveyed: {told}",
        errors[0].why,
        errors[0].next,
    )


def _why_not(diagnosis: Diagnosis, recipe: str) -> Refusal:
    """Why `recipe` is refused; a diagnosis without a word about it says what the state is."""
    told = [r for r in diagnosis.refusals if r.recipe == recipe] or list(diagnosis.refusals)
    seen = f"the cluster is {diagnosis.state.value}: {diagnosis.why}"
    return told[0] if told else Refusal(recipe, seen, "this is no case for it", "fab diagnose")


def _refused(refusal: Refusal) -> Refused:
    return Refused(refusal.seen, refusal.why, refusal.next)


# ---- looking -------------------------------------------------------------------------------------


def task_survey(options: Options) -> None:
    """Show what is on every host."""
    with looking(options, blind=True) as looked:
        report.emit(looked.observations, options.output, report.survey_table)


def task_diagnose(options: Options) -> None:
    """Show the state of every member and of the cluster, and what fits."""
    with looking(options, blind=True) as looked:
        report.emit(looked.diagnosis, options.output, report.diagnosis_table)


def task_plan(options: Options, host: str = "") -> None:
    """Show the plan that a rescue would carry out, and change nothing."""
    with looking(options, host) as looked:
        plan = choose_plan(looked, options, host)
        if plan is None:
            looked.progress.say(f"nothing to do: {looked.diagnosis.why}")
            return
        report.emit(plan, options.output, report.plan_table)


def task_journal(options: Options, plan_id: str = "") -> None:
    """List the plans in all hosts' journals, or show the records of one."""
    with looking(options) as looked:
        reached = [o.host for o in looked.observations if o.survey]
        rows: list[dict[str, Any]] = []
        for host in reached:
            args = {"plan": plan_id} if plan_id else {}
            try:
                rows += [{"host": host, **r} for r in looked.fleet.call(host, "journal", args)]
            except UsageError:
                continue  # this host took no part in that plan
        if plan_id and not rows:
            raise UsageError(f"no host knows a plan {plan_id!r}", next="fab journal")
        rows.sort(key=lambda row: float(row["time" if plan_id else "updated"]))
        report.emit(
            rows, options.output, report.records_table if plan_id else report.journals_table
        )


# ---- choosing ------------------------------------------------------------------------------------


def choose_plan(looked: Looked, options: Options, host: str = "") -> Plan | None:
    """Give the plan for this host, or for the cluster; None where nothing is to be done.

    Raises Refused with what was seen, why that forbids it, and the next command.
    """
    _refuse_open_plans(looked)
    return _plan_host(looked, options, host) if host else _plan_cluster(looked, options)


def _refuse_open_plans(looked: Looked) -> None:
    for observation in looked.observations:
        for facts in observation.survey.journals if observation.survey else ():
            if facts.state == "open":
                raise Locked(
                    f"{observation.host}: plan {facts.plan[:12]} ({facts.recipe}) is not finished",
                    "a second plan on top of a half-done one could undo what the first needs",
                    f"fab resume   (or: fab rollback {facts.plan[:12]})",
                )
            if facts.state == "damaged":
                raise Refused(facts.problem, next=f"on {observation.host}: rescue-agent survey")


def _plan_host(looked: Looked, options: Options, host: str) -> Plan | None:
    recipe, target, refusal = diagnose_host(looked.diagnosis, host, options.lost)
    if refusal is not None:
        raise _refused(refusal)
    if not recipe:
        return None
    return _make(looked, options, recipe, target)


def _plan_cluster(looked: Looked, options: Options) -> Plan | None:
    diagnosis = looked.diagnosis
    if diagnosis.recipe:
        return _make(looked, options, diagnosis.recipe, diagnosis.target)
    if diagnosis.state.value == "healthy" or not diagnosis.refusals:
        return None
    raise _refused(diagnosis.refusals[0])


def _make(looked: Looked, options: Options, recipe: str, target: str) -> Plan:
    now = time.time()
    if recipe == "replace-member":
        return replace_member(looked.cluster, target, now)
    if recipe == "restart-member":
        return restart_member(looked.cluster, target, now)
    lost = [*options.lost, *_newly_lost(looked.diagnosis, options)]
    diagnosis = diagnose(looked.observations, lost)
    if recipe == "reseed" and diagnosis.recipe != recipe:
        raise _refused(_why_not(diagnosis, recipe))
    cluster = Cluster(diagnosis, looked.observations)
    if recipe == "remove-member":
        return remove_member(cluster, target, now)
    return reseed(cluster, now, lost, options.in_manifest)


def _newly_lost(diagnosis: Diagnosis, options: Options) -> list[str]:
    """Ask for every consent that was not given yet; the names of absent hosts given with it.

    A host that can be reached is fenced, never declared lost: for its data, which may be ahead, the
    operator's typed name is consent and nothing more.
    """
    needed = tuple((name, why) for name, why in diagnosis.consent if name not in options.accept)
    gone = (MemberState.UNREACHABLE, MemberState.GHOST)
    states = {m.host: m.state for m in diagnosis.members}
    absent = [name for name, _why in needed if states.get(name) in gone]
    if needed:
        ask_consent(needed, absent)
    return absent


# ---- doing ---------------------------------------------------------------------------------------


def task_rescue_node(options: Options, host: str) -> None:
    """Bring one node's etcd member back to health by whatever way is right, or refuse."""
    with looking(options, host) as looked:
        plan = choose_plan(looked, options, host)
        if plan is None:
            looked.progress.say(f"nothing to do on {host}: {looked.diagnosis.why}")
            return
        carry_out(looked, plan, options)


def task_rescue_quorum(options: Options) -> None:
    """Bring a cluster without quorum back from its best survivor, and rejoin the others."""
    with looking(options) as looked:
        _refuse_open_plans(looked)
        diagnosis = looked.diagnosis
        if diagnosis.recipe not in ("reseed", "restart-member") or diagnosis.serving:
            raise _refused(_why_not(diagnosis, "reseed"))
        plan = _make(looked, options, diagnosis.recipe, diagnosis.target)
        carry_out(looked, plan, options)


def task_remove_member(options: Options, name: str) -> None:
    """Remove a member whose host is gone for good; the cluster stays smaller."""
    declared = replace(options, lost=(*options.lost, name))
    with looking(options) as looked:
        _refuse_open_plans(looked)
        recipe, target, refusal = diagnose_host(looked.diagnosis, name, declared.lost)
        if refusal is not None:
            raise _refused(refusal)
        if recipe != "remove-member":
            raise Refused(
                f"{name}: {recipe or 'nothing'} is what fits",
                "only a member whose host is gone for good is removed without a replacement",
                f"fab rescue-node {name}",
            )
        carry_out(looked, remove_member(looked.cluster, target, time.time()), options)


def carry_out(looked: Looked, plan: Plan, options: Options) -> None:
    """Show, confirm, run and verify a plan. Raises what stops it."""
    require_sound(plan, looked.cluster)
    if options.dry_run:
        report.emit(plan, options.output, report.plan_table)
        return
    if options.output == "table" and not options.yes:
        report.plan_table(plan)
    confirm(plan, options.yes)
    sequencer = Sequencer(looked.fleet, plan, looked.progress)
    sequencer.begin()
    _run(looked.fleet, sequencer, plan, looked.progress, options)


def _run(
    fleet: Fleet, sequencer: Sequencer, plan: Plan, progress: Progress, options: Options
) -> None:
    try:
        done = sequencer.run()
    except RescueError as error:
        is_closed = False
        with suppress(RescueError):  # a host that is gone now: the plan stays open
            is_closed = sequencer.give_up()
        if is_closed:
            progress.say("nothing was changed; the plan is closed")
        else:
            error.next = error.next or f"fab resume {plan.short_id}"
        raise
    outcome = verify(fleet, plan, done, progress)
    report.emit(outcome, options.output, report.outcome_table)
    sequencer.finish()


def task_resume(options: Options, plan_id: str = "", drop: Sequence[str] = ()) -> None:
    """Go on with an unfinished plan: the hosts are looked at again, then what is left is done."""
    with looking(options) as looked:
        plan = _stored_plan(looked, plan_id)
        if plan is None:
            looked.progress.say(f"no unfinished plan; cluster {looked.diagnosis.state.value}")
            return
        looked.fleet.add(plan.hosts)
        looked.progress.say(f"resuming plan {plan.short_id} ({plan.recipe})")
        if options.dry_run:
            report.emit(plan, options.output, report.plan_table)
            return
        sequencer = Sequencer(looked.fleet, plan, looked.progress)
        sequencer.begin(given_up=drop)
        for host in drop:
            sequencer.skip_host(host, "given up by the operator")
        _run(looked.fleet, sequencer, plan, looked.progress, options)


def task_rollback(options: Options, plan_id: str = "") -> None:
    """Take an unfinished plan back, up to the point of no return."""
    with looking(options) as looked:
        plan = _stored_plan(looked, plan_id)
        if plan is None:
            raise UsageError("no unfinished plan on these hosts", next="fab journal")
        looked.fleet.add(plan.hosts)
        confirm(plan, options.yes)
        sequencer = Sequencer(looked.fleet, plan, looked.progress)
        sequencer.begin()
        undone = sequencer.rollback()
        looked.progress.say(f"plan {plan.short_id} rolled back: {len(undone)} steps undone")


def _stored_plan(looked: Looked, plan_id: str) -> Plan | None:
    """Give the open plan of that ID, or the only open one; None where there is none."""
    found: dict[str, str] = {}
    for observation in looked.observations:
        for facts in observation.survey.journals if observation.survey else ():
            if facts.state == "damaged":
                raise Refused(facts.problem, next=f"on {observation.host}: rescue-agent survey")
            if facts.state == "open" and facts.plan.startswith(plan_id):
                found[facts.plan] = observation.host
    if not found:
        return None
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} unfinished plans: {', '.join(p[:12] for p in found)}",
            "which one is meant is not clear",
            "fab resume PLAN",
        )
    ((full_id, host),) = found.items()
    return plan_from_plain(looked.fleet.call(host, "plan", {"plan": full_id}))
