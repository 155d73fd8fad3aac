"""What fits a cluster that lost its quorum: bring members back, or go on from the best survivor.

Every refusal here stands before the recipe, in this order: what the operator declared is not so;
a host that may run cannot be looked at; the quorum can be had back without loss; nothing to keep.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Optional

from agent.diagnosis.advice import RESEED, RESTART, declares, is_fixable, remedy
from agent.diagnosis.ranking import losses, others_ahead, rank
from agent.model.verdict import ClusterState, Diagnosis, MemberState, MemberVerdict, Refusal


def advise_lost(diagnosis: Diagnosis, declared_lost: Collection[str]) -> Diagnosis:
    """The diagnosis with recipe, target, losses, consent and refusals for a lost quorum."""
    refusals = list(check_declared(diagnosis, declared_lost)) + _unseen(diagnosis)
    ranked = rank(diagnosis.members)
    startable = can_start(diagnosis)
    back = _without_loss(diagnosis, startable)
    if back is not None:
        refusals.append(back)
    if back is not None and startable and _suffices(diagnosis, startable, ()):
        return _offer_restart(diagnosis, rank(startable), refusals)
    if not ranked:
        refusals.append(_nothing_to_keep(diagnosis))
    if refusals:
        return replace(diagnosis, refusals=(*diagnosis.refusals, *refusals))
    return _offer_reseed(diagnosis, ranked[0], declared_lost)


def check_declared(diagnosis: Diagnosis, declared_lost: Collection[str]) -> tuple[Refusal, ...]:
    """Refusals of what the operator declared lost and is not, or does not exist."""
    found = []
    for name in sorted(set(declared_lost)):
        member = next((m for m in diagnosis.members if declares((name,), m)), None)
        if member is None:
            known = ", ".join(m.host for m in diagnosis.members) or "none"
            found.append(
                Refusal(
                    RESEED,
                    f"declared lost: {name}, but there is no such host or member",
                    "the name may be mistyped, and another host was meant",
                    f"use one of the known names: {known}",
                )
            )
        elif member.state is not MemberState.UNREACHABLE and member.state is not MemberState.GHOST:
            found.append(
                Refusal(
                    RESEED,
                    f"{name} is declared lost, but {member.host} answered its survey: {member.why}",
                    "a host that can be reached is fenced, not declared lost",
                    f"leave --lost {name} away",
                )
            )
        elif member.seen_alive:
            found.append(
                Refusal(
                    RESEED,
                    f"{name} is declared lost, but {member.seen_alive}",
                    "an etcd that lives would come back as a rival with the same cluster ID",
                    f"make SSH to {member.host} work, or power it off, then: fab diagnose",
                )
            )
    return tuple(found)


def can_start(diagnosis: Diagnosis) -> tuple[MemberVerdict, ...]:
    """Stopped voters that only wait for their definition to be put back, or to be started.

    Fenced ones are left out: somebody decided that they must not run.
    """
    return tuple(
        m
        for m in diagnosis.members
        if m.voter
        and m.state is MemberState.STOPPED
        and m.usable
        and not m.open_plan
        and m.definition in ("in-place", "parked")
        and not (m.definition == "in-place" and is_fixable(m))
    )


def _suffices(
    diagnosis: Diagnosis,
    startable: Sequence[MemberVerdict],
    fixable: Sequence[MemberVerdict],
) -> bool:
    """True if the voters that run, with these, are a quorum again."""
    hosts = {m.host for m in diagnosis.members if m.voter and m.id and m.runs}
    hosts |= {m.host for m in (*startable, *fixable)}
    return len(hosts) >= diagnosis.quorum > 0


def _without_loss(diagnosis: Diagnosis, startable: Sequence[MemberVerdict]) -> Optional[Refusal]:
    if _suffices(diagnosis, startable, ()) and startable:
        names = " and ".join(m.host for m in startable)
        return Refusal(
            RESEED,
            f"{names}: stopped, with intact data",
            f"starting what is stopped gives {diagnosis.quorum} of {diagnosis.voters} voters back "
            "and loses nothing",
            "; ".join(f"fab rescue-node {m.host}" for m in startable),
        )
    fixable = [m for m in diagnosis.members if m.voter and m.id and m.usable and is_fixable(m)]
    if not fixable or not _suffices(diagnosis, startable, fixable):
        return None
    seen = "; ".join(f"{m.host}: {m.cause.evidence or m.cause.summary}" for m in fixable if m.cause)
    steps = [f"{m.host}: {remedy(m)}" for m in fixable]
    steps += [f"fab rescue-node {m.host}" for m in startable]
    return Refusal(
        RESEED,
        seen,
        f"their data is intact; fixing this gives {diagnosis.quorum} of {diagnosis.voters} voters "
        "back and loses nothing",
        "; ".join(steps),
    )


def _unseen(diagnosis: Diagnosis) -> list[Refusal]:
    return [
        Refusal(
            RESEED,
            f"{m.host}: {m.why}",
            "every other member must be proved stopped or be gone; this one lives",
            f"make SSH to {m.host} work, or power it off, then: fab diagnose",
        )
        for m in diagnosis.members
        if m.id and m.state is MemberState.UNREACHABLE and m.seen_alive
    ]


def _nothing_to_keep(diagnosis: Diagnosis) -> Refusal:
    seen = "; ".join(f"{m.host}: {m.state.value}" for m in diagnosis.members) or "no host"
    hidden = [m.host for m in diagnosis.members if m.state is MemberState.UNREACHABLE]
    bring = f"bring back {' or '.join(hidden)}, or: " if hidden else ""
    return Refusal(
        RESEED,
        f"no host has intact data of a voter ({seen})",
        "there is nothing to go on from",
        f"{bring}fab restore SNAPSHOT",
    )


def _offer_restart(
    diagnosis: Diagnosis, ranked: Sequence[MemberVerdict], refusals: Sequence[Refusal]
) -> Diagnosis:
    names = " and ".join(m.host for m in ranked)
    return replace(
        diagnosis,
        recipe=RESTART,
        recipe_why=f"start {names}: stopped with intact data, and enough for a quorum again",
        target=ranked[0].host,
        refusals=(*diagnosis.refusals, *refusals),
    )


def _offer_reseed(
    diagnosis: Diagnosis, target: MemberVerdict, declared_lost: Collection[str]
) -> Diagnosis:
    term, index = target.position
    return replace(
        diagnosis,
        recipe=RESEED,
        recipe_why=(
            f"{target.host} has the longest log of all intact voters "
            f"(term {term}, index {index}, revision {target.revision})"
        ),
        target=target.host,
        losses=losses(target, diagnosis.members, diagnosis.voters),
        consent=needed_consent(diagnosis, target, declared_lost),
    )


def needed_consent(
    diagnosis: Diagnosis, target: MemberVerdict, declared_lost: Collection[str]
) -> tuple[tuple[str, str], ...]:
    """(name, reason) for each host the operator must still type: not seen, or with other data."""
    found: dict[str, str] = {}
    for member in diagnosis.members:
        if not member.id or not member.voter or declares(declared_lost, member):
            continue
        if member.state in (MemberState.UNREACHABLE, MemberState.GHOST):
            found[member.host] = (
                f"not seen ({member.why}): if it still runs or comes back it becomes a rival, and "
                "what only it holds is lost"
            )
        elif member.state is MemberState.FENCED:
            found[member.host] = f"{member.why}: the cluster may live on elsewhere"
    for member, text in others_ahead(target, diagnosis.members):
        if member.host not in found:
            found[member.host] = f"{text}; that would be lost"
    return tuple(sorted(found.items()))


def refuse_reseed(diagnosis: Diagnosis) -> Refusal:
    """Why no reseed while the quorum is not lost, or not known to be."""
    if diagnosis.state is ClusterState.SPLIT:
        return Refusal(RESEED, diagnosis.why, SPLIT_WHY, SPLIT_NEXT)
    if diagnosis.state is ClusterState.UNKNOWN:
        return Refusal(
            RESEED,
            diagnosis.why,
            "it is not shown that the quorum is lost; going on from one member would drop the rest",
            _unknown_next(diagnosis),
        )
    serving = ", ".join(m.host for m in diagnosis.members if m.serves)
    return Refusal(
        RESEED,
        f"linearizable reads work ({serving})",
        "the quorum is there; going on from one member would throw away what the others have",
        f"fab rescue-node {diagnosis.target}" if diagnosis.target else "fab diagnose",
    )


SPLIT_WHY = "nobody but you can say which of the clusters is the right one"
SPLIT_NEXT = (
    "decide which cluster is yours; on each host of the other one: rescue-agent fence "
    "reason=WHY, rescue-agent relocate-data, rescue-agent lift-fence; then: "
    "fab -H HOST-OF-YOURS rescue-node THAT-HOST"
)


def _unknown_next(diagnosis: Diagnosis) -> str:
    steps = [f"{m.host}: {remedy(m)}" for m in diagnosis.members if is_fixable(m)]
    hidden = [m.host for m in diagnosis.members if m.state is MemberState.UNREACHABLE]
    steps += [f"make SSH to {host} work" for host in hidden]
    # Where all was seen, a member may have been caught in one of its attempts to start.
    return "; ".join([*steps, f"{'' if hidden else 'wait a minute, '}then: fab diagnose"])
