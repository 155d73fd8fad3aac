"""The one error tree. Every error says what was seen, why it forbids, and the next command."""

from __future__ import annotations


def plain(text: str) -> str:
    """Text of a host, or of a file, without the control characters that could drive a terminal.

    Nor those that let text run backwards, or that show nothing.
    """
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


class RescueError(Exception):
    """Root of every error this product raises on purpose.

    seen: what was observed, with its place (host, file, offset).
    why:  why that forbids going on; empty where `seen` says it all.
    next: the command to type, or the thing to do, next; empty if there is none.
    """

    exit_code = 1
    kind = "error"

    def __init__(self, seen: str, why: str = "", next: str = "") -> None:
        self.seen, self.why, self.next = seen, why, next
        super().__init__(seen)

    def __str__(self) -> str:
        lines = [self.seen]
        if self.why:
            lines.append(f"why:  {self.why}")
        if self.next:
            lines.append(f"next: {self.next}")
        return plain("\n".join(lines))

    def to_plain(self) -> dict[str, str]:
        """{"kind", "seen", "why", "next"}: the shape errors have on the wire and in journals."""
        return {"kind": self.kind, "seen": self.seen, "why": self.why, "next": self.next}


class UsageError(RescueError):
    """The command line, an inventory or another input cannot be understood."""

    exit_code = 2
    kind = "usage"


class Refused(RescueError):
    """A safety rule forbids what was asked; nothing was changed."""

    exit_code = 3
    kind = "refused"


class Unreachable(RescueError):
    """A host, an endpoint or a runtime did not answer."""

    exit_code = 4
    kind = "unreachable"


class PreconditionFailed(Refused):
    """A step's precondition does not hold on the host; the step did nothing."""

    kind = "precondition"


class Unsigned(Refused):
    """A plan carries no signature that the policy accepts; nothing was changed."""

    kind = "unsigned"


class StepFailed(RescueError):
    """A step began and did not reach its effect; its journal says how far it came."""

    exit_code = 5
    kind = "step-failed"


class Paused(RescueError):
    """The plan is done as far as it can be now; `resume` finishes it."""

    exit_code = 6
    kind = "paused"


class ApiUnavailable(Paused):
    """The Kubernetes API does not answer, or not in time; what needs it waits for `resume`."""

    kind = "api-unavailable"


class Locked(Refused):
    """Another plan or another agent holds this host or cluster."""

    exit_code = 7
    kind = "locked"


class Damaged(RescueError):
    """A file is not what its format says: names file, offset and reason."""

    exit_code = 8
    kind = "damaged"


class CommandFailed(RescueError):
    """A process ended with an exit code that was not allowed, or at its deadline."""

    kind = "command-failed"


class Timeout(StepFailed):
    """A wait came to its deadline; says what was waited for and what was last seen."""

    kind = "timeout"


_BY_KIND: dict[str, type[RescueError]] = {
    cls.kind: cls
    for cls in (
        RescueError, UsageError, Refused, Unreachable, PreconditionFailed, StepFailed, Paused,
        Locked, Damaged, CommandFailed, Timeout, Unsigned, ApiUnavailable,
    )
}  # fmt: skip


def from_plain(data: dict[str, str]) -> RescueError:
    """The error that `to_plain` described; an unknown kind becomes a RescueError."""
    cls = _BY_KIND.get(data.get("kind", ""), RescueError)
    return cls(data.get("seen", "unknown error"), data.get("why", ""), data.get("next", ""))
