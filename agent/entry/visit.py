"""One visit to a console: a plan, this host, and what is proved of the plan on all hosts.

A visit is a run of its own, like one of a coordinator: it takes the lock with a token larger than
all that are known here or were carried here, and orders its steps through the same requests.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from agent.entry import proofs, screen, stick, verbs
from agent.entry.console import holder
from agent.entry.proofs import Proofs
from agent.entry.stick import Stick
from agent.errors import RescueError, Unsigned, UsageError
from agent.host import Host
from agent.model.facts import Survey
from agent.model.plan import Plan, Step, plan_to_plain
from agent.model.signed import NAMESPACE, Signed
from agent.recipes.parts import Part, given_up, part_of, to_finish
from agent.records import signing
from agent.records.journal import Journal
from agent.records.locks import read_lock


@dataclass(frozen=True)
class Asked:
    """What was typed. plan: a file, an ID or its beginning; empty for the only one there is.

    name: what the plan calls this host. put_off: hosts whose stages come later. drop: hosts given
    up for good. is_resume: go on with what was begun here, unasked. alone: take back without the
    other hosts' proofs.
    """

    plan: str = ""
    sticks: tuple[str, ...] = ()
    name: str = ""
    put_off: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    yes: bool = False
    dry_run: bool = False
    is_resume: bool = False
    alone: bool = False


class Visit:
    """A plan, this host, and what is proved; made anew after everything that changes that."""

    def __init__(self, host: Host, asked: Asked) -> None:
        """Look at the host, the stick and the plan. Raises what reading them raises."""
        self.host, self.asked = host, _with_stick(host, asked)
        self.stick: Stick = stick.read_stick(host, self.asked.sticks)
        self.plan, self.signed = _find(host, self.asked, self.stick)
        verbs.vet(host, {"plan": plan_to_plain(self.plan)}, screen.note)
        self.name = proofs.this_host(self.plan, host.hostname(), _addresses(), asked.name)
        self._token = 0
        self.proofs: Proofs
        self.look_again()

    def look_again(self) -> None:
        """Read this host's journal anew, after something was done."""
        own = own_journal(self.host, self.plan)
        self.proofs = proofs.gather(self.plan, self.name, own, self.stick)

    def part(self) -> Part:
        """What can be done here now."""
        done = self.proofs.done() | given_up(self.plan, self.asked.drop)
        return part_of(self.plan, self.name, done, self.asked.put_off)

    def left(self) -> Optional[Step]:
        """The plan's next step after what can be done here, on whatever host; None at its end."""
        return self.part().next

    def unfinished(self) -> list[Step]:
        """Steps that were begun here and came to no end; these need no more proof."""
        own = self.proofs.own
        return to_finish(self.plan, self.name, own.begun_steps() if own else ())

    # ---- the lock ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Store the plan here, and take the lock. Raises Locked, Unsigned, Refused."""
        own = read_lock(self.host)
        if own is not None and own.alive and own.plan == self.plan.id:
            screen.note(f"taken over from {own.holder}, who was at work on it")
        locks = [own, *(f.survey.lock for f in self.stick.others)]
        self._token = 1 + max((lock.token for lock in locks if lock), default=0)
        try:
            verbs.begin(self.host, {
                "plan": plan_to_plain(self.plan), "holder": holder(), "token": self._token,
                "run": secrets.token_hex(8),
                "signed": None if self.signed is None else vars(self.signed),
            }, screen.note)  # fmt: skip
        except Unsigned as error:
            error.next = sign_words(self.plan)
            raise
        self.look_again()

    def order(self, verb: verbs.Verb, **args: Any) -> Any:
        """Ask this host's agent for something in the name of this visit."""
        given = {"plan": self.plan.id, "token": self._token, **args}
        return verb(self.host, given, screen.note)

    def run(self, steps: Sequence[Step]) -> None:
        """Run steps in their order, telling how each ended. Raises what stops the first."""
        for step in steps:
            try:
                outcome = self.order(verbs.step, step=step.id)
            except RescueError:
                screen.told(step, "failed", 0.0, {})
                raise
            screen.told(step, outcome["outcome"], outcome["seconds"], outcome["result"])
        self.look_again()

    # ---- what is carried on --------------------------------------------------------------------

    def write(self) -> str:
        """Write this host's file to the stick, with a survey of now; what to say of it."""
        if not self.stick.directory:
            return ""
        return stick.write_own(self.host, self.stick.directory, take(self.host))

    def command(self, verb: str = "apply") -> str:
        """What is typed next, on this or another host."""
        where = self.stick.directory or "DIRECTORY"
        words = f"rescue-agent {verb} {self.plan.short_id} --stick {shlex.quote(where)}"
        off = "".join(f" --put-off {host}" for host in self.asked.put_off)
        off += "".join(f" --drop {host}" for host in self.asked.drop)
        return words + (off if verb == "apply" else "")

    def on(self, host: str, verb: str = "apply") -> str:
        """Where to go, and what to type there."""
        if host == self.name:
            return self.command(verb)
        carry = "" if self.stick.directory else "rescue-agent export DIRECTORY\n"
        return f"{carry}carry the stick to {host}, and type there:\n{self.command(verb)}"


