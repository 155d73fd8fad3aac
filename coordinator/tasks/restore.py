"""The task `restore`: look at the file and the hosts, plan, carry out, take back what failed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.diagnosis.cluster import diagnose
from agent.diagnosis.origin import judge
from agent.diagnosis.revisions import LARGEST, Bump, Evidence, bump
from agent.errors import Locked, Paused, Refused, RescueError, Unreachable, UsageError
from agent.model.codec import from_plain
from agent.model.plan import Plan
from agent.model.verdict import MemberState
from agent.recipes.cluster import Cluster
from agent.recipes.restore import restore as plan_restore
from agent.recipes.restore_wish import Source, Wish, needed_names, require_given_up
from agent.snapshot.rehearse import Rehearsal
from agent.snapshot.restore_facts import RestoreFacts
from coordinator.channel import fan_out
from coordinator.console import ask_consent
from coordinator.sequencer import Sequencer
from coordinator.tasks.common import Looked, Options, looking
from coordinator.tasks.doing import carry_out
from coordinator.tasks.open_plans import journal_states, refuse_open_plans, stored_signature
from coordinator.tasks.placing import (
    Found,
    Placed,
    evidence,
    find,
    look,
    place,
    take_away,
    would_place,
)
from coordinator.tasks.set_definitions import with_definitions

_LOOK_SECONDS = 1800.0


@dataclass(frozen=True)
class Asked:
    """What the operator said of this restore.

    file: here, or HOST:/path. on: the host to restore, empty for the one that fits best. also:
    other snapshots or data, for their revisions. at_least: a revision that was served. tool: an
    etcdutl, here or HOST:/path. other_cluster: the snapshot may be of another one.
    """

    file: str
    all_nodes: bool = False
    on: str = ""
    discard: bool = False
    rehearse: bool = True
    no_hash_ok: bool = False
    at_least: int = 0
    also: tuple[str, ...] = ()
    tool: str = ""
    other_cluster: bool = False


def restore(options: Options, asked: Asked) -> None:
    """Restore FILE: on one host, which the others then join, or on all hosts at once."""
    if not 0 <= asked.at_least < LARGEST:
        raise UsageError(f"--at-least {asked.at_least}: a revision is a number from 0 to 2**62")
    with looking(options) as looked:
        refuse_open_plans(looked)
        _refuse_early(looked.cluster, asked)
        found = find(looked, asked.file, asked.no_hash_ok)
        _refuse_corrupt(found)
        looked = _with_named(looked, found, options)
        looked.progress.say(f"the snapshot: {judge(found.named, looked.observations).why}")
        every = [o.host for o in looked.observations]
        wanted = every if asked.all_nodes else _hosts(looked, options, asked)
        looked, definitions = with_definitions(looked, found, wanted, options)
        hosts = _hosts(looked, options, asked)
        draft = replace(_draft(looked, asked, hosts, found), definitions=definitions)
        draft = replace(draft, lost=_lost(looked.cluster, draft, options))
        looked = replace(looked, diagnosis=diagnose(looked.observations, draft.lost))
        placed = would_place(found, hosts)
        plan_restore(looked.cluster, 0.0, _with(draft, placed))  # refused before anything is sent
        if not options.dry_run:
            placed = place(looked, found, hosts, asked.tool)
        wish = _wish(looked, asked, draft, found, placed)
        plan = plan_restore(looked.cluster, time.time(), wish)
        if asked.rehearse and len(hosts) > 1 and not options.dry_run:
            _rehearse(looked, hosts[0], placed.paths[hosts[0]], found)
        try:
            _carry_out(looked, plan, options)
        except Paused:
            take_away(looked, placed.sent)
            raise
        take_away(looked, placed.sent)


# ---- looking -------------------------------------------------------------------------------------


def _hosts(looked: Looked, options: Options, asked: Asked) -> tuple[str, ...]:
    """The hosts to restore: all that have a definition, or one of them.

    One: the operator's choice, else where the file lies, else the first one given that fits.
    """
    cluster = looked.cluster
    seen = [o.host for o in looked.observations if o.survey is not None]
    defined = [host for host in seen if cluster.definition(host) is not None]
    if asked.all_nodes:
        missing = [host for host in seen if host not in defined]
        for host in missing:
            looked.progress.say(f"{host}: no etcd definition; it is left out")
        return tuple(sorted(defined or seen))
    if asked.on:
        return (cluster.verdict(asked.on).host,)
    lies_on = asked.file.partition(":")[0] if ":" in asked.file else ""
    wanted = [h for h in (lies_on, *options.hosts, *defined) if h in defined]
    return tuple((wanted or seen)[:1])


def _refuse_early(cluster: Cluster, asked: Asked) -> None:
    """What serves is not thrown away by mistake: say so before a large file is sent anywhere."""
    nothing = Source(asked.file, {}, "", 0, 0, 0)
    require_given_up(cluster, Wish(nothing, (), "", None, discard=asked.discard))


def _refuse_corrupt(found: Found) -> None:
    if any(alarm.kind == "CORRUPT" for alarm in found.facts.alarms):
        raise Refused(
            f"{found.path}: it was taken while a CORRUPT alarm stood",
            "etcd itself had found its members to differ; nobody knows which keys are wrong in it",
            "take an earlier snapshot",
        )


def _rehearse(looked: Looked, host: str, path: str, found: Found) -> None:
    """Prove the snapshot on a scratch etcd of one host, before anything stops anywhere.

    One host that is restored alone is proved with the very data that it gets, by a step.
    """
    args = {"path": path, "no_hash_ok": not found.facts.is_hashed}
    plain = looked.fleet.call(
        host, "rehearse_snapshot", args, _LOOK_SECONDS,
        lambda text: looked.progress.say(f"{host}: {text}"),
    )  # fmt: skip
    said: Rehearsal = from_plain(Rehearsal, plain, f"rehearsal on {host}")
    kinds = ", ".join(f"{count} {kind}" for kind, count in list(said.kinds.items())[:5])
    looked.progress.say(
        f"rehearsed on {host} in {said.seconds:.1f} s: {said.keys} keys at revision "
        f"{said.revision} ({kinds})"
    )


def _with_named(looked: Looked, found: Found, options: Options) -> Looked:
    """Look for the hosts that only the snapshot names, where no host's data tells of any member.

    With the data gone everywhere nobody knows of the others; they may run all the same.
    """
    if any(member.id for member in looked.diagnosis.members):
        return looked
    new = looked.fleet.find(found.facts.members)
    if not new:
        return looked
    looked.progress.say(f"the snapshot names {', '.join(new)} too; looking there")
    observations = looked.fleet.observe()
    diagnosis = diagnose(observations, options.lost)
    return replace(looked, observations=observations, diagnosis=diagnosis)


def _draft(looked: Looked, asked: Asked, hosts: tuple[str, ...], found: Found) -> Wish:
    """What is asked for, before anything is sent to a host or asked of it."""
    facts = found.facts
    source = Source(
        asked.file, {}, facts.sha256, facts.size, facts.revision, facts.keys,
        copy=not facts.is_hashed, named=found.named,
    )  # fmt: skip
    return Wish(
        source, hosts, _token(), None, discard=asked.discard, rehearse=asked.rehearse,
        named=() if any(m.id for m in looked.diagnosis.members) else facts.members,
        other_cluster=asked.other_cluster,
    )  # fmt: skip


def _wish(looked: Looked, asked: Asked, draft: Wish, found: Found, placed: Placed) -> Wish:
    """The draft with what the hosts say: where the file lies, and how far to raise the revision."""
    looks = _look(looked, draft, placed)
    raised = _bump(looked, asked, draft.hosts, found, looks)
    digest = found.resources[1]
    resources = {host: (path, digest) for host, path in placed.resources.items()}
    return replace(_with(draft, placed), bump=raised, tool=placed.tool, resources=resources)


def _with(draft: Wish, placed: Placed) -> Wish:
    return replace(draft, source=replace(draft.source, paths=placed.paths))


def _look(looked: Looked, draft: Wish, placed: Placed) -> dict[str, RestoreFacts]:
    """Ask every host that can be reached; those to restore must answer."""
    seen = [o.host for o in looked.observations if o.survey is not None]

    def one(host: str) -> RestoreFacts:
        args: dict[str, object] = {"restores": host in draft.hosts, "tool": placed.tool}
        if host in draft.definitions:
            args["definition"] = draft.definitions[host].source
        return look(looked, host, args)

    found: dict[str, RestoreFacts] = {}
    for host, answer in fan_out(seen, one).items():
        if not isinstance(answer, RescueError):
            found[host] = answer
        elif host in draft.hosts:
            answer.seen = f"{host}: {answer.seen}"
            raise answer
        else:
            looked.progress.say(f"{host}: its revisions cannot be read: {answer.seen}")
    return found


def _bump(
    looked: Looked, asked: Asked, hosts: Sequence[str], snapshot: Found,
    looks: dict[str, RestoreFacts],
) -> Bump | None:  # fmt: skip
    """By how much to raise the revision; None where a tool cannot."""
    tools = {host: looks[host].tool for host in hosts}
    unable = [f"{t.name} {t.version} on {h}" for h, t in tools.items() if t and not t.bumps]
    if unable:
        looked.progress.say(f"{', '.join(unable)}: no --bump-revision; needs 3.4.27 or 3.5.10")
        return None
    found = [evidence for look in looks.values() for evidence in look.found]
    found += [
        Evidence(f"{member.host}: as it serves", member.revision)
        for member in looked.diagnosis.members
    ]
    found += evidence(looked, asked.also)
    age = time.time() - snapshot.modified if snapshot.modified else None
    return bump(snapshot.facts.revision, found, asked.at_least, age)


def _token() -> str:
    """A cluster token that nobody had before: the same peers get other IDs by it."""
    return f"etcd-rescue-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def _lost(cluster: Cluster, wish: Wish, options: Options) -> tuple[str, ...]:
    """The hosts declared lost, those asked for now among them."""
    needed = needed_names(cluster, replace(wish, lost=options.lost))
    if not needed:
        return options.lost
    gone = (MemberState.UNREACHABLE, MemberState.GHOST)
    names = [name for name, _why in needed if cluster.verdict(name).state in gone]
    ask_consent(needed, names)
    return (*options.lost, *names)


# ---- doing ---------------------------------------------------------------------------------------


def _carry_out(looked: Looked, plan: Plan, options: Options) -> None:
    """Show, confirm, run and verify; what fails before the point of no return is taken back."""
    if not options.dry_run:
        looked.progress.say(plan.summary)
    try:
        carry_out(looked, plan, options)
    except (Unreachable, Locked, Paused, UsageError):
        raise  # cut off, or never begun: what was begun goes on with `fab resume`
    except RescueError as error:
        _take_back(looked, plan, error)
        raise


def _take_back(looked: Looked, plan: Plan, error: RescueError) -> None:
    """A restore that failed leaves the hosts as they were, unless it is past that."""
    observations = looked.fleet.observe()
    now = replace(looked, observations=observations)
    if "open" not in journal_states(now, plan):
        return
    signed = stored_signature(now, plan)
    sequencer = Sequencer(looked.fleet, plan, looked.progress, signed, looked.policy)
    try:
        sequencer.begin()
        undone = sequencer.rollback()
    except Refused as refused:  # past the point of no return
        error.next = refused.next or error.next
    except RescueError as second:
        looked.progress.say(f"not all could be taken back: {second.seen}")
        error.next = f"fab rollback {plan.short_id}"
    else:
        looked.progress.say(f"taken back: {len(undone)} steps; every host is as it was")
        error.next = "mend that, then run the same command again"
