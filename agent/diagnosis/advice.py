"""What fits one member of a cluster that serves: a recipe, or why there is none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

from agent.diagnosis import signs
from agent.diagnosis.certificates import RENEW
from agent.diagnosis.quorum import quorum_after_remove, tolerance
from agent.diagnosis.state import is_left_out
from agent.model.verdict import Diagnosis, MemberState, MemberVerdict, Refusal

REPLACE, RESTART, REMOVE, RESEED = "replace-member", "restart-member", "remove-member", "reseed"

# A wiped member cannot read its configuration's cluster any more, so only what would stop a fresh
# member too forbids to replace it.
_STOPS_A_FRESH_MEMBER = frozenset({"certificate", "disk", "resource"})

# What etcd says of an empty member that the cluster knows: a new member is just what mends it.
_BY_REPLACEMENT = "fab rescue-node "

# What etcd says with the data of a cluster of its own: that data is what is wrong with it.
_BY_FOREIGN_DATA = ("cluster-id-mismatch", "member-id-mismatch")


@dataclass(frozen=True)
class Advice:
    """A recipe for one host and why, or a refusal, or neither: nothing to do."""

    recipe: str = ""
    why: str = ""
    refusal: Optional[Refusal] = None


def declares(declared: Collection[str], member: MemberVerdict) -> bool:
    """True if the operator typed the host, the name or the ID of that member."""
    return bool({member.host, member.name, member.id} & (set(declared) - {""}))


def advise_member(
    diagnosis: Diagnosis, member: MemberVerdict, declared_lost: Collection[str] = ()
) -> Advice:
    """What to do for one member or host while the cluster serves."""
    if member.open_plan and member.state is not MemberState.HEALTHY:
        return _refuse(
            REPLACE,
            f"{member.host} is part of plan {member.open_plan[:12]}, which is not finished",
            "another change on top of half of one may lose data",
            "fab resume (or: fab rollback)",
        )
    if member.state is MemberState.HEALTHY:
        return _rogue(diagnosis, member) if not member.id else _renew(member)
    if member.state in (MemberState.UNREACHABLE, MemberState.GHOST):
        return _absent(diagnosis, member, declared_lost)
    if member.state is MemberState.LAGGING:
        return _wait(member, "it is catching up by itself; a replacement would begin with nothing")
    if member.definition == "missing" and not member.runs:
        return _undefined(member)
    return _advise_ill(diagnosis, member)


def _advise_ill(diagnosis: Diagnosis, member: MemberVerdict) -> Advice:
    """For a member that is there, and does not do its work: what costs least comes first."""
    renewed = _renew(member)
    if renewed.refusal is not None or (renewed.recipe and needs_only_certificates(member)):
        return renewed
    is_renewed = bool(renewed.recipe)
    blocked = None if _is_astray(diagnosis, member) else _blocked_by_cause(member, is_renewed)
    if blocked is not None:
        return Advice(refusal=blocked)
    if member.state in (MemberState.STOPPED, MemberState.FENCED) and _can_restart(member):
        return Advice(
            RESTART, f"{member.host}: {member.why}; its data is intact and it is still a member"
        )
    if member.state is MemberState.NO_QUORUM and not _is_foreign(diagnosis, member):
        why = (
            "the others serve and nothing says that its data is bad: it is starting, or cut off "
            "from them"
        )
        return _wait(
            member, why, f"; then look at the end of etcd's log: fab -H {member.host} survey"
        )
    return _replace(diagnosis, member)


def _wait(member: MemberVerdict, why: str, then: str = "") -> Advice:
    next = f"wait a minute, then: fab diagnose{then}"
    return _refuse(REPLACE, f"{member.host}: {member.why}", why, next)


def _renew(member: MemberVerdict) -> Advice:
    """New certificates, or why there can be none; nothing where all will do."""
    found = member.certificates
    if found is None:
        return Advice()
    if found.refusal is not None:
        return Advice(refusal=found.refusal)
    return Advice(RENEW, f"{member.host}: {found.why}")


def needs_only_certificates(member: MemberVerdict) -> bool:
    """True if its data is that of a member, and its certificates keep it from serving."""
    if member.cause is not None and member.cause.kind != "certificate":
        return False
    down = (MemberState.CRASH_LOOPING, MemberState.STOPPED, MemberState.NO_QUORUM)
    return member.usable and member.state in down and member.definition != "missing"


def _refuse(recipe: str, seen: str, why: str, next: str) -> Advice:
    return Advice(refusal=Refusal(recipe, seen, why, next))


def _rogue(diagnosis: Diagnosis, member: MemberVerdict) -> Advice:
    return _refuse(
        REPLACE,
        f"{member.host} serves reads but is in no membership of cluster {diagnosis.cluster_id}",
        "it may be a cluster of its own with data of its own",
        f"look at it before anything else: fab survey {member.host}",
    )


def _undefined(member: MemberVerdict) -> Advice:
    return _refuse(
        REPLACE,
        "; ".join(
            (f"{member.host}: there is no etcd definition on it, in place or parked", *member.notes)
        ),
        "nothing says how its etcd is meant to run; its data stays as it is until then",
        f"put etcd's definition back on {member.host} (from a backup of it, or made anew by "
        f"kubeadm), then: fab rescue-node {member.host}",
    )


def _is_foreign(diagnosis: Diagnosis, member: MemberVerdict) -> bool:
    ours = diagnosis.cluster_id
    return bool(ours and member.data_cluster and member.data_cluster != ours)


def _is_astray(diagnosis: Diagnosis, member: MemberVerdict) -> bool:
    """True if its data is of another cluster, and that alone keeps it from serving."""
    cause = member.cause
    is_told = cause is None or cause.key in _BY_FOREIGN_DATA or cause.kind == "network"
    return _is_foreign(diagnosis, member) and is_told


def _can_restart(member: MemberVerdict) -> bool:
    return member.usable and member.definition in ("in-place", "parked")


def blocked_why(member: MemberVerdict) -> str:
    """Why a new member would not help, in words."""
    if member.intact:
        return (
            "its data is intact; replacing it would throw away a good copy and change nothing: "
            "the cause stays"
        )
    return "a new member would stop at the same cause"


def is_fixable(member: MemberVerdict) -> bool:
    """True if it is down for a cause beside its data, so that the remedy brings it back."""
    cause = member.cause
    if cause is None or cause.kind not in signs.FIXABLE:
        return False
    if not member.intact and cause.remedy.startswith(_BY_REPLACEMENT):
        return False
    if member.state in (MemberState.CRASH_LOOPING, MemberState.STOPPED, MemberState.NO_QUORUM):
        return member.intact or member.position == (0, 0)
    if member.state in (MemberState.NO_DATA, MemberState.REMOVED, MemberState.LEARNER_STUCK):
        return cause.kind in _STOPS_A_FRESH_MEMBER
    return False


def _blocked_by_cause(member: MemberVerdict, is_renewed: bool = False) -> Optional[Refusal]:
    if not is_fixable(member) or member.cause is None:
        return None
    if is_renewed and member.cause.kind == "certificate":
        return None  # the same plan makes them anew first
    if member.state is MemberState.STOPPED and member.definition != "in-place":
        return None
    return Refusal(
        REPLACE,
        f"{member.host}: {member.cause.evidence or member.cause.summary or member.why}",
        blocked_why(member),
        remedy(member),
    )


def remedy(member: MemberVerdict) -> str:
    """What brings a member with a fixable cause back; never empty."""
    cause = member.cause
    if cause is None:
        return f"fab rescue-node {member.host}"
    return cause.remedy or f"fix the {cause.kind} on {member.host}, then: fab diagnose"


def _reach(member: MemberVerdict) -> str:
    return member.next or "power it on or make SSH to it work"


def _absent(diagnosis: Diagnosis, member: MemberVerdict, declared: Collection[str]) -> Advice:
    """Nobody on the host can be asked. Gone for good is the operator's word, never a guess."""
    if not member.id:
        return _refuse(
            REPLACE,
            f"{member.host}: {member.why}",
            "nothing can be done on a host that does not answer; it is no member",
            f"{_reach(member)}, then: fab rescue-node {member.host}",
        )
    is_ghost = member.state is MemberState.GHOST
    if member.seen_alive or not (is_ghost or declares(declared, member)):
        why = (
            "etcd lives there, so it is no dead member"
            if member.seen_alive
            else "SSH that fails does not show that etcd is gone"
        )
        return _refuse(
            REPLACE if not declares(declared, member) else REMOVE,
            f"{member.host}: {member.why}",
            why,
            f"{_reach(member)}, then: fab rescue-node {member.host}; "
            f"if the host is gone for good: fab remove-member {member.host}",
        )
    return _remove(diagnosis, member)


