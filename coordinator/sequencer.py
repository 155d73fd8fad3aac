"""Carries a plan over the hosts: stage by stage, stopping at the first failure, and resumes it."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.errors import (
    ApiUnavailable,
    Damaged,
    Locked,
    Paused,
    Refused,
    RescueError,
    Unreachable,
    UsageError,
)
from agent.model.catalog import CATALOG
from agent.model.plan import KUBERNETES_API, Plan, Stage, Step, plan_to_plain
from agent.model.signed import Policy, Signed
from agent.recipes.parts import left_in
from coordinator.channel import fan_out
from coordinator.courier import brought_for
from coordinator.fleet import Fleet

_STEP_SILENCE = 180.0


class Listener(Protocol):
    """Who is told how the plan goes on (console.py)."""

    def stage(self, number: int, total: int, stage: Stage, note: str = "") -> None:
        """Hear that a stage begins, or why it is put off."""

    def step(self, step: Step, outcome: str, seconds: float, result: dict[str, Any]) -> None:
        """Hear that a step ended: done, already or failed."""

    def progress(self, step: Step, text: str) -> None:
        """Hear what a step is waiting for."""

    def say(self, text: str) -> None:
        """Hear what else is worth a line."""


@dataclass
class Report:
    """How far a plan came. timings: step ID → (start, end) on this machine's monotonic clock."""

    done: set[str] = field(default_factory=set)
    put_off: list[str] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    timings: dict[str, tuple[float, float]] = field(default_factory=dict)

    def outage(self, plan: Plan) -> float | None:
        """Seconds from the first stop to the first proof of service, of a reseed in this run."""
        stops = [s.id for s in plan.steps() if s.action == "park_definition"]
        serves = [s.id for s in plan.steps() if s.action == "wait_serving"]
        if not stops or not serves or not {stops[0], serves[0]} <= set(self.timings):
            return None
        return self.timings[serves[0]][1] - self.timings[stops[0]][0]


