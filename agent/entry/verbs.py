"""What a coordinator can ask of an agent: one function a verb, JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Optional

from agent.entry.api_requests import API_REQUESTS
from agent.entry.master_requests import MASTER_REQUESTS
from agent.entry.member_requests import MEMBER_REQUESTS
from agent.entry.timer_requests import TIMER_REQUESTS
from agent.entry.unattended import is_wanted, let_go, require_possible, want
from agent.errors import Damaged, Refused, RescueError, UsageError
from agent.host import STATE_DIR, Host
from agent.host.reserve import stock
from agent.model.catalog.openshift4_machine import MAX_API_PATIENCE
from agent.model.codec import to_plain
from agent.model.plan import Plan, plan_from_plain, plan_to_plain
from agent.model.signed import Policy, Signed
from agent.records import signing
from agent.records.beside_plans import guarded
from agent.records.journal import Journal, journal_path, read_journals
from agent.records.locks import (
    check_lock,
    mark_at_work,
    only_agent,
    read_lock,
    release_lock,
    require_free,
    take_lock,
)
from agent.runner import SINGLE_STEP, Runner, preview, single_step_plan
from agent.runner import vet as vet_plan
from agent.snapshot.requests import REQUESTS

Say = Callable[[str], None]
Args = dict[str, Any]
Verb = Callable[[Host, Args, Say], Any]


def _text(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"argument {name!r} is missing or not a text")
    return value


def _number(args: Args, name: str) -> int:
    value = args.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"argument {name!r} is missing or not a whole number")
    return value


def survey(host: Host, args: Args, say: Say) -> Any:
    """Take a survey: {"deep": patient deadlines, false by default} → Survey."""
    from agent.survey.take import take_survey

    return to_plain(take_survey(host, deep=args.get("deep") is True))


def probe(host: Host, args: Args, say: Say) -> Any:
    """See from here which TCP ports another host answers on: {"address", "ports"} → Sighting."""
    from agent.survey.online import sight

    ports = args.get("ports")
    if not isinstance(ports, list) or not all(isinstance(p, int) for p in ports):
        raise UsageError("argument 'ports' is not a list of numbers")
    return to_plain(sight(host, _text(args, "address"), tuple(ports)))


def hash(host: Host, args: Args, say: Say) -> Any:
    """Hash this member's keys: {"revision"} → {"hash", "revision", "compact_revision"}.

    Through the peer port, which every version since 3.4 answers the same way.
    """
    from agent.etcd.client import peer_hash_kv
    from agent.etcd.transport import real_files
    from agent.platforms import detect
    from agent.survey.online import local_peer_urls
    from agent.survey.watched import read_watched

    config = read_watched(host, detect(host))[0]
    if config is None:
        raise Refused(f"{host.hostname()}: no etcd definition in place", "its etcd cannot be asked")
    revision = _number(args, "revision")
    files = real_files(host, config.peer_tls)
    return to_plain(peer_hash_kv(local_peer_urls(config)[0], files, revision))


def lock(host: Host, args: Args, say: Say) -> Any:
    """Show the lock: {} → Lock or null."""
    return to_plain(read_lock(host))


def begin(host: Host, args: Args, say: Say) -> Any:
    """Store the plan in its journal, take the lock: {"plan", "holder", "token", "run"} → its state.

    With it may come {"signed": Signed, "policy": what the coordinator's cluster.yaml demands,
    "unattended": the plan goes on here by itself when its line is lost, and after a reboot}.
    The state is {"state", "done", "begun"}: as in JournalFacts; and "new": the plan was not open
    here before; "unattended": true where it goes on by itself. Of a plan that is complete here the
    lock is not taken: nothing is left to do.
    """
    plan = plan_from_plain(args.get("plan"))
    claim = _Claim(
        _text(args, "holder"),
        _number(args, "token"),
        _text(args, "run") if args.get("run") else "",
        signing.signed_from(args.get("signed")),
        signing.policy_from(args.get("policy")),
    )
    require_free(host, plan.id, claim.token, claim.run)  # says who holds it, if he is at work too
    if args.get("unattended") is True:
        require_possible(host)  # before there is a lock that could not be given back
    with _writable(host), only_agent(host):
        journal, is_new = _begin(host, plan, claim)
    if journal.state == "open" and (args.get("unattended") is True or is_wanted(journal)):
        want(host, journal)
    return {"state": journal.state, "done": journal.done_steps(), "begun": journal.begun_steps(),
            "new": is_new, **({"unattended": True} if is_wanted(journal) else {})}  # fmt: skip


@contextmanager
def _writable(host: Host) -> Iterator[None]:
    """Refuse to begin, in words, where our directory is full or read-only."""
    try:
        yield
    except OSError as error:
        name = host.hostname()
        raise Refused(
            f"{name}: {STATE_DIR} cannot be written to: {error.strerror or error}",
            "a plan that cannot be journaled could neither be resumed nor taken back",
            f"on {name}: df -h {STATE_DIR}; df -i {STATE_DIR}; findmnt -T {STATE_DIR}; "
            "make room, then try again",
        ) from None


@dataclass(frozen=True)
class _Claim:
    """Who asks for the lock, as what; see Lock."""

    holder: str
    token: int
    run: str = ""
    signed: Optional[Signed] = None
    policy: Policy = field(default_factory=Policy)


def _begin(host: Host, plan: Plan, claim: _Claim) -> tuple[Journal, bool]:
    """Open the plan's journal, then take the lock: a lock alone could not be resumed from.

    Gives the journal, and whether the plan was not open here before.
    """
    require_free(host, plan.id, claim.token, claim.run)
    was_known = host.exists(journal_path(plan.id))
    before, since = _signature_of(host, plan.id) if was_known else (None, 0.0)
    given = claim.signed or before
    accepted = signing.accept(host, plan, given, claim.policy, since if given == before else 0.0)
    with suppress(OSError) if was_known else nullcontext():
        stock(host, STATE_DIR)  # of a known plan what is left must do: going back makes room
    journal = Journal.create(host, plan)
    if accepted and given != before:
        journal.append("signed", data=signing.to_record(accepted))
    state = journal.state
    if state == "complete":
        return journal, False
    if state != "open":
        journal.append("reopened")  # else its lock would hold nothing
    take_lock(host, plan.id, claim.holder, claim.token, claim.run)
    mark_at_work(host, claim.token)
    return journal, not was_known or state != "open"


def step(host: Host, args: Args, say: Say) -> Any:
    """Run one step of a stored plan: {"plan", "step", "token"} → outcome.

    With it may come {"secrets": name → text}: what the step needs and no plan or journal may hold;
    and {"api_patience": seconds} for each request to the Kubernetes API.
    """
    secrets = args.get("secrets", {})
    if not isinstance(secrets, dict) or not all(isinstance(v, str) for v in secrets.values()):
        raise UsageError("argument 'secrets' is not an object of texts")
    patience = args.get("api_patience")
    if patience is not None and (type(patience) is not int or not 0 < patience <= MAX_API_PATIENCE):
        raise UsageError(f"argument 'api_patience' is not 1 to {MAX_API_PATIENCE} seconds")
    with only_agent(host):
        runner = Runner(host, _ours(host, args), say)
        return runner.run(_text(args, "step"), secrets, patience)


def lend_ca(host: Host, args: Args, say: Say) -> Any:
    """Give the CA of etcd for another host: {"plan", "step", "token"} → {"certificate", "key"}.

    Only to the holder of this host's lock, for a step of his plan that says so.
    """
    with only_agent(host):
        return Runner(host, _ours(host, args), say).lend(_text(args, "step"))


def _signature_of(host: Host, plan_id: str) -> tuple[Optional[Signed], float]:
    """Give the signature in a journal and its time; none of one whose first record was torn."""
    try:
        return signing.stored(Journal.open(host, plan_id))
    except Damaged:
        return None, 0.0  # or damaged for good: then it is refused when it is opened to be used


def _ours(host: Host, args: Args) -> Journal:
    """Open the journal of a plan that holds the lock with this very token: {"plan", "token"}."""
    plan_id, token = _text(args, "plan"), _number(args, "token")
    check_lock(host, plan_id, token)
    journal = Journal.open(host, plan_id)
    if journal.state != "open":
        raise Refused(
            f"{host.hostname()}: plan {journal.plan.short_id} is {journal.state}",
            "a plan that is closed has nothing left to do",
            "fab journal",
        )
    if signing.policy_here(host).required and signing.stored(journal)[0] is None:
        signing.accept_again(host, journal)  # demanded since the plan was begun
    mark_at_work(host, token)  # of an agent that follows one whose line broke
    return journal


def skip(host: Host, args: Args, say: Say) -> Any:
    """Put a step off for good: {"plan", "step", "token", "reason"} → null."""
    with only_agent(host):
        runner = Runner(host, _ours(host, args), say)
        return runner.skip(_text(args, "step"), _text(args, "reason"))


def undo(host: Host, args: Args, say: Say) -> Any:
    """Take one step back: {"plan", "step", "token"} → outcome."""
    with only_agent(host):
        return Runner(host, _ours(host, args), say).undo(_text(args, "step"))


def end(host: Host, args: Args, say: Say) -> Any:
    """Close a plan: {"plan", "token", "kind": complete or rolled-back} → null."""
    kind = _text(args, "kind")
    if kind not in ("complete", "rolled-back"):
        raise UsageError(f"a plan does not end as {kind!r}")
    with only_agent(host):
        journal = Journal.open(host, _text(args, "plan"))
        if journal.state != kind:  # else it was closed, and the answer was lost with the line
            journal = _ours(host, args)
        _close(host, journal, kind)


def _close(host: Host, journal: Journal, kind: str) -> None:
    """Close a journal and give the lock back. Raises Refused where work of the plan stands."""
    if kind == "rolled-back" and journal.touched_steps():
        raise Refused(
            f"{host.hostname()}: step {journal.touched_steps()[0]} of plan "
            f"{journal.plan.short_id} was begun and not undone",
            "a plan is rolled back only when nothing of it is left",
            f"fab rollback {journal.plan.short_id}   (or: fab resume {journal.plan.short_id})",
        )
    if journal.state != kind:
        journal.append(kind)
    release_lock(host, journal.plan.id)
    let_go(host, journal)


def leave(host: Host, args: Args, say: Say) -> Any:
    """Leave an open plan as it is: {"plan", "token"} → null; it does not go on by itself."""
    let_go(host, _ours(host, args))


def plan(host: Host, args: Args, say: Say) -> Any:
    """Give a stored plan back: {"plan": ID or its beginning} → Plan."""
    return plan_to_plain(Journal.open(host, _text(args, "plan")).plan)


def vet(host: Host, args: Args, say: Say) -> Any:
    """Read every step of a plan as if to run it: {"plan"} → null. Changes nothing."""
    vet_plan(plan_from_plain(args.get("plan")))


def signature(host: Host, args: Args, say: Say) -> Any:
    """Give the signature back that a stored plan was accepted with: {"plan"} → Signed or null."""
    return to_plain(signing.stored(Journal.open(host, _text(args, "plan")))[0])


def journal(host: Host, args: Args, say: Say) -> Any:
    """Show journals: {} → all, in short; {"plan"} → the records of one, without the plan."""
    if "plan" not in args:
        return to_plain(read_journals(host))
    records = to_plain(Journal.open(host, _text(args, "plan")).records[1:])
    for record in records:
        if record["kind"] == "signed":  # the plan once more: who signed it is what is asked
            record["data"] = {"principal": record["data"].get("principal", "")}
    return records


def restore_look(host: Host, args: Args, say: Say) -> Any:
    """Look at what a restore here rests on; see agent.entry.restore_look.look."""
    from agent.entry.restore_look import look

    return to_plain(look(host, args, say))


def restore_stage(host: Host, args: Args, say: Say) -> Any:
    """Copy a file of this host to where files are sent from: {"path"} → its path there."""
    from agent.entry.restore_look import stage

    return stage(host, _text(args, "path"))


VERBS: dict[str, Verb] = {
    f.__name__: f
    for f in (
        survey, probe, hash, lock, begin, step, lend_ca, skip, undo, end, leave, plan, vet,
        signature, journal, restore_look, restore_stage,
    )
}  # fmt: skip
VERBS.update(REQUESTS)
VERBS.update(MASTER_REQUESTS)
VERBS.update(API_REQUESTS)
VERBS.update(TIMER_REQUESTS)
VERBS.update({name: guarded(name, verb) for name, verb in MEMBER_REQUESTS.items()})


def run_single(
    host: Host, action: str, values: Args, holder: str, say: Say, dry_run: bool
) -> dict[str, Any]:
    """Run one action as a plan of one step, with the same checks, journal and undo.

    Gives {"plan": short ID, "outcome": …}; with `dry_run` only the check is made.
    """
    lone = single_step_plan(host, action, values)
    if dry_run:
        preview(host, lone, say)
        return {"plan": "", "outcome": "would run", "seconds": 0.0, "result": {}}
    with only_agent(host):
        opened, _is_new = _begin(host, lone, _Claim(holder, _next_token(host)))
        try:
            outcome = Runner(host, opened, say).run(lone.steps()[0].id)
        except RescueError:
            if not opened.touched_steps():  # refused before anything was done: nothing to resume
                _close(host, opened, "rolled-back")
            raise
        _close(host, opened, "complete")
    return {"plan": lone.short_id, **outcome}


def _next_token(host: Host) -> int:
    current = read_lock(host)
    return current.token + 1 if current else 1


def resume_here(host: Host, plan_id: str, holder: str, say: Say) -> list[dict[str, Any]]:
    """Finish the steps that were begun on this host and came to no end.

    What a plan does elsewhere, and after these steps, is the coordinator's to go on with; a plan of
    one step is complete then.
    """
    with only_agent(host):
        opened = Journal.open(host, plan_id)
        signing.accept_again(host, opened)
        take_lock(host, opened.plan.id, holder, _next_token(host))
        runner = Runner(host, opened, say)
        outcomes = [runner.run(step_id) for step_id in opened.begun_steps()]
        if opened.plan.recipe == SINGLE_STEP:
            _close(host, opened, "complete" if opened.done_steps() else "rolled-back")
    return outcomes


def rollback_here(host: Host, plan_id: str, holder: str, say: Say) -> list[dict[str, Any]]:
    """Take back, in reverse order, what a plan did on this host alone."""
    with only_agent(host):
        opened = Journal.open(host, plan_id)
        signing.accept_again(host, opened)
        take_lock(host, opened.plan.id, holder, _next_token(host))
        steps = opened.done_steps() + opened.begun_steps()
        final = [s.id for s in opened.plan.steps() if s.final and s.id in steps]
        if final:
            raise Refused(
                f"step {final[0]} of plan {opened.plan.short_id} is past the point of no return",
                "what came after it can only be finished, not taken back",
                f"fab resume {opened.plan.short_id}",
            )
        runner = Runner(host, opened, say)
        outcomes = [runner.undo(step_id) for step_id in reversed(steps)]
        _close(host, opened, "rolled-back")
    return outcomes
