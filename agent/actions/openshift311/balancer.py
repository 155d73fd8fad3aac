"""Take a master out of haproxy, with the new file tried out before, and used after."""

from __future__ import annotations

from dataclasses import dataclass

from agent.actions.base import Context, Data, wait_for
from agent.actions.edits import as_bytes, former_text
from agent.actions.openshift311.edit_file import EditFile
from agent.errors import CommandFailed, PreconditionFailed, RescueError, StepFailed
from agent.host import STATE_DIR
from agent.survey import haproxy
from agent.survey.healthz import healthy
from agent.survey.processes import read_service
from agent.survey.unit import read_text

UNIT = "haproxy.service"
_HARDLY = 30.0
"""Seconds that haproxy's own checks may take to find the servers that stay."""


@dataclass(frozen=True)
class BalancerArgs:
    """master: the host that leaves; addresses: by which its server lines name it; path: the file.

    api_port: of the API behind it; what leads there is asked for /healthz afterwards.
    """

    master: str
    addresses: tuple[str, ...]
    path: str = haproxy.FILE
    api_port: int = 8443


class RemoveBackend(EditFile):
    """`haproxy -c` on the new file, then it replaces the old one; restart; connect through it.

    Where the last fails, the old file is put back and haproxy restarted before that is told.
    """

    name = "remove_backend"
    args_type = BalancerArgs

    def path(self, ctx: Context, args: BalancerArgs) -> str:
        return args.path

    def changed(self, ctx: Context, args: BalancerArgs, text: str) -> str:
        return haproxy.without_host(text, (args.master, *args.addresses), args.path)

    def unit(self, ctx: Context, args: BalancerArgs) -> str:
        return UNIT

    def is_active(self, ctx: Context, args: BalancerArgs, since: float) -> bool:
        service = read_service(ctx.host, UNIT, 10.0)
        return service.active == "active" and service.since >= since

    def check(self, ctx: Context, args: BalancerArgs) -> None:
        """The present file must be a good one: what is wrong already is nobody's change."""
        super().check(ctx, args)
        if read_service(ctx.host, UNIT, 10.0).active != "active":
            raise PreconditionFailed(
                f"{UNIT} does not run on {ctx.host.hostname()}",
                "whether clients get through it could not be tried",
                f"systemctl start {UNIT}, or --lb with the host that it runs on",
            )
        try:
            self.try_out(ctx, args, read_text(ctx.host, args.path))
        except StepFailed as error:
            raise PreconditionFailed(error.seen, error.why, error.next) from None

    def try_out(self, ctx: Context, args: BalancerArgs, text: str) -> None:
        folder = f"{STATE_DIR}/work"
        place = f"{folder}/{ctx.plan}-{ctx.step}-haproxy.cfg"
        ctx.host.makedirs(folder)
        ctx.host.write_atomic(place, as_bytes(text))
        try:
            ctx.host.run(["haproxy", "-c", "-f", place], timeout=30)
        except CommandFailed as error:
            raise StepFailed(
                f"haproxy does not take {args.path}: {haproxy.first_problem(error.seen) or error}",
                "a file that it does not take would keep it from starting",
                f"look at: haproxy -c -f {args.path}",
            ) from None
        finally:
            ctx.host.discard(place)

    def act(self, ctx: Context, args: BalancerArgs, undo: Data) -> Data:
        before = former_text(ctx, undo["file"], read_text(ctx.host, args.path))
        gone = haproxy.of_host(before, (args.master, *args.addresses))
        done = super().act(ctx, args, undo)
        try:
            tested = self._connect(ctx, args, before)
        except RescueError as error:
            self.undo(ctx, args, undo)
            error.why = f"{args.path} is as it was, and haproxy runs with it"
            raise
        rows = [f"{server.section}: {' '.join(server.line.words)}" for server in gone]
        return {**done, "removed": rows, "connected": tested}

    def _connect(self, ctx: Context, args: BalancerArgs, before: str) -> list[int]:
        """Ask /healthz through every port that leads to the API; give the ports."""
        gone = haproxy.of_host(before, (args.master, *args.addresses), args.api_port)
        ports = haproxy.ports_to(before, {server.section for server in gone})
        for port in ports:

            def probe(port: int = port) -> tuple[bool, str]:
                return healthy(port)

            wait_for(ctx.say, f"an API behind haproxy's port {port}", probe, _HARDLY, 0.2)
        return ports
