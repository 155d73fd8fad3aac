"""Which plan fits: what the diagnosis advises and the operator consents to."""

from __future__ import annotations

import time

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis, MemberState, Refusal
from agent.recipes.clear_alarm import clear_alarm
from agent.recipes.cluster import Cluster
from agent.recipes.renew_certificates import renew_certificates
from agent.recipes.replace_member import remove_member, replace_member
from agent.recipes.reseed import reseed
from agent.recipes.restart_member import restart_member
from coordinator.console import ask_consent
from coordinator.tasks.common import Looked, Options, refused
from coordinator.tasks.open_plans import refuse_open_plans as refuse_open_plans
from coordinator.tasks.open_plans import without_left_behind


def choose_plan(looked: Looked, options: Options, host: str = "") -> Plan | None:
    """Give the plan for this host, or for the cluster; None where nothing is to be done.

    Raises Refused with what was seen, why that forbids it, and the next command.
    """
    refuse_open_plans(looked)
    looked = without_left_behind(looked, options.lost)
    return _plan_host(looked, options, host) if host else _plan_cluster(looked, options)


def _plan_host(looked: Looked, options: Options, host: str) -> Plan | None:
    recipe, target, refusal = diagnose_host(looked.diagnosis, host, options.lost)
    if refusal is not None:
        raise refused(refusal)
    if not recipe:
        return None
    return make_plan(looked, options, recipe, target)


def _plan_cluster(looked: Looked, options: Options) -> Plan | None:
    diagnosis = looked.diagnosis
    if diagnosis.recipe:
        return make_plan(looked, options, diagnosis.recipe, diagnosis.target)
    if diagnosis.state.value == "healthy" or not diagnosis.refusals:
        return None
    raise refused(diagnosis.refusals[0])


def make_plan(looked: Looked, options: Options, recipe: str, target: str) -> Plan:
    """Give the plan of one recipe, with every consent it needs asked for."""
    now = time.time()
    if recipe == "replace-member":
        return replace_member(looked.cluster, target, now)
    if recipe == "restart-member":
        return restart_member(looked.cluster, target, now)
    if recipe == "renew-certificates":
        return renew_certificates(looked.cluster, [target], now)
    if recipe == "clear-alarm":
        return clear_alarm(looked.cluster, now)
    lost = [*options.lost, *_newly_lost(looked.diagnosis, options)]
    diagnosis = diagnose(looked.observations, lost)
    if recipe == "reseed" and diagnosis.recipe != recipe:
        raise refused(why_not(diagnosis, recipe))
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


def why_not(diagnosis: Diagnosis, recipe: str) -> Refusal:
    """Why `recipe` is refused; a diagnosis without a word about it says what the state is."""
    told = [r for r in diagnosis.refusals if r.recipe == recipe] or list(diagnosis.refusals)
    seen = f"the cluster is {diagnosis.state.value}: {diagnosis.why}"
    return told[0] if told else Refusal(recipe, seen, "this is no case for it", "fab diagnose")