def holder() -> str:
    """Who holds the lock: user@machine, and the process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without /etc/passwd
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


class Sequencer:
    """Runs one plan over a fleet."""

    def __init__(
        self,
        fleet: Fleet,
        plan: Plan,
        listener: Listener,
        signed: Signed | None = None,
        policy: Policy | None = None,
        proved: Mapping[str, Collection[str]] | None = None,
        unattended: bool = False,
    ) -> None:
        """Take the plan; signed: its signature, if there is one; policy: what cluster.yaml says.

        proved: host → steps that a journal carried from it proves done, for as long as the host
        itself does not answer. unattended: hosts that lose us go on with their own steps, as far
        as these can be done without other hosts.
        """
        self._fleet, self._plan, self._listener = fleet, plan, listener
        self._who = {"signed": signed, "policy": policy}
        self._token = 0
        self._run_id = secrets.token_hex(8)
        self._begun: set[str] = set()
        self._new: set[str] = set()
        self._unattended = unattended
        self._armed: set[str] = set()
        self._proved = dict(proved or {})
        self.report = Report()

    def _hosts(self) -> list[str]:
        """Hosts with steps, in the order of the plan."""
        return list(dict.fromkeys(step.host for step in self._plan.steps()))

    def begin(self, given_up: Collection[str] = ()) -> None:
        """Take the lock on every host of the cluster that answers, with the largest token yet.

        Hosts without steps are locked too, and one after the other in an order that is the same
        for everyone: of two runs that begin at the same moment one gets all, or neither. Raises
        Locked where another plan holds one, and Unreachable where a host that the plan needs now,
        and that is not `given_up`, does not answer.
        """
        needed = [host for host in self._hosts() if host not in given_up]
        everyone = [h for h in self._fleet.to_lock(needed) if h not in given_up]
        locks = self._fleet.locks(everyone)
        errors = {h: self._fleet.errors.get(h) for h in everyone if h not in locks}
        self._refuse_unless_known({h: errors[h] for h in needed if h in errors})
        self._tell_unlocked({h: e for h, e in errors.items() if h not in needed})
        self._token = 1 + max((lock.token for lock in locks.values() if lock), default=0)
        try:
            for host in (h for h in everyone if h in locks):
                self._note_begun(host, self._begin_one(host))
        except RescueError:
            self._end("rolled-back", self._new)
            raise
        for host in [h for h in self._proved if h not in self._begun]:
            self.report.done |= set(self._proved[host])

    def _refuse_unless_known(self, errors: Mapping[str, RescueError | None]) -> None:
        """Raise why the locks of hosts with steps cannot be read, where the plan cannot wait."""
        for error in errors.values():
            if error is not None and not isinstance(error, Unreachable):
                raise error  # it answers, and says itself what is wrong there
        silent = [host for host in errors if self._touched(host) and not self._is_proved(host)]
        if silent:
            first = errors[silent[0]]
            raise Unreachable(
                f"{', '.join(silent)} cannot be worked with: "
                f"{first.seen if first else 'no answer'}",
                "the plan has steps there, and whether they are done is known only there",
                f"make it reachable; gone for good: fab resume --drop {silent[0]}",
            )

    def _is_proved(self, host: str) -> bool:
        """Whether all that could have been run on a host is known to be done there."""
        due = {
            s.id for g in self._plan.stages if not g.waits_for for s in g.steps if s.host == host
        }
        return host in self._proved and due <= set(self._proved[host])

    def _tell_unlocked(self, errors: Mapping[str, RescueError | None]) -> None:
        """Name the hosts without steps that cannot be locked; raise where a lock is unreadable."""
        for host, error in errors.items():
            if isinstance(error, Damaged):
                raise error
            told = " ".join(error.seen.split()) if error else "no answer"
            self._listener.say(f"not locked: {told if told.startswith(host) else host}")

    def _begin_one(self, host: str) -> Any:
        plan = plan_to_plain(self._plan)
        args = {"plan": plan, "holder": holder(), "token": self._token, "run": self._run_id}
        if self._unattended and host in self._hosts():
            args["unattended"] = True
        return self._fleet.call(host, "begin", {**args, **self._who})

    def _note_begun(self, host: str, answer: dict[str, Any]) -> None:
        self._begun.add(host)
        if answer.get("unattended"):
            self._armed.add(host)
        self.report.done -= set(self._proved.pop(host, ()))  # it says itself what is done
        self.report.done |= set(answer["done"])
        if answer["new"]:  # else it was open before, and is not ours alone to close
            self._new.add(host)

    def run(self) -> Report:
        """Run every stage that can be run. Raises the error of the first step that fails."""
        total = len(self._plan.stages)
        for number, stage in enumerate(self._plan.stages, 1):
            if all(step.id in self.report.done for step in stage.steps):
                continue
            absent = [host for host in stage.waits_for if not self._is_here(host)]
            if absent:
                api = [*stage.without_api()] if KUBERNETES_API in absent else []
                self._put_off([*absent, *api])
                note = f"put off: {', '.join(absent)} cannot be reached"
                self._listener.stage(number, total, stage, note)
                continue
            self._listener.stage(number, total, stage)
            try:
                self._run_stage(stage)
            except ApiUnavailable as error:
                if KUBERNETES_API not in stage.waits_for:
                    raise
                self._put_off(stage.without_api())
                self._listener.stage(number, total, stage, f"put off: {error.seen}")
        return self.report

    def _put_off(self, names: Sequence[str]) -> None:
        """Go on without these: hosts whose part waits for the API are not held to the promise."""
        self.report.put_off += [name for name in names if name not in self.report.put_off]

    def _is_here(self, host: str) -> bool:
        if host in self.report.put_off:
            return False
        if host == KUBERNETES_API:  # each step asks it itself
            return True
        if not self._fleet.is_up(host):
            return False
        if host not in self._begun:
            self._require_not_replaced()
            self._note_begun(host, self._begin_one(host))
        return True

    def _require_not_replaced(self) -> None:
        """Raise Locked where another run took this plan over: it must not begin anywhere else."""
        for host, lock in self._fleet.locks(sorted(self._begun)).items():
            if lock and (lock.plan, lock.run) not in (("", ""), (self._plan.id, self._run_id)):
                raise Locked(
                    f"{host}: {lock.holder} has taken plan {lock.plan[:12]} over",
                    "an order of a coordinator that was replaced must not be carried out",
                    "fab journal",
                )

    def _run_stage(self, stage: Stage) -> None:
        """Run what is left of a stage; different hosts at the same time where it is parallel."""
        todo = [s for s in left_in(stage, self.report.done) if self._can_run(s)]
        if not stage.parallel:
            for step in todo:
                self._run_step(step)
            return
        by_host = {s.host: [t for t in todo if t.host == s.host] for s in todo}

        def run_host(host: str) -> None:
            for step in by_host[host]:
                self._run_step(step)

        failures = [e for e in fan_out(by_host, run_host).values() if isinstance(e, RescueError)]
        if failures:
            raise failures[0]

    def _can_run(self, step: Step) -> bool:
        """Whether to run it: no look is repeated on a host that only its journal tells of."""
        return step.host in self._begun or step.id not in self.report.done

    def _run_step(self, step: Step) -> None:
        start = time.monotonic()
        args = {"plan": self._plan.id, "step": step.id, "token": self._token}
        try:
            secrets = brought_for(step, self._plan, self._fleet, self._token)
            outcome = self._fleet.call(
                step.host, "step", {**args, **secrets}, _STEP_SILENCE,
                lambda text: self._listener.progress(step, text),
            )  # fmt: skip
        except RescueError as error:
            self._listener.step(step, "failed", time.monotonic() - start, error.to_plain())
            raise
        self.report.timings[step.id] = (start, time.monotonic())
        self.report.done.add(step.id)
        self._listener.step(step, outcome["outcome"], outcome["seconds"], outcome["result"])

    def skip_host(self, host: str, reason: str) -> None:
        """Put off for good, by the operator's word, what is on `host` and what waits for it."""
        if host not in self._hosts() and all(host not in s.waits_for for s in self._plan.stages):
            raise UsageError(
                f"plan {self._plan.short_id} has nothing to do on {host}",
                f"its hosts: {', '.join(self._hosts())}",
            )
        self.report.dropped.add(host)
        for stage in self._plan.stages:
            for step in stage.steps:
                if step.host != host and host not in stage.waits_for:
                    continue
                if step.id not in self.report.done and step.host in self._begun:
                    args = {"plan": self._plan.id, "step": step.id, "token": self._token}
                    self._fleet.call(step.host, "skip", {**args, "reason": reason})
                self.report.done.add(step.id)

    def finish(self) -> None:
        """Close the plan everywhere and give the locks back. Raises Paused where steps are left."""
        if self.report.put_off:
            absent = list(dict.fromkeys(self.report.put_off))
            if KUBERNETES_API in absent:
                raise _api_silent([name for name in absent if name != KUBERNETES_API])
            drop = " ".join(f"--drop {host}" for host in absent)
            raise Paused(
                f"done as far as can be: {', '.join(absent)} did not answer",
                "the cluster serves; what is left waits for these hosts",
                f"when they are back: fab resume   (gone for good: fab resume {drop})",
            )
        self.close("complete")

    def close(self, kind: str) -> None:
        """Close the plan everywhere; where it had no steps, a host that is gone is only told of."""
        own = set(self._hosts())
        for error in self._end(kind, self._begun - own):
            self._listener.say(f"the plan is open there until the next run: {error.seen}")
        self._raise_first(self._end(kind, self._begun & own))

    def _end(self, kind: str, hosts: set[str]) -> list[RescueError]:
        """Close the plan and give the locks back; the errors of hosts where that failed."""
        args = {"plan": self._plan.id, "token": self._token, "kind": kind}
        answers = fan_out(sorted(hosts), lambda host: self._fleet.call(host, "end", args, 30))
        return [answer for answer in answers.values() if isinstance(answer, RescueError)]

    def _raise_first(self, errors: Sequence[RescueError]) -> None:
        for error in errors:
            error.next = error.next or f"fab resume {self._plan.short_id}   (closes the plan)"
            raise error

    def rollback(self) -> list[str]:
        """Take every step back, the last first, and close the plan; the IDs of those undone.

        Raises Refused past the point of no return, saying what remains to be done instead.
        """
        begun = self._begun_steps()
        final = [s for s in self._plan.steps() if s.final and s.id in begun]
        if final:
            left = [s for s in self._plan.steps() if s.id not in self.report.done]
            raise Refused(
                f"step {final[0].id} ({final[0].action} on {final[0].host}) is past the point of "
                "no return",
                f"{len(left)} steps remain, the next is {left[0].action} on {left[0].host}"
                if left
                else "nothing remains to be done",
                f"fab resume {self._plan.short_id}",
            )
        undone = []
        for step in reversed([s for s in self._plan.steps() if s.id in begun]):
            args = {"plan": self._plan.id, "step": step.id, "token": self._token}
            outcome = self._fleet.call(step.host, "undo", args, _STEP_SILENCE)
            self._listener.step(step, outcome["outcome"], outcome["seconds"], {})
            undone.append(step.id)
        self.close("rolled-back")
        return undone

    def leave(self) -> None:
        """End in good order with the plan open: from now on it goes on by an operator's word alone.

        A host that does not answer goes on by itself, if the plan was to.
        """
        args = {"plan": self._plan.id, "token": self._token}
        fan_out(sorted(self._armed), lambda host: self._fleet.channel(host).call("leave", args, 30))

    def give_up(self) -> bool:
        """Close a plan of which only looks were taken so far; False where a step has effects.

        A refusal before anything was changed leaves nothing to resume, and nothing to take back.
        """
        begun = self._begun_steps()
        if any(CATALOG[s.action].effects for s in self._plan.steps() if s.id in begun):
            return False
        self._end("rolled-back", self._begun)
        return True

    def _begun_steps(self) -> set[str]:
        """IDs of steps that any host's journal says were begun or done. Needs all hosts."""
        silent = [h for h in self._hosts() if h not in self._begun and self._touched(h)]
        if silent:
            raise Unreachable(
                f"{', '.join(silent)} did not answer",
                "what was done there cannot be taken back from here",
                "make them reachable, then: fab rollback",
            )
        begun: set[str] = set()
        for host in sorted(self._begun):
            for facts in self._fleet.call(host, "journal", {}):
                if facts["plan"] == self._plan.id:
                    begun |= set(facts["done"]) | set(facts["begun"])
        return begun

    def _touched(self, host: str) -> bool:
        """True if steps on `host` could have been run: it is no host whose stages were put off."""
        needs = [
            stage.waits_for for stage in self._plan.stages for s in stage.steps if s.host == host
        ]
        return any(not waits_for for waits_for in needs)


def _api_silent(hosts: Sequence[str]) -> Paused:
    """How a plan ends for now whose last stages wait for the Kubernetes API. hosts: theirs, too."""
    tail = f"; {', '.join(hosts)} waits for that" if hosts else ""
    return Paused(
        f"done as far as can be: the Kubernetes API does not answer{tail}",
        "etcd serves; what is left goes through the API, and is kept in the hosts' journals",
        f"when it answers (oc get nodes): fab resume   (never: fab resume --drop {KUBERNETES_API})",
    )
