"""What the operator sees while a plan goes on (stderr), and the questions that are asked."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from agent.errors import Refused, UsageError, plain
from agent.model.plan import Plan, Stage, Step

_MARKS = {
    "done": ("ok", "green"), "already": ("ok", "green"), "failed": ("FAILED", "bold red"),
    "undone": ("undone", "yellow"), "nothing": ("-", "dim"),
}  # fmt: skip


class Progress:
    """Tells stages and steps as they go; a terminal also sees what is being waited for."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._start = time.monotonic()
        self._told: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Tell one plain line."""
        self._tell((text, ""))

    def stage(self, number: int, total: int, stage: Stage, note: str = "") -> None:
        """Tell that a stage begins, or why it is put off."""
        title = (f"[{number}/{total}] {stage.title}", "bold")
        self._tell(title, (f" - {note}" if note else "", "yellow"))

    def step(self, step: Step, outcome: str, seconds: float, result: dict[str, Any]) -> None:
        """Tell how a step ended."""
        extra = " (was there already)" if outcome == "already" else ""
        left = result.get("left") or result.get("seen", "")
        words = f"   {left}" if left and outcome != "failed" else ""
        what = f" {step.host}: {step.action.replace('_', ' ')}{extra} "
        mark = _MARKS.get(outcome, (outcome, ""))
        self._tell((f"  {step.id} ", ""), mark, (what, ""), (f"{seconds:.1f} s{words}", "dim"))

    def progress(self, step: Step, text: str) -> None:
        """Tell what a step waits for, once for each thing."""
        if self._told.get(step.id) != text:
            self._told[step.id] = text
            self._tell((f"  {step.id}    {step.host}: {text}", "dim"))

    def _tell(self, *parts: tuple[str, str]) -> None:
        """Print a line of (text, style); a host's words are text only, never markup."""
        line = Text(self._clock() + " ", style="dim")
        self._console.print(Text.assemble(line, *((plain(text), style) for text, style in parts)))

    def _clock(self) -> str:
        return f"{time.monotonic() - self._start:6.1f} s"


def is_interactive() -> bool:
    """True if a person can be asked: both ends are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(plan: Plan, yes: bool) -> None:
    """Ask whether to go on. Raises Refused for a no, UsageError where nobody can be asked."""
    if yes:
        return
    if not is_interactive():
        raise UsageError(
            "this changes hosts, and there is no terminal to ask at",
            "a plan is carried out only when somebody said yes to it",
            "add --yes, or look first with --dry-run",
        )
    answer = _ask(f"Carry out plan {plan.short_id} ({len(plan.steps())} steps)? Type yes: ")
    if answer != "yes":
        raise Refused("not confirmed", "nothing was changed")


def ask_consent(needed: Sequence[tuple[str, str]], absent: Collection[str]) -> None:
    """Ask for every name that must be typed (rules 3 and 4). absent: those not seen at all.

    Raises Refused naming the option to give where nobody can be asked, or the name is not typed.
    """
    names = [name for name, _reason in needed]
    reasons = "\n      ".join(f"{name}: {reason}" for name, reason in needed)
    options = " ".join(
        f"--{'lost' if n in absent else 'accept'} {shlex.quote(n)}" for n in names
    )  # a member's name is what somebody gave its etcd, and this is to be copied to a shell
    refusal = Refused(
        f"your word is needed for {', '.join(names)}",
        reasons,
        f"if you know that what is said to be gone is off and stays off: {options}",
    )
    if not is_interactive():
        raise refusal
    for name, reason in needed:
        print(plain(f"{name}: {reason}"), file=sys.stderr)
        if _ask(f"Type the name {plain(name)} to go on without it: ") != name:
            raise refusal


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
