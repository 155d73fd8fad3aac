"""What every remaining host of a smaller cluster needs: etcd.conf, flannel, API and controllers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from agent.actions.base import Action, Context, Data, wait_for
from agent.actions.edits import InitialClusterArgs, SetInitialCluster
from agent.actions.kinds import kind_of
from agent.actions.openshift311.edit_file import EditFile
from agent.errors import CommandFailed, PreconditionFailed, StepFailed
from agent.survey import flannel
from agent.survey.healthz import healthy
from agent.survey.openshift311 import read_master
from agent.survey.processes import read_service

FLANNELD = "flanneld.service"


class SetConfMembers(SetInitialCluster):
    """Write the members of now into etcd.conf; etcd reads them in an empty data directory only."""

    name = "set_conf_members"
    args_type = InitialClusterArgs

    def check(self, ctx: Context, args: Data) -> None:
        if kind_of(ctx).restarts_when_changed:
            raise PreconditionFailed(
                f"etcd on {ctx.host.hostname()} has its settings in a manifest",
                "a change of it restarts etcd, which this step must not",
                "make a new plan: fab remove-member",
            )
        super().check(ctx, args)


@dataclass(frozen=True)
class FlannelArgs:
    """gone: hosts, as names and addresses, whose URLs leave."""

    gone: tuple[str, ...]


class SetFlannelEndpoints(EditFile):
    """Take an etcd out of flannel's endpoints, and restart flanneld where it runs."""

    name = "set_flannel_endpoints"
    args_type = FlannelArgs

    def path(self, ctx: Context, args: FlannelArgs) -> str:
        return flannel.FILE

    def changed(self, ctx: Context, args: FlannelArgs, text: str) -> str:
        return flannel.without_endpoints(text, args.gone)

    def unit(self, ctx: Context, args: FlannelArgs) -> str:
        return FLANNELD

    def is_active(self, ctx: Context, args: FlannelArgs, since: float) -> bool:
        """One that does not run is not started: it was off before."""
        service = read_service(ctx.host, FLANNELD, 10.0)
        return service.active in ("", "inactive", "not-found") or (
            service.active == "active" and service.since >= since
        )

    def prepare(self, ctx: Context, args: FlannelArgs) -> Data:
        service = read_service(ctx.host, FLANNELD, 10.0)
        return {**super().prepare(ctx, args), "was": service.active}


@dataclass(frozen=True)
class RestartArgs:
    """component: api or controllers; deadline: seconds until it is healthy again."""

    component: str
    deadline: float = 180.0


class RestartMaster(Action[RestartArgs]):
    """`master-restart COMPONENT`, and wait until what listens is new and says that it is healthy.

    Its /healthz is asked on this host, as its own liveness probe does.
    """

    name = "restart_master"
    args_type = RestartArgs

    def check(self, ctx: Context, args: RestartArgs) -> None:
        if args.component not in ("api", "controllers"):
            raise PreconditionFailed(f"{args.component!r} is neither api nor controllers")
        if not _component(ctx, args.component).path:
            raise PreconditionFailed(
                f"{ctx.host.hostname()} has no definition of {args.component} in place",
                "what nothing starts again is not stopped",
                "make a new plan",
            )
        if not ctx.host.which("master-restart"):
            raise PreconditionFailed(
                "no `master-restart` on this host",
                "it is how OpenShift 3.11 restarts its static pods",
                f"restart the {args.component} by hand, then: fab resume",
            )

    def is_done(self, ctx: Context, args: RestartArgs, undo: Optional[Data]) -> bool:
        return undo is not None and self._probe(ctx, args, undo)[0]

    def prepare(self, ctx: Context, args: RestartArgs) -> Data:
        return {"since": ctx.host.now()}

    def act(self, ctx: Context, args: RestartArgs, undo: Data) -> Data:
        if not self._is_new(ctx, args, undo):
            try:
                ctx.host.run(["master-restart", args.component], timeout=120)
            except CommandFailed as error:
                raise StepFailed(error.seen, "the next master waits for this one") from None

        def probe() -> tuple[bool, str]:
            return self._probe(ctx, args, undo)

        look = f"look at: master-logs {args.component} {args.component}"
        seen = wait_for(
            ctx.say, f"the {args.component} to be healthy", probe, args.deadline, 0.2, next=look
        )
        return {"seen": seen}

    def _is_new(self, ctx: Context, args: RestartArgs, undo: Data) -> bool:
        started = ctx.host.listening_since(_component(ctx, args.component).port)
        return started is not None and started >= undo["since"] - 1.0  # /proc counts in ticks

    def _probe(self, ctx: Context, args: RestartArgs, undo: Data) -> tuple[bool, str]:
        port = _component(ctx, args.component).port
        if not self._is_new(ctx, args, undo):
            return False, f"nothing new listens on port {port}"
        return healthy(port)

    def prove(self, ctx: Context, args: RestartArgs, undo: Data) -> None:
        reached, seen = self._probe(ctx, args, undo)
        if not reached:
            raise StepFailed(f"the {args.component} is not healthy: {seen}")


def _component(ctx: Context, name: str) -> Any:
    return next(c for c in read_master(ctx.host).components if c.name == name)
