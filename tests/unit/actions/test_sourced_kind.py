"""Changes of an etcd.conf that a pod sources: the wanted values, and not one byte more."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.actions.base import Context
from agent.actions.kind import Flags
from agent.actions.kinds import kind_of
from agent.errors import Refused
from agent.platforms import detect
from agent.survey.sourcefile import parse_sourced
from tests.unit.host311 import CONF, POD, SETTINGS, master

FIXTURES = Path(__file__).resolve().parents[4] / "shared/fixtures/ocp311-etcdconf"
MEMBERS = "a=https://192.0.2.8:2380,b=https://192.0.2.9:2380"


def context(tmp_path: Path, conf: str = SETTINGS) -> Context:
    host = master(tmp_path)
    (tmp_path / CONF[1:]).write_bytes(conf.encode("utf-8", "surrogateescape"))
    return Context(host, detect(host), "plan", "01", print)


def test_only_the_two_values_change(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    flags: Flags = {"initial-cluster": MEMBERS, "initial-cluster-state": "existing"}
    changed = kind_of(ctx).changed(ctx, POD, {}, flags)
    wanted = SETTINGS.replace("=master-0.example.com=https://192.0.2.8:2380", f"={MEMBERS}")
    assert changed == {CONF: wanted.replace("STATE=new", "STATE=existing")}


def test_the_variable_comes_and_goes(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    kind = kind_of(ctx)
    (text,) = kind.changed(ctx, POD, {}, {"force-new-cluster": "true"}).values()
    assert set(text.splitlines()) - set(SETTINGS.splitlines()) == {"ETCD_FORCE_NEW_CLUSTER=true"}
    assert kind.config(ctx, POD, {CONF: text}).force_new_cluster
    assert kind.changed(ctx, POD, {CONF: text}, {"force-new-cluster": None}) == {CONF: SETTINGS}


def test_what_is_written_in_several_quotes_is_left(tmp_path: Path) -> None:
    text = SETTINGS.replace("STATE=new", "STATE=n\"e\"'w'")
    with pytest.raises(Refused, match="several quotes"):
        kind_of(context(tmp_path, text)).changed(
            context(tmp_path, text), POD, {}, {"initial-cluster-state": "existing"}
        )


def _kept(before: str, after: str, names: set[str]) -> bool:
    """Whether the two differ in the values of these variables alone."""

    def without(text: str) -> str:
        found = parse_sourced(text).assignments
        for a in sorted((a for a in found if a.name in names), key=lambda a: -a.start):
            text = text[: a.start] + "?" + text[a.end :]
        return text

    return without(before) == without(after)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no fixtures here")
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.conf")), ids=lambda p: p.name)
def test_files_of_others_keep_everything_else(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes().decode("utf-8", "surrogateescape")
    ctx = context(tmp_path, before)
    kind, flag = kind_of(ctx), "ETCD_INITIAL_CLUSTER"
    if "ETCD_" not in before:  # nothing of etcd's that a new line could be written like
        with pytest.raises(Refused):
            kind.changed(ctx, POD, {}, {"initial-cluster": MEMBERS})
        return
    changed = kind.changed(ctx, POD, {}, {"initial-cluster": MEMBERS})
    after = changed[CONF]
    assert {a.name: a.value for a in parse_sourced(after).assignments}[flag] == MEMBERS
    if any(a.name == flag for a in parse_sourced(before).assignments):
        assert _kept(before, after, {flag})
    else:
        added = [line for line in after.split("\n") if line not in before.split("\n")]
        assert len(added) == 1
        rows = after.split("\n")
        rows.remove(added[0])
        assert "\n".join(rows) == before
