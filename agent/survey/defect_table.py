"""Known defects of etcd by version: one row each, with its source. Data, and how to look it up.

Only what touches a rescue stands here; a row says what it means for that, not what it is like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from agent.model.defects import Defect

Version = tuple[int, int, int]
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})")
_PULL = "https://github.com/etcd-io/etcd/pull/"
_ISSUE = "https://github.com/etcd-io/etcd/issues/"
_NOTES = "https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-"
SEEDS = ("reseed",)
JOINS = ("reseed", "rejoin", "replace-member")


@dataclass(frozen=True)
class Row:
    """A defect of the versions from `since` on, until `fixed` of the same minor version.

    fixed None: of all later ones of that minor version.
    """

    key: str
    since: Version
    fixed: Optional[Version]
    recipes: tuple[str, ...]
    summary: str
    meaning: str
    source: str


ROWS: tuple[Row, ...] = (
    Row("data-inconsistency", (3, 5, 0), (3, 5, 3), (),
        "members may come to hold different data after a crash",
        "compare the members' hashes before one of them is chosen to go on from, and upgrade",
        f"{_PULL}13908"),
    Row("lost-writes-alone", (3, 5, 0), (3, 5, 5), SEEDS,
        "a cluster of one member may lose writes that it has confirmed, if it crashes",
        "between a reseed and the first rejoin it is such a cluster: let the others rejoin at once",
        f"{_PULL}14424"),
    Row("membership-two-stores", (3, 5, 0), (3, 5, 1), SEEDS,
        "its two stores of the membership may differ, and it panics over an unknown remote peer",
        "a start with --force-new-cluster may end in that panic; nothing is lost then: upgrade and "
        "run the rescue again",
        f"{_ISSUE}13119"),
    Row("promotion-not-noted", (3, 5, 1), (3, 5, 20), JOINS,
        "a promoted member, as kubeadm's joins make them, stays a learner in the database's file",
        "the recipes go by raft's own configuration; before an upgrade to 3.6, start every member "
        "with 3.5.24 or newer once, or 3.6 may refuse to start",
        f"{_ISSUE}19557"),
    Row("alarm-list", (3, 5, 0), (3, 5, 5), (),
        "it may not start again after alarms were listed and the power went",
        "a crash-looping member may have intact data: upgrade before it is replaced",
        f"{_PULL}14429"),
    Row("torn-record", (3, 5, 0), (3, 5, 7), (),
        "a record that a crash cut short is not always repaired at the start",
        "a member that stops over its write-ahead log may have intact data: upgrade before it is "
        "replaced",
        f"{_PULL}15069"),
    Row("promote-unstarted", (3, 5, 0), (3, 5, 7), JOINS,
        "it may promote a learner that never started",
        "a promotion by hand is no proof; the recipes wait until the learner serves",
        f"{_PULL}15096"),
    Row("defrag-crash", (3, 5, 0), (3, 5, 6), (),
        "a crash during defragmentation may leave members at different revisions",
        "defragment one member at a time, and compare hashes afterwards",
        f"{_PULL}14733"),
    Row("watch-back-in-time", (3, 5, 0), (3, 5, 8), JOINS,
        "watches on a member that takes a snapshot from the leader may be sent old events",
        "after a rejoin restart what watches through that member, if its caches look old",
        f"{_PULL}15515"),
    Row("no-bump-revision-34", (3, 4, 0), (3, 4, 27), ("restore",),
        "its tools cannot raise the revision of a restored snapshot",
        "after a restore everything that watches the API must be restarted",
        f"{_PULL}16165"),
    Row("no-bump-revision-35", (3, 5, 0), (3, 5, 10), ("restore",),
        "its tools cannot raise the revision of a restored snapshot",
        "after a restore everything that watches the API must be restarted",
        f"{_PULL}16165"),
    Row("leftover-members-35", (3, 5, 0), (3, 5, 22), SEEDS,
        "--force-new-cluster may leave other members in the membership",
        "the reseed looks at the member list before it goes on, and stops if it is not alone",
        f"{_NOTES}3.5.md (v3.5.22)"),
    Row("leftover-members-36", (3, 6, 0), (3, 6, 1), SEEDS,
        "--force-new-cluster may leave other members in the membership",
        "the reseed looks at the member list before it goes on, and stops if it is not alone",
        f"{_NOTES}3.6.md (v3.6.1)"),
    Row("leftover-learners-35", (3, 5, 0), (3, 5, 25), SEEDS,
        "--force-new-cluster does not remove learners",
        "the reseed stops if a learner is left: remove it before, or upgrade",
        f"{_NOTES}3.5.md (v3.5.25)"),
    Row("leftover-learners-36", (3, 6, 0), (3, 6, 6), SEEDS,
        "--force-new-cluster does not remove learners",
        "the reseed stops if a learner is left: remove it before, or upgrade",
        f"{_NOTES}3.6.md (v3.6.6)"),
    Row("zombie-members", (3, 5, 0), (3, 5, 26), (),
        "members removed long ago may come back in the v3 store with an upgrade to 3.6",
        "go to 3.5.26 or later before 3.6; what such a member lists after it is shown as a ghost",
        f"{_PULL}20995"),
    Row("too-many-learners", (3, 5, 0), (3, 5, 20), JOINS,
        "a promoted learner may count as one still once the cluster runs 3.6",
        "a rejoin in a cluster of 3.5 and 3.6 together may be refused with `too many learner "
        "members`: upgrade all members to 3.5.20 or later first",
        "https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/"),
)  # fmt: skip


def version_of(*told: str) -> str:
    """The first version number in what was told (a status, an image, a binary), or nothing."""
    for text in told:
        match = _VERSION.search(text)
        if match:
            return match.group()
    return ""


def find_defects(version: str) -> tuple[Defect, ...]:
    """The known defects of a version like `3.5.4`; none for one that is not read as such."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return ()
    major, minor, patch = (int(part) for part in match.groups())
    here = (major, minor, patch)
    return tuple(
        Defect(
            row.key, version, row.summary, row.meaning, row.recipes, _text(row.fixed), row.source
        )
        for row in ROWS
        if row.since <= here and row.since[:2] == here[:2] and not (row.fixed and here >= row.fixed)
    )


def _text(version: Optional[Version]) -> str:
    return ".".join(str(part) for part in version) if version else ""