def _remove(diagnosis: Diagnosis, member: MemberVerdict) -> Advice:
    if not member.voter:
        return Advice(REMOVE, f"{member.host}: {member.why}; a learner, the quorum stays the same")
    change = quorum_after_remove(diagnosis.voters, diagnosis.serving, member.serves)
    if not change.is_allowed:
        return Advice(refusal=_arithmetic(diagnosis, member, REMOVE, change.refused))
    left = f"{change.voters} voter{'s' * (change.voters != 1)}"
    return Advice(
        REMOVE,
        f"{member.host}: {member.why}; the cluster stays smaller: {left}, "
        f"{failures(tolerance(change.voters))}",
    )


def failures(count: int) -> str:
    """How many failures are survived, in words."""
    if count == 0:
        return "no failure tolerated"
    return f"{count} failure{'s' * (count != 1)} tolerated"


def _replace(diagnosis: Diagnosis, member: MemberVerdict) -> Advice:
    why = f"{member.host}: {member.why}"
    if not any(m.serves and m.id and m.state is not MemberState.UNREACHABLE
               for m in diagnosis.members if m.host != member.host):  # fmt: skip
        return _refuse(
            REPLACE,
            f"{why}; no other host that can be logged in to serves",
            "a member is replaced through one that serves, and the last one is never removed",
            "make SSH to a serving member work, then: fab rescue-node " + member.host
            if diagnosis.serving
            else "fab diagnose",
        )
    learner = next(
        (m for m in diagnosis.members if m.id and not m.voter and m.host != member.host), None
    )
    if learner is not None:
        return _refuse(
            REPLACE,
            f"{why}; {learner.host} is a learner",
            "etcd takes one learner at a time",
            f"fab rescue-node {learner.host}",
        )
    if member.id and member.voter:
        change = quorum_after_remove(diagnosis.voters, diagnosis.serving, member.serves)
        if not change.is_allowed:
            return Advice(refusal=_arithmetic(diagnosis, member, REPLACE, change.refused))
    return Advice(REPLACE, why)


