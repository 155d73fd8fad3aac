"""The merged view as the operator sees it."""

from __future__ import annotations

import pytest

from agent.model.facts import EtcdConfig
from coordinator.report import settings_table
from coordinator.tasks.settings import settings_of
from tests.unit.builders import Lab

LAB = Lab(2)
CONFIG = EtcdConfig(
    "/etc/systemd/system/etcd.service", "0", "m0", "/var/lib/etcd",
    flags={"name": "m0", "data-dir": "/d"}, sources={"name": "/etc/etcd.env:3"},
    files=("/etc/systemd/system/etcd.service", "/etc/etcd.env"), problems=("look at this",),
)  # fmt: skip


def test_every_setting_says_where_it_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    lost = LAB.unreachable(1)
    rows = settings_of([LAB.healthy(0, config=CONFIG), lost])
    (row,) = rows
    assert row["settings"] == [
        {"flag": "data-dir", "value": "/d", "from": CONFIG.definition},
        {"flag": "name", "value": "m0", "from": "/etc/etcd.env:3"},
    ]
    assert row["files"] == list(CONFIG.files)
    assert not row["is_parked"]
    settings_table(rows)
    shown = capsys.readouterr().out
    assert "/etc/etcd.env:3" in shown
    assert "look at this" in shown


def test_a_parked_definition_is_shown_as_such() -> None:
    stopped = LAB.stopped(0, parked_config=CONFIG)
    assert settings_of([stopped])[0]["is_parked"]
