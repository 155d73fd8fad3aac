"""Stop etcd and prove it, restart the kubelet, wait until etcd serves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, NoArgs, wait_for
from agent.actions.definitions import current_config
from agent.actions.kinds import kind_of
from agent.errors import PreconditionFailed, RescueError, Timeout
from agent.etcd.client import EtcdClient
from agent.etcd.transport import Connection, real_files
from agent.survey.online import local_endpoint, local_peer_urls
from agent.survey.processes import etcd_processes
from agent.survey.watched import read_watched

_LINGERING = 2.0
"""Seconds that a pod may stay after its etcd has ended: one of a single container takes less."""


def _still_runs(ctx: Context) -> str:
    """What makes etcd run, or is it, in words; empty where neither is left."""
    watched, _strays, _problems = read_watched(ctx.host, ctx.platform)
    if watched is not None:
        return f"its definition is in place: {watched.definition}"
    running = [p for p in etcd_processes(ctx.host) if not p.scratch]
    return f"process {running[0].pid} runs" if running else ""


def stopped_now(ctx: Context) -> tuple[bool, str]:
    """Say whether etcd is stopped by the whole rule, and what was seen.

    The cheap signs first: the runtime is asked only when no process and no port is left.
    """
    seen = _still_runs(ctx)
    return (False, seen) if seen else kind_of(ctx).still(ctx)


class _Ending:
    """A stop under way: what etcd leaves behind is ended too, once etcd itself is gone for good.

    A pod may have containers that wait out their grace, 30 s on OpenShift 4, with etcd long ended.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx, self._gone, self._is_ended = ctx, 0.0, False

    def look(self) -> tuple[bool, str]:
        """(whether all is stopped, what is seen)."""
        seen, now = _still_runs(self._ctx), time.monotonic()
        if seen:
            self._gone = 0.0
            return False, seen
        stopped, seen = kind_of(self._ctx).still(self._ctx)
        self._gone = self._gone or now
        if not stopped and not self._is_ended and now - self._gone >= _LINGERING:
            self._is_ended = True
            kind_of(self._ctx).end_leftovers(self._ctx)
        return stopped, seen


def require_stopped(ctx: Context) -> None:
    """Raise PreconditionFailed unless etcd is proved stopped on this host."""
    stopped, seen = stopped_now(ctx)
    if not stopped:
        raise PreconditionFailed(
            f"etcd is not stopped on {ctx.host.hostname()}: {seen}",
            "data that an etcd may be writing to is neither copied nor moved",
            "rescue-agent park-definition, then rescue-agent stop-etcd",
        )


@dataclass(frozen=True)
class StopArgs:
    """deadline: seconds; hold: seconds for which it must stay stopped."""

    deadline: float = 60.0
    hold: float = 0.3


class StopEtcd(Action[StopArgs]):
    """Wait until what runs etcd (the kubelet, systemd) has ended it; else end it by force.

    "No running container" is not "stopped": between two attempts of a crash loop there is none.
    """

    name = "stop_etcd"
    args_type = StopArgs

    def check(self, ctx: Context, args: StopArgs) -> None:
        config, strays, _problems = read_watched(ctx.host, ctx.platform)
        if config is not None or strays:
            path = config.definition if config else strays[0].path
            raise PreconditionFailed(
                f"{path} still makes etcd run",
                "what is stopped would be started again",
                "rescue-agent park-definition",
            )

    def is_done(self, ctx: Context, args: StopArgs, undo: Optional[Data]) -> bool:
        return stopped_now(ctx)[0]

    def act(self, ctx: Context, args: StopArgs, undo: Data) -> Data:
        return {"seen": stop(ctx, args.deadline, args.hold)}


def stop(ctx: Context, deadline: float = 60.0, hold: float = 0.3) -> str:
    """Wait until etcd is stopped and stays so for `hold` seconds; give what was seen.

    What runs it has its turn; what does not end then is ended by force. Raises Timeout.
    """
    kind, ending = kind_of(ctx), _Ending(ctx)
    turn = min(deadline, kind.begin_stop(ctx))
    try:
        return wait_for(ctx.say, "etcd to stop", ending.look, turn, hold=hold)
    except Timeout:
        kind.end_by_force(ctx)
    look = "look at: fab survey; ss -ltnp 'sport = :2379'"
    return wait_for(ctx.say, "etcd to stop", ending.look, deadline, hold=hold, next=look)


