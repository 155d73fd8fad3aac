"""The verdict on a cluster: every host's survey in, state, recipe and refusals out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Optional

from agent.diagnosis import alarms, clocks
from agent.diagnosis import witness as witnesses
from agent.diagnosis.advice import (
    REMOVE,
    REPLACE,
    RESEED,
    RESTART,
    Advice,
    advise_member,
    declares,
    is_fixable,
    needs_advice,
    remedy,
    urgency,
)
from agent.diagnosis.certificates import RENEW, wait_for_certificates, with_certificates
from agent.diagnosis.matching import distinct
from agent.diagnosis.members import judge
from agent.diagnosis.quorum import quorum
from agent.diagnosis.reseed import (
    SPLIT_NEXT,
    SPLIT_WHY,
    advise_lost,
    can_start,
    check_declared,
    refuse_reseed,
)
from agent.diagnosis.state import cluster_state, leader_host
from agent.diagnosis.warnings import warnings
from agent.model.facts import Observation
from agent.model.verdict import ClusterState, Diagnosis, MemberState, MemberVerdict, Refusal


def diagnose(observations: Sequence[Observation], declared_lost: Sequence[str] = ()) -> Diagnosis:
    """What state the cluster is in, what fits, and why the rest does not.

    The order of `observations` does not matter. `declared_lost`: hosts, member names or IDs that
    the operator typed as gone for good. Invariants: no reseed while a linearizable read works
    anywhere; its target is the best of the usable voters; its consent names every voter that was
    not surveyed and not declared lost.
    """
    hosts, doubled = distinct(observations)
    witness = witnesses.choose(hosts)
    members = with_certificates(judge(hosts, witness), hosts)
    state, why = cluster_state(hosts, members, witness)
    voters = [m for m in members if m.voter and m.id]
    diagnosis = Diagnosis(
        state=state,
        why=why,
        members=members,
        cluster_id=witness.cluster_id,
        voters=len(voters),
        quorum=quorum(len(voters)) if voters else 0,
        serving=sum(m.serves for m in voters),
        leader=leader_host(hosts, members),
        warnings=(*doubled, *clocks.warnings(hosts), *warnings(hosts, members, witness)),
    )
    return _advise_alarm(_advise(diagnosis, declared_lost), hosts, witness)


def _advise_alarm(
    diagnosis: Diagnosis, hosts: Sequence[Observation], witness: witnesses.Witness
) -> Diagnosis:
    """Offer to take alarms back, where every member serves and nothing else is to be done first."""
    is_served = diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED)
    if not is_served or diagnosis.recipe or diagnosis.serving < diagnosis.voters:
        return diagnosis
    full = [a for a in alarms.raised(hosts, witness) if a.kind == "NOSPACE"]
    gone = alarms.left_behind(hosts, witness)
    if not full and not gone:
        return diagnosis
    why = "space is made and proved, then the alarm is taken back"
    if not full:
        why = f"the alarm CORRUPT of removed member {gone[0]} still forbids every write"
    return replace(diagnosis, recipe=alarms.CLEAR, recipe_why=why)


def diagnose_host(
    diagnosis: Diagnosis, host: str, declared_lost: Sequence[str] = ()
) -> tuple[str, str, Optional[Refusal]]:
    """(recipe, target, refusal) of `rescue-node host`.

    recipe is empty where nothing is to be done, or where the refusal says why nothing can be.
    `host` may be a host, a member's name or its ID.
    """
    member = next((m for m in diagnosis.members if declares((host,), m)), None)
    if member is None:
        known = ", ".join(m.host for m in diagnosis.members) or "none"
        refusal = Refusal(
            REPLACE,
            f"{host}: no such host or member",
            "only hosts that were surveyed, and members of the cluster, can be rescued",
            f"use one of the known names: {known}",
        )
        return "", "", refusal
    advice = _advise_host(diagnosis, member, declared_lost)
    return advice.recipe, member.host, advice.refusal


def _advise_host(
    diagnosis: Diagnosis, member: MemberVerdict, declared_lost: Collection[str]
) -> Advice:
    if diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED):
        return advise_member(diagnosis, member, declared_lost)
    if diagnosis.state is ClusterState.SPLIT:
        return Advice(refusal=Refusal(REPLACE, diagnosis.why, SPLIT_WHY, SPLIT_NEXT))
    if member in wait_for_certificates(diagnosis):
        return Advice(RENEW, f"{member.host}: {member.why}")
    if member.certificates is not None and member.certificates.refusal is not None:
        return Advice(refusal=member.certificates.refusal)
    if member in can_start(diagnosis):
        return Advice(RESTART, f"{member.host}: {member.why}; its data is intact")
    if is_fixable(member) and member.cause is not None:
        seen = f"{member.host}: {member.cause.evidence or member.cause.summary}"
        why = "the cluster does not serve, and this alone keeps the member down"
        return Advice(refusal=Refusal(REPLACE, seen, why, remedy(member)))
    if diagnosis.state is ClusterState.UNKNOWN:
        return Advice(refusal=replace(refuse_reseed(diagnosis), recipe=REPLACE))
    seen = f"{member.host}: {member.why}; {diagnosis.why}"
    why = "a member is added or removed through the quorum, and there is none"
    if len(diagnosis.members) == 1 and diagnosis.voters <= 1:
        seen += "; it names no other host, and none was given"
        next = f"if the cluster has others: fab -H OTHER rescue-node {member.host}; else: "
        next += _next_for_quorum(diagnosis)
        return Advice(refusal=Refusal(REPLACE, seen, why, next))
    return Advice(refusal=Refusal(REPLACE, seen, why, _next_for_quorum(diagnosis)))


def _next_for_quorum(diagnosis: Diagnosis) -> str:
    """How the quorum comes back: the recipe offered, or what stands in its way."""
    if diagnosis.recipe == RESTART:
        return f"fab rescue-node {diagnosis.target}"
    if not diagnosis.recipe:
        return diagnosis.refusals[0].next if diagnosis.refusals else "fab diagnose"
    unseen = [name for name, _ in diagnosis.consent if _is_absent(diagnosis.member(name))]
    lost = "".join(f" --lost {name}" for name in unseen)
    gone = f" (only for hosts that are gone for good: {', '.join(unseen)})" if unseen else ""
    return f"fab rescue-quorum{lost}{gone}"


def _is_absent(member: Optional[MemberVerdict]) -> bool:
    absent = (MemberState.UNREACHABLE, MemberState.GHOST)
    return member is not None and member.state in absent


def _advise(diagnosis: Diagnosis, declared_lost: Collection[str]) -> Diagnosis:
    waiting = wait_for_certificates(diagnosis)
    if waiting:
        return _offer_certificates(diagnosis, waiting, declared_lost)
    if diagnosis.state is ClusterState.QUORUM_LOST:
        return advise_lost(diagnosis, declared_lost)
    if diagnosis.state in (ClusterState.HEALTHY, ClusterState.DEGRADED):
        diagnosis = _advise_serving(diagnosis, declared_lost)
    refusals = (refuse_reseed(diagnosis), *check_declared(diagnosis, declared_lost))
    return replace(diagnosis, refusals=(*refusals, *diagnosis.refusals))


def _offer_certificates(
    diagnosis: Diagnosis, waiting: Sequence[MemberVerdict], declared_lost: Collection[str]
) -> Diagnosis:
    """New certificates give the quorum back and lose nothing: no reseed beside that."""
    names = " and ".join(m.host for m in waiting)
    refusal = Refusal(
        RESEED,
        f"{names}: only certificates keep them from serving",
        f"new ones give {diagnosis.quorum} of {diagnosis.voters} voters back and lose nothing",
        f"fab rescue-node {waiting[0].host}   (all of them at once)",
    )
    found = waiting[0].certificates
    return replace(
        diagnosis,
        recipe=RENEW,
        recipe_why=f"{names}: {found.why if found else ''}; their data is intact",
        target=waiting[0].host,
        refusals=(*check_declared(diagnosis, declared_lost), refusal, *diagnosis.refusals),
    )


def _advise_serving(diagnosis: Diagnosis, declared_lost: Collection[str]) -> Diagnosis:
    """One recipe for the member that needs it most; the refusals of all others are kept."""
    pairs = [
        (member, advise_member(diagnosis, member, declared_lost))
        for member in diagnosis.members
        if needs_advice(member)
    ]
    refusals = tuple(advice.refusal for _, advice in pairs if advice.refusal is not None)
    offers = sorted(
        ((m, a) for m, a in pairs if a.recipe), key=lambda pair: urgency(pair[0], pair[1])
    )
    if not offers:
        return replace(diagnosis, refusals=refusals)
    member, advice = offers[0]
    consent: tuple[tuple[str, str], ...] = ()
    if advice.recipe == REMOVE and not declares(declared_lost, member):
        reason = f"{member.why}: is it gone for good? If it lives, name its host too, with -H"
        consent = ((member.host, reason),)
    return replace(
        diagnosis,
        recipe=advice.recipe,
        recipe_why=advice.why,
        target=member.host,
        consent=consent,
        refusals=refusals,
    )
