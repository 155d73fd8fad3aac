"""Change the membership: by ID, re-read just now, with the quorum computed before and after."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlsplit

from agent.actions.base import Action, Context, Data, wait_for
from agent.actions.definitions import current_config
from agent.diagnosis.quorum import quorum
from agent.errors import PreconditionFailed, RescueError, StepFailed, Timeout
from agent.etcd.client import EtcdClient
from agent.etcd.transport import real_files
from agent.model.facts import EtcdConfig, Member
from agent.survey.online import local_endpoint
from agent.survey.watched import read_watched

START_SECONDS = 30.0
"""An etcd that listens later than this after its host's boot is not about to start."""


@dataclass(frozen=True)
class MemberArgs:
    """Which member: its peer URLs, and its name (a learner that never started has none)."""

    name: str
    peer_urls: tuple[str, ...]


@dataclass(frozen=True)
class RemoveArgs:
    """Which member: ID, name and peer URLs must all match what is read just before."""

    id: str
    name: str
    peer_urls: tuple[str, ...]


def local_client(ctx: Context, timeout: float = 5.0) -> EtcdClient:
    """Give a client of the etcd on this host."""
    config = current_config(ctx)
    files = real_files(ctx.host, config.client_tls)
    return EtcdClient(local_endpoint(config), files, timeout=timeout)


def _started_client(ctx: Context) -> EtcdClient:
    """Give a client of the etcd on this host, which is waited for where it is about to start."""
    _let_it_start(ctx, local_endpoint(current_config(ctx)))
    return local_client(ctx)


def _let_it_start(ctx: Context, endpoint: str) -> None:
    """Wait while nothing listens there though etcd should run: the host may have just booted.

    Says nothing of why it does not come: who asks it then is told that.
    """
    url = urlsplit(endpoint)
    address = (url.hostname or "", url.port or 2379)

    def probe() -> tuple[bool, str]:
        try:
            socket.create_connection(address, 1.0).close()
        except ConnectionRefusedError:
            return read_watched(ctx.host, ctx.platform)[0] is None, f"nothing listens at {endpoint}"
        except OSError:
            pass
        return True, ""

    with suppress(Timeout):
        wait_for(ctx.say, "the etcd on this host to listen", probe, START_SECONDS)


def _by_peer_urls(members: tuple[Member, ...], urls: tuple[str, ...]) -> Optional[Member]:
    return next((m for m in members if set(m.peer_urls) & set(urls)), None)


def _serving(ctx: Context, config: EtcdConfig, members: tuple[Member, ...]) -> set[str]:
    """IDs of voters whose client URL answers with that very ID now."""
    found, files = set(), real_files(ctx.host, config.client_tls)
    for member in members:
        for url in () if member.is_learner else member.client_urls[:1]:
            try:
                with EtcdClient(url, files, timeout=1.0) as client:
                    if client.status().member_id == member.id:
                        found.add(member.id)
            except RescueError:
                continue
    return found


def _require_quorum_without(
    ctx: Context, config: EtcdConfig, members: tuple[Member, ...], id: str
) -> None:
    """Raise PreconditionFailed unless the voters left would still have a quorum that serves."""
    rest = tuple(m for m in members if m.id != id and not m.is_learner)
    serving = _serving(ctx, config, rest)
    if not rest or len(serving) < quorum(len(rest)):
        raise PreconditionFailed(
            f"without {id} there are {len(rest)} voters, of which {len(serving)} serve; "
            f"{quorum(len(rest)) if rest else 1} are needed",
            "the removal would cost the cluster its quorum",
            "bring another member back first: fab diagnose",
        )


def others_serving(ctx: Context) -> tuple[int, int]:
    """Give (other voters that answer now, voters in all); (0, 0) where the local one has no quorum.

    A member may restart only where the others are a quorum of all, itself included.
    """
    config = current_config(ctx)
    try:
        with local_client(ctx) as client:
            members = client.members(linearizable=True)
            own = client.status().member_id
    except RescueError:
        return 0, 0
    others = _serving(ctx, config, tuple(m for m in members if m.id != own))
    return len(others), sum(not m.is_learner for m in members)


class RemoveMember(Action[RemoveArgs]):
    """Remove one member, by an ID that was re-read and matches name and peer URL."""

    name = "member_remove"
    args_type = RemoveArgs

    def check(self, ctx: Context, args: RemoveArgs) -> None:
        config = current_config(ctx)
        with _started_client(ctx) as client:
            members = client.members(linearizable=True)
            status = client.status()
        found = next((m for m in members if m.id == args.id), None)
        if found is None:
            return  # already gone: `is_done` says so
        if (found.name and found.name != args.name) or set(found.peer_urls) != set(args.peer_urls):
            raise PreconditionFailed(
                f"member {args.id} is {found.name or '(unnamed)'} at {', '.join(found.peer_urls)}, "
                f"not {args.name} at {', '.join(args.peer_urls)}",
                "the membership changed since the plan was made",
                "make a new plan: fab plan",
            )
        if args.id == status.member_id:
            raise PreconditionFailed(
                f"member {args.id} is the one on this host",
                "a member is never removed through itself",
                "run it on another member",
            )
        if not found.is_learner:
            _require_quorum_without(ctx, config, members, args.id)

    def is_done(self, ctx: Context, args: RemoveArgs, undo: Optional[Data]) -> bool:
        with _started_client(ctx) as client:
            return all(m.id != args.id for m in client.members(linearizable=True))

    def act(self, ctx: Context, args: RemoveArgs, undo: Data) -> Data:
        if self.is_done(ctx, args, undo):
            return {"removed": args.id, "found": "already gone"}
        with _started_client(ctx) as client:
            status = client.status()
            if status.leader_id == args.id:
                client.transfer_leadership(status.member_id)

            def remove() -> str:
                client.member_remove(args.id)
                return args.id

            _once_accepted(ctx, f"etcd to let member {args.id} go", remove, ("unhealthy",), 60)
        return {"removed": args.id}

    def prove(self, ctx: Context, args: RemoveArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"member {args.id} is still in the list")