class RestartKubelet(Action[NoArgs]):
    """Restart the kubelet, which alone clears its back-off; of a unit, reset its start limit."""

    name = "restart_kubelet"
    args_type = NoArgs

    def check(self, ctx: Context, args: NoArgs) -> None:
        config, _strays, _problems = read_watched(ctx.host, ctx.platform)
        if config is not None:
            raise PreconditionFailed(
                f"{config.definition} is in place",
                "the restart would start etcd before its data is ready",
                "rescue-agent park-definition",
            )

    def is_done(self, ctx: Context, args: NoArgs, undo: Optional[Data]) -> bool:
        return False  # restarting twice does no harm; not restarting costs five minutes

    def act(self, ctx: Context, args: NoArgs, undo: Data) -> Data:
        kind_of(ctx).clear_backoff(ctx)
        return {}


def require_in_place(ctx: Context) -> None:
    """Raise PreconditionFailed unless something on this host starts etcd."""
    if read_watched(ctx.host, ctx.platform)[0] is None:
        raise PreconditionFailed(
            f"{ctx.host.hostname()}: no etcd definition is in place",
            "what nothing starts is waited for in vain",
            "rescue-agent unpark-definition",
        )


@dataclass(frozen=True)
class ServeArgs:
    """deadline: seconds. learner: of a learner, which serves no such read, its status is enough."""

    deadline: float = 120.0
    learner: bool = False


class WaitServing(Action[ServeArgs]):
    """Wait until the local etcd answers a read through the quorum (a learner: its status)."""

    name = "wait_serving"
    args_type = ServeArgs

    def check(self, ctx: Context, args: ServeArgs) -> None:
        require_in_place(ctx)

    def is_done(self, ctx: Context, args: ServeArgs, undo: Optional[Data]) -> bool:
        return self.probe(ctx, args)[0]

    def act(self, ctx: Context, args: ServeArgs, undo: Data) -> Data:
        def probe() -> tuple[bool, str]:
            return self.probe(ctx, args)

        seen = wait_for(
            ctx.say,
            "etcd to serve",
            probe,
            args.deadline,
            next="fab survey   (says why it does not)",
        )
        return {"seen": seen}

    def probe(self, ctx: Context, args: ServeArgs) -> tuple[bool, str]:
        """Whether it serves as asked, and what is seen."""
        config = current_config(ctx)
        try:
            files = real_files(ctx.host, config.client_tls)
            with EtcdClient(local_endpoint(config), files, timeout=1.0) as client:
                status = client.status()
                if status.is_learner:
                    reached, missing = args.learner, "it is a learner still"
                else:
                    # A learner that was waited for may be a voter by now, when this is repeated.
                    reached, missing = client.linearizable_read(), "it answers, but has no quorum"
                told = f"revision {status.revision}, term {status.raft_term}"
                return reached, told if reached else missing
        except RescueError as error:
            return False, error.seen


@dataclass(frozen=True)
class PeerPortArgs:
    """patience: seconds after which the next member is started all the same."""

    patience: float = 10.0


class WaitPeerPort(Action[PeerPortArgs]):
    """Wait until the local etcd answers its peers; whether there is a quorum is another question.

    It only spares the next member a wait, so that one that does not come holds up nobody.
    """

    name = "wait_peer_port"
    args_type = PeerPortArgs

    def check(self, ctx: Context, args: PeerPortArgs) -> None:
        require_in_place(ctx)

    def is_done(self, ctx: Context, args: PeerPortArgs, undo: Optional[Data]) -> bool:
        return answers_peers(ctx)[0]

    def act(self, ctx: Context, args: PeerPortArgs, undo: Data) -> Data:
        try:
            seen = wait_for(
                ctx.say, "etcd to answer its peers", lambda: answers_peers(ctx), args.patience
            )
        except Timeout as late:
            return {"seen": f"{late.seen}; the others are started all the same"}
        return {"seen": seen}


def answers_peers(ctx: Context) -> tuple[bool, str]:
    """Whether the local etcd's peer port answers a request at all, and what was seen."""
    config = current_config(ctx)
    url = local_peer_urls(config)[0]
    try:
        with Connection(url, real_files(ctx.host, config.peer_tls)) as connection:
            reply = connection.call("GET", "/version", b"", 1.0)
    except RescueError as error:
        return False, error.seen
    return reply.status == 200, f"{url} answers with status {reply.status}"
