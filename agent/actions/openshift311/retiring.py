"""A master leaves: its node is drained, API and controllers stop, service kubernetes forgets it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Optional

from agent.actions.base import Action, Context, Data, wait_for
from agent.errors import CommandFailed, PreconditionFailed, RescueError, StepFailed
from agent.host import STATE_DIR
from agent.model.facts.openshift311 import Component
from agent.platforms.openshift311 import ADMIN_KUBECONFIG, MASTER_PODS, pods_dir
from agent.survey.openshift311 import read_master

_RETIRED = f"{STATE_DIR}/retired"
_TURN = 45
"""Seconds; a coordinator gives a step up that is silent for 180 s."""

_PASSING = ("timed out", "did not complete", "Drain did not")
"""What `oc adm drain` says where pods took longer than its --timeout."""


def oc(ctx: Context, *words: str, timeout: float = 60.0) -> str:
    """What `oc` says, as system:admin. Raises CommandFailed."""
    program = ctx.host.which("oc") or ctx.host.which("kubectl") or "oc"
    argv = [program, f"--config={ADMIN_KUBECONFIG}", *words]
    if program.endswith("kubectl"):
        argv[1] = f"--kubeconfig={ADMIN_KUBECONFIG}"
    return ctx.host.run(argv, timeout=timeout).stdout


@dataclass(frozen=True)
class DrainArgs:
    """master: the host; node: its name in the cluster; deadline: seconds for its pods to leave."""

    master: str
    node: str
    deadline: float = 600.0


class DrainNode(Action[DrainArgs]):
    """`oc adm drain`, as for any node; one that the cluster does not know is drained already."""

    name = "drain_node"
    args_type = DrainArgs

    def check(self, ctx: Context, args: DrainArgs) -> None:
        try:
            self._node(ctx, args)
        except (CommandFailed, ValueError) as error:
            raise PreconditionFailed(
                f"the API does not answer here: {str(error).splitlines()[0]}",
                "a node is drained through the API",
                "fab diagnose; make the API serve, then run this again",
            ) from None

    def _node(self, ctx: Context, args: DrainArgs) -> Optional[dict[str, Any]]:
        nodes = json.loads(oc(ctx, "get", "nodes", "-o", "json")).get("items", [])
        return next((n for n in nodes if n["metadata"]["name"] == args.node), None)

    def is_done(self, ctx: Context, args: DrainArgs, undo: Optional[Data]) -> bool:
        return False  # what is drained is drained again at once

    def prepare(self, ctx: Context, args: DrainArgs) -> Data:
        node = self._node(ctx, args)
        return {"was_off": bool(node and node.get("spec", {}).get("unschedulable"))}

    def act(self, ctx: Context, args: DrainArgs, undo: Data) -> Data:
        if self._node(ctx, args) is None:
            return {"seen": f"the cluster has no node {args.node}"}
        told: list[str] = []

        def attempt() -> tuple[bool, str]:
            return self._drain(ctx, args, told)

        next = "look at: oc get pods --all-namespaces -o wide; then: fab resume"
        wait_for(ctx.say, f"{args.node} to be drained", attempt, args.deadline, 1.0, next=next)
        return {"seen": told[-1] if told else ""}

    def _drain(self, ctx: Context, args: DrainArgs, told: list[str]) -> tuple[bool, str]:
        """Drain for a while: whoever waits for the step hears of it in between.

        `oc` gives up at its own --timeout and can be asked again. Raises StepFailed for any other
        refusal.
        """
        words = ("--force", "--delete-local-data", "--ignore-daemonsets", f"--timeout={_TURN}s")
        try:
            said = oc(ctx, "adm", "drain", args.node, *words, timeout=_TURN + 60)
        except CommandFailed as error:
            if not any(word in error.seen for word in _PASSING):
                raise StepFailed(
                    f"{args.node} is not drained: {error.seen[-600:]}",
                    "pods that are still there would end with it",
                    "look at: oc get pods --all-namespaces -o wide; then: fab resume",
                ) from None
            return False, error.seen.strip().splitlines()[-1][-200:]
        told += said.strip().splitlines()
        return True, "drained"

    def prove(self, ctx: Context, args: DrainArgs, undo: Data) -> None:
        node = self._node(ctx, args)
        if node is not None and not node.get("spec", {}).get("unschedulable"):
            raise StepFailed(f"node {args.node} still takes pods")

    def undo(self, ctx: Context, args: DrainArgs, undo: Data) -> None:
        if not undo["was_off"] and self._node(ctx, args) is not None:
            oc(ctx, "adm", "uncordon", args.node)


@dataclass(frozen=True)
class ParkMasterArgs:
    """by_hand: the operator took it off a load balancer that is no haproxy. deadline: seconds."""

    by_hand: bool = False
    deadline: float = 90.0


class ParkMaster(Action[ParkMasterArgs]):
    """Move the definitions of API and controllers out of the watched directory, and see them end.

    Into our own directory, not below the watched one: nothing that reads that one finds them.
    """

    name = "park_master"
    args_type = ParkMasterArgs

    def check(self, ctx: Context, args: ParkMasterArgs) -> None:
        begun = f"{ctx.plan}-{ctx.step}-"
        is_ours = any(name.startswith(begun) for name in ctx.host.listdir(_RETIRED))
        if not is_ours and not any(c.path for c in read_master(ctx.host).components):
            raise PreconditionFailed(
                f"{ctx.host.hostname()} has neither API nor controllers in its watched directory",
                "there is nothing to stop",
                "fab survey",
            )

    def is_done(self, ctx: Context, args: ParkMasterArgs, undo: Optional[Data]) -> bool:
        return undo is not None and self._probe(ctx)[0]

    def prepare(self, ctx: Context, args: ParkMasterArgs) -> Data:
        paths = [c.path for c in read_master(ctx.host).components if c.path]
        return {"moved": [{"from": p, "to": self._place(ctx, p)} for p in paths]}

    def _place(self, ctx: Context, path: str) -> str:
        return f"{_RETIRED}/{ctx.plan}-{ctx.step}-{os.path.basename(path)}"

    def act(self, ctx: Context, args: ParkMasterArgs, undo: Data) -> Data:
        ctx.host.makedirs(_RETIRED)
        for move in undo["moved"]:
            if ctx.host.exists(move["from"]):
                ctx.host.move_new(move["from"], move["to"])

        def probe() -> tuple[bool, str]:
            return self._probe(ctx)

        seen = wait_for(ctx.say, "API and controllers to end", probe, args.deadline, 0.2, hold=0.5)
        return {"moved": [move["to"] for move in undo["moved"]], "seen": seen}

    def _probe(self, ctx: Context) -> tuple[bool, str]:
        directory = pods_dir(ctx.host)
        there = [n for n in MASTER_PODS.values() if ctx.host.exists(f"{directory}/{n}")]
        if there:
            return False, f"{directory}/{there[0]} is in place"
        components: tuple[Component, ...] = read_master(ctx.host).components
        left = sorted({c.port for c in components} & ctx.host.listening_ports())
        if left:
            return False, f"something listens on port {left[0]}"
        return True, "their definitions are out of the directory, and nothing listens"

    def prove(self, ctx: Context, args: ParkMasterArgs, undo: Data) -> None:
        stopped, seen = self._probe(ctx)
        if not stopped:
            raise StepFailed(f"API and controllers are not stopped: {seen}")

    def undo(self, ctx: Context, args: ParkMasterArgs, undo: Data) -> None:
        for move in undo["moved"]:
            if ctx.host.exists(move["to"]):
                ctx.host.move_new(move["to"], move["from"])


@dataclass(frozen=True)
class EndpointsArgs:
    """gone: addresses that service kubernetes must not have; deadline: seconds for its leases."""

    gone: tuple[str, ...]
    deadline: float = 90.0


class VerifyEndpoints(Action[EndpointsArgs]):
    """Wait until the endpoints of default/kubernetes name none of the addresses."""

    name = "verify_endpoints"
    args_type = EndpointsArgs

    def check(self, ctx: Context, args: EndpointsArgs) -> None:
        if not (ctx.host.which("oc") or ctx.host.which("kubectl")):
            raise PreconditionFailed(
                f"{ctx.host.hostname()} has neither oc nor kubectl",
                "the endpoints are read through the API",
                "look from another machine: oc get endpoints kubernetes -n default",
            )

    def is_done(self, ctx: Context, args: EndpointsArgs, undo: Optional[Data]) -> bool:
        return self._probe(ctx, args)[0]

    def act(self, ctx: Context, args: EndpointsArgs, undo: Data) -> Data:
        def probe() -> tuple[bool, str]:
            return self._probe(ctx, args)

        next = "look at: oc describe svc kubernetes -n default"
        what = "service kubernetes to forget the master"
        return {"seen": wait_for(ctx.say, what, probe, args.deadline, 0.5, next=next)}

    def _probe(self, ctx: Context, args: EndpointsArgs) -> tuple[bool, str]:
        try:
            said = json.loads(
                oc(ctx, "get", "endpoints", "kubernetes", "-n", "default", "-o", "json")
            )
            rows = [a["ip"] for s in said["subsets"] for a in s.get("addresses", ())]
        except (RescueError, ValueError, KeyError, TypeError) as error:
            return False, f"the endpoints cannot be read: {str(error).splitlines()[0][:200]}"
        left = sorted(set(rows) & set(args.gone))
        if not rows:
            return False, "it has no endpoints at all"
        shown = ", ".join(rows)
        return not left, f"endpoints: {shown}"
