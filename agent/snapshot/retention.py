"""Which scheduled sets stay: by count, age and bytes; pure.

Asked only after a set was taken and verified, so a run that fails takes no earlier set away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.model.schedule import Limits

_DAY = 86400.0


@dataclass(frozen=True)
class Kept:
    """A scheduled set. time: when it was taken, seconds since the epoch; size: bytes of its files.

    quorum: its member had one then. is_new: it was taken and verified in this very run.
    """

    name: str
    time: float
    size: int
    quorum: bool = True
    is_new: bool = False


def newest_first(sets: Sequence[Kept]) -> list[Kept]:
    """The set just taken first, whatever a clock that was set back says of it; then by age."""
    return sorted(sets, key=lambda s: (s.is_new, s.time, s.name), reverse=True)


def expired(sets: Sequence[Kept], limits: Limits, now: float) -> list[str]:
    """Names of the sets that go, the oldest first.

    Never: the newest; and never the newest that was taken with a quorum, as one without may lack
    what others had. A set goes where one of the limits says so; where bytes do not suffice for a
    set, they do not for an older and smaller one either.
    """
    ordered = newest_first(sets)
    guarded = {s.name for s in ordered[:1]} | {s.name for s in [s for s in ordered if s.quorum][:1]}
    total, gone = 0, []
    for number, each in enumerate(ordered):
        total += each.size
        is_over = (
            number >= limits.keep
            or (limits.keep_days > 0 and now - each.time > limits.keep_days * _DAY)
            or (limits.keep_bytes > 0 and total > limits.keep_bytes)
        )
        if is_over and each.name not in guarded:
            gone.append(each.name)
    return gone[::-1]