def _once_accepted(
    ctx: Context, what: str, change: Callable[[], str], passing: Sequence[str], deadline: float
) -> str:
    """Try a change of the membership until etcd takes it; give what `change` gives.

    etcd refuses changes while members have not been connected for 5 s (HealthInterval of its
    server/etcdserver/server.go); an error with a word of `passing` is such a refusal, all others
    are raised.
    """

    def attempt() -> tuple[bool, str]:
        try:
            return True, change()
        except RescueError as error:
            if not any(word in error.seen for word in passing):
                raise
            return False, error.seen

    return wait_for(ctx.say, what, attempt, deadline, 0.2)


def _require_learners(ctx: Context, version: str, members: tuple[Member, ...]) -> None:
    """Raise PreconditionFailed where etcd has no learners, and a voter more would cost the quorum.

    Before 3.4 etcd does not know what a learner is, and adds a voter instead (etcdserverpb,
    MemberAddRequest: is_learner came with 3.4). One that has not started yet is no harm where the
    others are a quorum of all.
    """
    numbers = version.split(".")[:2]
    if not all(n.isdigit() for n in numbers) or [int(n) for n in numbers] >= [3, 4]:
        return
    voters = tuple(m for m in members if not m.is_learner)
    serving = len(_serving(ctx, current_config(ctx), voters))
    if serving < quorum(len(voters) + 1):
        raise PreconditionFailed(
            f"etcd {version} has no learners; {serving} of {len(voters) + 1} voters would serve",
            "a new voter counts at once: the cluster would serve nobody until it has joined",
            "add it by hand, in a quiet hour: etcdctl member add, then start it with that list",
        )


class AddLearner(Action[MemberArgs]):
    """Add a member as a learner: it has no vote, so the quorum cannot suffer from it."""

    name = "member_add_learner"
    args_type = MemberArgs

    def check(self, ctx: Context, args: MemberArgs) -> None:
        with _started_client(ctx) as client:
            members = client.members(linearizable=True)
            version = client.status().version
        _require_learners(ctx, version, members)
        other = next((m for m in members if m.is_learner), None)
        if other and not set(other.peer_urls) & set(args.peer_urls):
            raise PreconditionFailed(
                f"learner {other.id} at {', '.join(other.peer_urls)} is on its way",
                "etcd takes one learner at a time",
                "finish or remove that one first: fab diagnose",
            )
        same = _by_peer_urls(members, args.peer_urls)
        if same and not same.is_learner:
            raise PreconditionFailed(
                f"member {same.id} ({same.name or 'unnamed'}) has the peer URL of {args.name}",
                "it must be removed before the host can join anew",
                "make a new plan: fab plan",
            )

    def is_done(self, ctx: Context, args: MemberArgs, undo: Optional[Data]) -> bool:
        with _started_client(ctx) as client:
            return _by_peer_urls(client.members(linearizable=True), args.peer_urls) is not None

    def act(self, ctx: Context, args: MemberArgs, undo: Data) -> Data:
        with _started_client(ctx) as client:

            def add() -> str:
                found = _by_peer_urls(client.members(linearizable=True), args.peer_urls)
                return (found or client.member_add(args.peer_urls, learner=True)).id

            passing = ("unhealthy", "not ready")
            added = _once_accepted(ctx, "etcd to accept a new member", add, passing, 60)
        return {"id": added}

    def undo(self, ctx: Context, args: MemberArgs, undo: Data) -> None:
        with _started_client(ctx) as client:
            found = _by_peer_urls(client.members(linearizable=True), args.peer_urls)
            if found is not None and found.is_learner:
                client.member_remove(found.id)


@dataclass(frozen=True)
class PromoteArgs:
    """Which learner, and seconds until it must be in step."""

    name: str
    peer_urls: tuple[str, ...]
    deadline: float = 120.0


class Promote(Action[PromoteArgs]):
    """Make the learner a voter, once the leader says that it is in step."""

    name = "member_promote"
    args_type = PromoteArgs

    def check(self, ctx: Context, args: PromoteArgs) -> None:
        with _started_client(ctx) as client:
            found = _by_peer_urls(client.members(linearizable=True), args.peer_urls)
        if found is None or not found.name:
            raise PreconditionFailed(
                f"{args.name} is {'no member' if not found else 'a learner that never started'}",
                "promoted now it would be a voter that does not run",
                "fab resume",
            )

    def is_done(self, ctx: Context, args: PromoteArgs, undo: Optional[Data]) -> bool:
        with _started_client(ctx) as client:
            found = _by_peer_urls(client.members(linearizable=True), args.peer_urls)
        return found is not None and not found.is_learner

    def act(self, ctx: Context, args: PromoteArgs, undo: Data) -> Data:
        with _started_client(ctx) as client:

            def promote() -> str:
                found = _by_peer_urls(client.members(linearizable=True), args.peer_urls)
                if found is None:
                    raise StepFailed(f"learner {args.name} vanished from the member list")
                if found.is_learner:
                    client.member_promote(found.id)
                return found.id

            passing, what = ("in sync", "unhealthy"), "the learner to be in step"
            promoted = _once_accepted(ctx, what, promote, passing, args.deadline)
        return {"id": promoted}

    def prove(self, ctx: Context, args: PromoteArgs, undo: Data) -> None:
        if not self.is_done(ctx, args, undo):
            raise StepFailed(f"{args.name} is not a voter")