def _addresses() -> tuple[str, ...]:
    from agent.survey.processes import addresses

    return addresses()


@contextmanager
def through_hangups() -> Iterator[None]:
    """Let a line that breaks end no step in the middle; what is said to nobody ends it after."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def take(host: Host) -> Survey:
    """A survey of this host."""
    from agent.survey.take import take_survey

    return take_survey(host)


def own_journal(host: Host, plan: Plan) -> Optional[Journal]:
    """Give this host's own journal of a plan, or None. Raises Damaged."""
    try:
        return Journal.open(host, plan.id)
    except UsageError:
        return None


def sign_words(plan: Plan) -> str:
    """How a plan's file is signed, where the key is, and carried out here."""
    name = stick.plan_name(plan)
    return (
        f"where the key is: ssh-keygen -Y sign -n {NAMESPACE} -f KEY {name}; bring {name} and "
        f"{name}.sig back; then: rescue-agent apply DIRECTORY/{name}"
    )


def _with_stick(host: Host, asked: Asked) -> Asked:
    """A plan that is named by its file, and no stick: the file's directory is the stick."""
    if asked.sticks or not asked.plan.endswith(".json") or not host.exists(asked.plan):
        return asked
    return Asked(**{**vars(asked), "sticks": (os.path.dirname(asked.plan) or ".",)})


def _find(host: Host, asked: Asked, found: Stick) -> tuple[Plan, Optional[Signed]]:
    """The plan that is meant, and its signature where one came with it."""
    if asked.plan and (host.exists(asked.plan) or "/" in asked.plan):
        try:
            return stick.load_plan(host, asked.plan)
        except OSError as error:
            raise UsageError(f"{asked.plan}: {error.strerror}") from None
    known = stick.known_plans(host, found)
    fits = {i: p for i, p in known.items() if i.startswith(asked.plan)}
    if not asked.plan:
        fits = {i: p for i, p in fits.items() if not _is_over(host, p)}
    if len(fits) != 1:
        told = ", ".join(i[:12] for i in (fits or known)) or "none"
        raise UsageError(
            f"{len(fits)} plans match {asked.plan or 'nothing in particular'}",
            f"known here and on the stick: {told}",
            "name one: a file, an ID or its beginning (rescue-agent journal)",
        )
    ((plan_id, plan),) = fits.items()
    return plan, _signature(host, plan_id, plan, found)


def _is_over(host: Host, plan: Plan) -> bool:
    own = own_journal(host, plan)
    return own is not None and own.state != "open"


def _signature(host: Host, plan_id: str, plan: Plan, found: Stick) -> Optional[Signed]:
    """The signature of a plan: beside its file on the stick, else as another host took it."""
    path = f"{found.directory}/{stick.plan_name(plan)}"
    if found.directory and host.exists(path):
        stored, signed = stick.load_plan(host, path)
        if signed is not None and stored.id == plan_id:
            return signed
    for file in found.others:
        history = file.history(plan_id)
        signed = signing.stored(history)[0] if history else None
        if signed is not None:
            return signed
    return None
