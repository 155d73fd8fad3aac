"""What an operator is told whatever the verdict."""

from __future__ import annotations

import pytest

from agent.diagnosis.cluster import diagnose
from agent.model.facts import (
    Binary,
    Certificate,
    Disk,
    Observation,
    Stray,
)
from tests.unit.builders import (
    Lab,
    open_journal,
)

LAB = Lab(3)

STALE = LAB.config(2, initial_cluster=(("master-3", LAB.peer_url(2)),))
WARNED = [
    ("version", LAB.healthy(2, online=LAB.online(2, version="3.5.1")), "etcd 3.5.1 may corrupt"),
    ("image", LAB.wiped(2, config=LAB.config(2, image="x/etcd:3.5.0-0")), "etcd 3.5.0 may"),
    (
        "binary",
        LAB.wiped(2, config=None, binaries=(Binary("path", "/usr/bin/etcd", "3.5.2"),)),
        "etcd 3.5.2 may corrupt",
    ),
    ("flag", LAB.wiped(2, config=LAB.config(2, force_new_cluster=True)), "force-new-cluster is"),
    ("stale", LAB.healthy(2, config=STALE), "initial-cluster in the definition on master-3"),
    ("stray", LAB.healthy(2, strays=(Stray("/m/etcd.bak", "also runs etcd"),)), "/m/etcd.bak"),
    ("plan", LAB.healthy(2, journals=(open_journal(),)), "not finished on master-3: fab resume"),
    (
        "certificate",
        LAB.healthy(2, certificates=(Certificate("/p.crt", "peer", problems=("expired",)),)),
        "certificate /p.crt: expired",
    ),
    (
        "read-only",
        LAB.healthy(2, disk=Disk("plain", "/var/lib/etcd", 1, 1, 1, 1, True, True)),
        "mounted read-only",
    ),
    ("margin", LAB.wiped(2), "failure tolerance 0"),
    (
        "fence",
        LAB.healthy(2, fence=LAB.fenced(2).survey.fence),  # type: ignore[union-attr]
        "although plan",
    ),
]


@pytest.mark.parametrize(("third", "text"), [w[1:] for w in WARNED], ids=[w[0] for w in WARNED])
def test_warnings(third: Observation, text: str) -> None:
    verdict = diagnose([LAB.healthy(0), LAB.healthy(1), third])
    assert any(text in warning for warning in verdict.warnings), verdict.warnings


def test_no_warning_without_reason() -> None:
    assert diagnose([LAB.healthy(n) for n in range(3)]).warnings == ()


def test_an_even_number_of_voters_is_named() -> None:
    lab = Lab(4)
    verdict = diagnose([lab.healthy(n) for n in range(4)])
    assert any("even number" in warning for warning in verdict.warnings)
