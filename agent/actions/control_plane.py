"""Restarts what keeps etcd's revisions in memory: API server, controllers, scheduler, kubelet.

After a restore the revisions count on from the snapshot's. Whoever remembers later ones misses
events, and fights the restored data; a fresh start is the cure where the revision cannot be raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional

from agent.actions.base import Action, Context, Data, wait_for
from agent.errors import RescueError, StepFailed
from agent.model.facts.openshift311 import Component
from agent.platforms.openshift311 import NODE_UNITS
from agent.survey.containers import running_containers, stop_container
from agent.survey.openshift311 import read_master
from agent.survey.processes import read_service

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_KUBELET = "kubelet.service"
"""Also where it does not run etcd."""

_GRACE_SECONDS = 10
"""None of them keeps anything that a longer grace would save."""


@dataclass(frozen=True)
class RestartArgs:
    """components: names of containers or of units. deadline: seconds until all run again."""

    components: tuple[str, ...] = COMPONENTS
    deadline: float = 300.0


class RestartControlPlane(Action[RestartArgs]):
    """Stop the components' containers (or restart their units), restart the kubelet, prove it.

    The kubelet starts a static pod's container again by itself; its own restart clears a back-off.
    The proof is the time of the start, of containers that run now and of units that are active.
    What does not run before is not started.
    """

    name = "restart_control_plane"
    args_type = RestartArgs

    def is_done(self, ctx: Context, args: RestartArgs, undo: Optional[Data]) -> bool:
        return undo is not None and not _left(ctx, undo)

    def prepare(self, ctx: Context, args: RestartArgs) -> Data:
        """What must have been started after `since`, seconds of the host's clock."""
        names = {name for name, _id, _created in _running(ctx)}
        units = [f"{name}.service" for name in args.components]
        units.append(ctx.platform.kubelet_unit or _KUBELET)
        units += [f"{n}.service" for n in NODE_UNITS if ctx.platform.restart_with]
        active = [u for u in units if read_service(ctx.host, u).active == "active"]
        containers = sorted(names & set(args.components))
        parts = [c.name for c in _parts(ctx)]
        return {"since": ctx.host.now(), "containers": containers, "units": active, "parts": parts}

    def act(self, ctx: Context, args: RestartArgs, undo: Data) -> Data:
        old = [
            number
            for name, number, created in _running(ctx)
            if name in undo["containers"] and created < undo["since"]
        ]

        def stop(number: str) -> None:
            stop_container(ctx.host, number, _GRACE_SECONDS)

        with ThreadPoolExecutor(max_workers=len(old) or 1) as pool:
            list(pool.map(stop, old))
        for unit in undo["units"]:
            if read_service(ctx.host, unit).since < undo["since"]:
                ctx.host.run(["systemctl", "restart", unit], timeout=120)

        for part in _parts(ctx):
            if part.name in undo.get("parts", ()) and not _is_new(ctx, part, undo["since"]):
                ctx.host.run([ctx.platform.restart_with, part.name], timeout=120)

        def probe() -> tuple[bool, str]:
            left = _left(ctx, undo)
            return not left, f"not yet: {', '.join(left)}"

        wait_for(
            ctx.say, "the control plane to run anew", probe, args.deadline, 0.5,
            next="look at: crictl ps -a; journalctl -u kubelet",
        )  # fmt: skip
        started = [*undo["containers"], *undo["units"], *undo.get("parts", ())]
        return {"seen": f"started anew: {', '.join(started) or 'nothing runs here'}"}

    def prove(self, ctx: Context, args: RestartArgs, undo: Data) -> None:
        left = _left(ctx, undo)
        if left:
            raise StepFailed(f"not started anew: {', '.join(left)}")


def _parts(ctx: Context) -> Sequence[Component]:
    """API and controllers that the platform's own program restarts, whatever runs containers."""
    if not ctx.platform.restart_with:
        return ()
    return [c for c in read_master(ctx.host).components if c.path]


def _is_new(ctx: Context, part: Component, since: float) -> bool:
    """Whether what listens on its port was started since; true to a second."""
    started = ctx.host.listening_since(part.port)
    return started is not None and started >= since - 1.0


def _running(ctx: Context) -> Sequence[tuple[str, str, float]]:
    spaces = ctx.platform.control_plane_namespaces
    return [row for space in spaces for row in running_containers(ctx.host, space)]


def _left(ctx: Context, undo: Data) -> list[str]:
    """What has not been started since: names of containers and units."""
    since = undo["since"]
    try:
        running = _running(ctx)
    except RescueError as error:
        return [error.seen]
    old = {name for name, _id, created in running if created < since}
    new = {name for name, _id, created in running if created >= since}
    left = [name for name in undo["containers"] if name in old or name not in new]
    left += [
        part.name
        for part in _parts(ctx)
        if part.name in undo.get("parts", ()) and not _is_new(ctx, part, since)
    ]
    for unit in undo["units"]:
        service = read_service(ctx.host, unit)
        if service.active != "active" or service.since < since:
            left.append(unit)
    return left