def _arithmetic(diagnosis: Diagnosis, member: MemberVerdict, recipe: str, refused: str) -> Refusal:
    other = next(
        (m for m in diagnosis.members if m.voter and not m.serves and m.id != member.id), None
    )
    next_step = f"fab rescue-node {other.host}" if other else "fab snapshot, then fab diagnose"
    return Refusal(recipe, f"{member.host}: {member.why}", f"removing it: {refused}", next_step)


# The order in which members are seen to: what costs least and gives most comes first.
def urgency(member: MemberVerdict, advice: Advice) -> tuple[int, int, int, str]:
    """Sort key of a member with a recipe: members before strangers, restarts before changes."""
    recipes = {RESTART: 0, RENEW: 0, REPLACE: 1, REMOVE: 2}
    states = {
        MemberState.LEARNER_STUCK: 0,
        MemberState.CORRUPT: 1,
        MemberState.REMOVED: 2,
        MemberState.NO_DATA: 3,
        MemberState.CRASH_LOOPING: 4,
    }
    is_pressing = advice.recipe != RENEW or not member.serves  # else it serves, and can wait
    return (
        0 if member.id else 1,
        recipes.get(advice.recipe, 3) if is_pressing else 4,
        states.get(member.state, 5),
        member.host,
    )


def needs_advice(member: MemberVerdict) -> bool:
    """True for a member that is not healthy, and for a host that is left out of the cluster."""
    if member.id:
        return member.state is not MemberState.HEALTHY or member.certificates is not None
    return is_left_out(member)
