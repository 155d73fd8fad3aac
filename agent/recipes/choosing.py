"""Which plan fits: what the diagnosis advises, and whose word it needs. The asking is not here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agent.diagnosis.cluster import diagnose, diagnose_host
from agent.errors import Refused
from agent.model.facts import Observation
from agent.model.plan import Plan
from agent.model.verdict import Diagnosis, MemberState, Refusal
from agent.recipes.clear_alarm import clear_alarm
from agent.recipes.cluster import Cluster
from agent.recipes.openshift4 import is_openshift4, rescue_member
from agent.recipes.renew_certificates import renew_certificates
from agent.recipes.replace_member import remove_member, replace_member
from agent.recipes.reseed import reseed
from agent.recipes.restart_member import restart_member

_GONE = (MemberState.UNREACHABLE, MemberState.GHOST)


def offered(diagnosis: Diagnosis, host: str, lost: Sequence[str]) -> tuple[str, str]:
    """(recipe, target) for this host, or for the cluster where none is named.

    Both are empty where nothing is to be done. Raises Refused with what was seen, why that forbids
    it, and the next command.
    """
    if host:
        recipe, target, refusal = diagnose_host(diagnosis, host, lost)
        if refusal is not None:
            raise refused(refusal)
        return (recipe, target) if recipe else ("", "")
    if diagnosis.recipe:
        return diagnosis.recipe, diagnosis.target
    if diagnosis.state.value == "healthy" or not diagnosis.refusals:
        return "", ""
    raise refused(diagnosis.refusals[0])


def consent_needed(
    diagnosis: Diagnosis, recipe: str, accepted: Collection[str]
) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    """((name, reason) of every word that was not given yet; which of these are absent hosts).

    A host that can be reached is fenced, never declared lost: for its data, which may be ahead, the
    operator's typed name is consent and nothing more.
    """
    if recipe not in ("reseed", "remove-member"):
        return (), []
    needed = tuple((name, why) for name, why in diagnosis.consent if name not in accepted)
    states = {m.host: m.state for m in diagnosis.members}
    return needed, [name for name, _why in needed if states.get(name) in _GONE]


def plan_of(
    observations: Sequence[Observation],
    recipe: str,
    target: str,
    created: float,
    lost: Sequence[str] = (),
    in_manifest: bool = False,
) -> Plan:
    """Give the plan of one recipe, all consent given. created: seconds since the epoch.

    lost: hosts that are declared lost. Raises Refused where the recipe is not offered.
    """
    diagnosis = diagnose(observations, lost)
    cluster = Cluster(diagnosis, tuple(observations))
    if recipe == "replace-member" and is_openshift4(cluster):
        return rescue_member(cluster, target, created)
    if recipe == "replace-member":
        return replace_member(cluster, target, created)
    if recipe == "restart-member":
        return restart_member(cluster, target, created)
    if recipe == "renew-certificates":
        return renew_certificates(cluster, [target], created)
    if recipe == "clear-alarm":
        return clear_alarm(cluster, created)
    if recipe == "remove-member":
        return remove_member(cluster, target, created)
    if diagnosis.recipe != recipe:
        raise refused(why_not(diagnosis, recipe))
    return reseed(cluster, created, lost, in_manifest)


def why_not(diagnosis: Diagnosis, recipe: str) -> Refusal:
    """Why `recipe` is refused; a diagnosis without a word about it says what the state is."""
    told = [r for r in diagnosis.refusals if r.recipe == recipe] or list(diagnosis.refusals)
    seen = f"the cluster is {diagnosis.state.value}: {diagnosis.why}"
    return told[0] if told else Refusal(recipe, seen, "this is no case for it", "fab diagnose")


def refused(refusal: Refusal) -> Refused:
    """A diagnosis' refusal as the error that ends a task."""
    return Refused(refusal.seen, refusal.why, refusal.next)
