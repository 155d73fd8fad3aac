"""How far the revision must be raised after a restore, from what was found of the time since.

A restored etcd counts on from the snapshot's revision, and so gives numbers out a second time that
watch caches and informers have seen already: they would miss events and fight the restored data.
With the revision raised above anything ever served, and all below it compacted, every watch ends
with "required revision has been compacted" and begins anew (etcd's documentation, "Disaster
recovery: revision difference").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from agent.model.facts import OfflineFacts

LEAST_MARGIN = 1_000_000_000
WRITES_PER_SECOND = 1500
"""What etcd's documentation reckons with: 1,500 writes a second for a week fit in a billion."""

LARGEST = 2**62
"""A revision is an int64, and etcd goes on counting from here."""


@dataclass(frozen=True)
class Evidence:
    """A revision that was served. source: where it was found, in words."""

    source: str
    revision: int


@dataclass(frozen=True)
class Bump:
    """By how much to raise the snapshot's revision, and why.

    snapshot: its revision. highest: the largest revision found, `source` where. margin: added for
    what nothing shows, `reason` why so much. missing: revisions known to be later than the
    snapshot, whose changes are not in it. amount: the value of --bump-revision.
    """

    snapshot: int
    highest: int
    source: str
    margin: int
    reason: str

    @property
    def missing(self) -> int:
        """Revisions between the snapshot and the highest one found."""
        return max(0, self.highest - self.snapshot)

    @property
    def amount(self) -> int:
        """What --bump-revision takes: it is added to the revision of the snapshot."""
        return self.missing + self.margin

    @property
    def revision(self) -> int:
        """The revision right after the restore."""
        return self.snapshot + self.amount


def highest_in(facts: OfflineFacts) -> int:
    """The largest revision that a data directory can stand for; 0 where nothing can be read.

    Each entry of the log that the database has not applied yet makes one revision at most.
    """
    db, wal = facts.db, facts.wal
    if db is None or db.revision <= 0:
        return 0
    ahead = wal.last_index - db.consistent_index if wal is not None else 0
    return db.revision + max(0, ahead)


def bump(
    snapshot: int, found: Sequence[Evidence], at_least: int = 0, age: Optional[float] = None
) -> Bump:
    """Raise above everything found. at_least: the operator's own number, 0 for none.

    age: seconds since the snapshot was taken, None where that is not known. The result's revision
    is above the snapshot's, above every piece of evidence and above `at_least`.
    """
    known = [Evidence("the snapshot itself", snapshot), *found]
    if at_least > 0:
        known.append(Evidence("the operator's --at-least", at_least))
    best = max(known, key=lambda evidence: evidence.revision)
    by_age = int(max(0.0, age or 0.0) * WRITES_PER_SECOND)
    margin = max(LEAST_MARGIN, by_age)
    if margin > LEAST_MARGIN:
        reason = (
            f"the snapshot is {(age or 0.0) / 86400:.1f} days old: "
            f"{WRITES_PER_SECOND} writes a second since then"
        )
    else:
        reason = "writes that no file found shows: 1,500 a second for a week"
    return Bump(snapshot, best.revision, best.source, margin, reason)
