"""The faults: what befalls a run while one of its agents stands at a point."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

from tests.faults import gate
from tests.faults.points import Point
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.operator import Running, ssh_sessions

SINGLE = ("agent-kill", "coordinator-kill", "ssh-cut", "power-cut")
SWEEPS = {
    "coordinator-sweep": "coordinator-kill", "ssh-sweep": "ssh-cut", "power-sweep": "power-cut",
    "agent-sweep": "agent-kill",
}  # fmt: skip
"""What each is made of. One trial strikes once in every step: the k-th at their k-th points."""

REPEATED = ("agent-kills", "rollback-kills")
"""Many in one trial: every third point of the run, or of a rollback from its last safe moment."""

WHOLE = (*SWEEPS, *REPEATED)
"""What the matrix is made of, unless it is asked for a kind: they come by every point."""

KINDS = (*WHOLE, *SINGLE)
SHARES = 3
HOWS = ("reattach", "resume", "rollback")
"""Afterwards: the same run goes on by itself; it dies too and `resume` goes on; or `rollback`."""

_CUT_SECONDS = 3.0


@dataclass(frozen=True)
class Fault:
    """One kind of fault at one point (its key), and what is done about it.

    keys: of a sweep, the points at which it strikes; its own key is *:NUMBER.
    """

    kind: str
    key: str
    how: str
    keys: tuple[str, ...] = ()


def faults_of(kind: str, points: list[Point]) -> list[Fault]:
    """Every fault of a kind that an enumeration of points gives, with the ways out in turn.

    agent-kill: at every point. coordinator-kill: between any two steps, that is before a step is
    noted as done and before the next is announced. ssh-cut: inside every step. power-cut: in every
    step, in turn before it has acted and when it has, but that is not yet in the journal. The two
    repeated kinds have three trials each, which together die at every point.
    """
    if kind in SWEEPS:
        return _sweeps(kind, faults_of(SWEEPS[kind], points))
    if kind in REPEATED:
        how = "rollback" if kind == "rollback-kills" else "reattach"
        return [Fault(kind, f"*:{share}", how) for share in range(SHARES)]
    hows: tuple[str, ...] = HOWS
    if kind == "agent-kill":
        chosen = points
    elif kind == "coordinator-kill":
        chosen = [p for p in points if p.record in ("done", "complete", "plan")]
        hows = HOWS[1:]
    elif kind == "ssh-cut":
        chosen, hows = _after(points, "intent"), HOWS[:1]
    else:
        intents, dones = _after(points, "intent"), [p for p in points if p.record == "done"]
        pairs = list(zip(intents, dones, strict=False))
        chosen, hows = [pair[i % 2] for i, pair in enumerate(pairs)], HOWS[:2]
    return [Fault(kind, p.key, hows[i % len(hows)]) for i, p in enumerate(chosen)]


def _sweeps(kind: str, faults: list[Fault]) -> list[Fault]:
    """As many as the step with most points has; agents and lines come back by themselves."""
    steps: dict[tuple[str, str], list[str]] = {}
    for fault in faults:
        host, phase, _number = fault.key.split(":")
        steps.setdefault((host, phase.partition(" ")[0]), []).append(fault.key)
    how = "reattach" if kind in ("agent-sweep", "ssh-sweep") else "resume"
    rounds = zip_longest(*steps.values(), fillvalue="")
    struck = [tuple(key for key in keys if key) for keys in rounds]
    return [Fault(kind, f"*:{n}", how, keys) for n, keys in enumerate(struck, 1)]


def _after(points: list[Point], record: str) -> list[Point]:
    """The points right after a record of this kind was written."""
    wanted = {(p.host, p.phase, p.number + 1) for p in points if p.record == record}
    return [p for p in points if (p.host, p.phase, p.number) in wanted]


def machine(lab: Lab, name: str) -> Host:
    """A host, or the load balancer."""
    return next(host for host in lab.machines if host.name == name)


def strike(lab: Lab, fault: Fault, call: gate.Call, run: Running) -> Callable[[], None]:
    """Let it happen; the function that is given waits until the world is as it should be again."""
    host = machine(lab, call.host)
    if fault.how != "reattach":
        run.kill()
    if fault.kind == "agent-kill":
        gate.kill(call.agent)
    elif fault.kind == "ssh-cut":
        return _cut(host, fault)
    elif fault.kind == "power-cut":
        host.power_cut()
        host.boot(wait=False)
        return host.wait_for_ssh
    return lambda: None


def _cut(host: Host, fault: Fault) -> Callable[[], None]:
    """Either the sessions die on the host, or the line is cut and nobody is told."""
    if len(fault.key) % 2:
        sessions = ssh_sessions(host)  # none where the coordinator was killed first
        if sessions:
            host.run(["kill", "-9", *map(str, sessions)], check=False)
        return lambda: None
    host.cut_network(ports=[22])
    timer = threading.Timer(_CUT_SECONDS, host.heal_network)
    timer.start()
    return timer.join
