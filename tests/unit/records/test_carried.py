"""A carried file is whole, or it is refused: whatever happened to it on its way."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import Damaged, RescueError, UsageError
from agent.host import Host
from agent.model.codec import canonical, digest, to_plain
from agent.model.facts import Survey
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from agent.records import carried
from agent.records.journal import Journal, read_journals
from tests.unit.builders import Lab

LAB = Lab(3)


def plan_named(summary: str) -> Plan:
    step = Step("01", "master-1", "stop_etcd", {}, "because")
    return Plan(FORMAT, "reseed", summary, 1.0, {"master-1": "10.0.0.1"},
                (Stage("one", (step,)),), Promise(())).with_id()  # fmt: skip


def host_at(root: Path, name: str = "master-1") -> Host:
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/hostname").write_text(f"{name}\n")
    return Host(str(root))


def survey_of(host: Host, number: int = 0) -> Survey:
    seen = LAB.healthy(number).survey
    assert seen is not None
    return replace(seen, hostname=host.hostname(), journals=read_journals(host))


def packed(host: Host) -> bytes:
    return carried.pack(host, survey_of(host))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    host = host_at(tmp_path_factory.mktemp("host"))
    journal = Journal.create(host, plan_named("first"))
    journal.append("intent", "01", {"before": "…"})
    journal.append("done", "01")
    return packed(host)


def sealed(data: dict[str, Any]) -> bytes:
    """The file with a hash that fits, as somebody would make who wants to be believed."""
    bare = {k: v for k, v in data.items() if k != "sha256"}
    return canonical({**bare, "sha256": digest(bare)})


def test_what_was_packed_comes_out(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    journal = Journal.create(host, plan_named("first"))
    journal.append("intent", "01", {"word": "Grüße"})
    found = carried.unpack(packed(host), "stick")
    assert (found.host, found.survey) == ("master-1", survey_of(host))
    (history,) = found.histories
    assert history.records == journal.records
    assert history.begun_steps() == ["01"]
    assert found.history(journal.plan.id) is history
    assert found.history("f" * 64) is None


def test_a_torn_end_of_a_journal_stays_behind(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    journal = Journal.create(host, plan_named("first"))
    journal.append("intent", "01")
    path = tmp_path / journal.path[1:]
    path.write_bytes(path.read_bytes() + b'{"seq": 3, "ti')
    (history,) = carried.unpack(packed(host), "stick").histories
    assert history.records == journal.records


def test_a_damaged_journal_is_told_of_and_not_carried(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    journal = Journal.create(host, plan_named("first"))
    journal.append("done", "01")
    path = tmp_path / journal.path[1:]
    path.write_bytes(path.read_bytes().replace(b'"first"', b'"fitst"'))
    found = carried.unpack(packed(host), "stick")
    assert found.histories == ()
    assert [facts.state for facts in found.survey.journals] == ["damaged"]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_of_it_can_change_unnoticed(file: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(file) - 2))  # the last byte is the end of the line
    changed = bytearray(file)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Damaged, UsageError)):
        carried.unpack(bytes(changed), "stick")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_part_of_it_passes_for_the_whole(file: bytes, data: st.DataObject) -> None:
    with pytest.raises(RescueError):
        carried.unpack(file[: data.draw(st.integers(0, len(file) - 2))], "stick")


@settings(max_examples=200)
@given(st.binary(max_size=400) | st.text(alphabet='{}[]":,0e-+n\\', max_size=80).map(str.encode))
def test_rubbish_is_refused_in_words(data: bytes) -> None:
    with pytest.raises((Damaged, UsageError)):
        carried.unpack(data, "stick")


def broken(data: dict[str, Any], **changes: Any) -> bytes:
    return sealed({**data, **changes})


def test_what_fits_its_hash_must_be_sound_all_the_same(file: bytes) -> None:
    data = json.loads(file)
    (journal,) = data["journals"]
    text = journal["text"]
    shorter = text[: text.rindex("\n", 0, -1) + 1]

    def with_text(new: str, plan: str = journal["plan"]) -> list[dict[str, str]]:
        return [{"plan": plan, "text": new, "sha256": sha256(new.encode()).hexdigest()}]

    assert carried.unpack(broken(data), "stick").host == "master-1"
    changes: tuple[dict[str, Any], ...] = (
        {"kind": "another"},
        {"format": 2},
        {"format": True},
        {"host": ""},
        {"survey": {}},
        {"survey": {**data["survey"], "surprise": 1}},
        {"surprise": 1},
        {"journals": [journal, journal]},
        {"journals": [{**journal, "sha256": "0" * 64}]},
        {"journals": with_text(text.replace('"intent"', '"done"'))},
        {"journals": with_text(text[:-5])},
        {"journals": with_text("")},
        {"journals": with_text(text, "e" * 64)},
        {"journals": with_text(text, "../../etc/passwd")},
        {"journals": [{"plan": "e" * 64, "text": "", "sha256": ""}] * 1001},
    )
    for wrong in changes:
        with pytest.raises((Damaged, UsageError)):
            carried.unpack(broken(data, **wrong), "stick")
    # Cut at the end of a record it is what the host once said: older, and not wrong.
    older = carried.unpack(broken(data, journals=with_text(shorter)), "stick")
    assert len(older.histories[0].records) == 2


def test_one_that_is_too_large_is_not_read() -> None:
    with pytest.raises(UsageError, match="larger than"):
        carried.unpack(b" " * (carried.MAX_FILE + 1), "stick")


def test_closed_plans_make_room_for_open_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_at(tmp_path)
    old = Journal.create(host, plan_named("old"))
    old.append("complete")
    still = Journal.create(host, plan_named("open"))
    monkeypatch.setattr(carried, "_MAX_CLOSED", 1000)
    found = carried.unpack(packed(host), "stick")
    assert [h.plan.id for h in found.histories] == [still.plan.id]
    assert found.left_out == (old.plan.id,)


# ---- several files of one host -------------------------------------------------------------------


def test_of_one_machine_the_file_with_more_in_its_journals_counts(tmp_path: Path) -> None:
    host = host_at(tmp_path)
    journal = Journal.create(host, plan_named("first"))
    before = carried.unpack(packed(host), "before")
    journal.append("done", "01")
    after = carried.unpack(packed(host), "after")
    back = replace(after, made=before.made - 3600)  # its clock was set back meanwhile
    assert carried.newest([before, after]) == [after]
    assert carried.newest([back, before]) == [back]
    other = carried.unpack(packed(host_at(tmp_path / "other", "master-2")), "other")
    assert carried.newest([before, other, after]) == [after, other]


def test_two_stories_of_one_plan_are_refused(tmp_path: Path) -> None:
    files = []
    for disk, kind in (("one", "done"), ("two", "failed")):
        host = host_at(tmp_path / disk)
        journal = Journal.create(host, plan_named("first"))
        journal.append("intent", "01")
        journal.append(kind, "01")
        files.append(carried.unpack(packed(host), disk))
    with pytest.raises(Damaged, match="different things"):
        carried.newest(files)


def test_names_of_files_hold_no_way_out() -> None:
    assert carried.file_name("../../root/x") == "carried-.._.._root_x.json"
    assert "/" not in carried.file_name("a/b")
    assert carried.is_carried_name(carried.file_name("master-1"))
    assert not carried.is_carried_name(".carried-master-1.json.rescue")


def test_no_secret_of_a_survey_or_a_plan_is_added(file: bytes) -> None:
    """It holds what these hold, and nothing else."""
    data = json.loads(file)
    assert set(data) == {
        "kind", "format", "host", "made", "survey", "journals", "left_out", "sha256",
    }  # fmt: skip
    assert to_plain(carried.unpack(file, "stick").survey) == data["survey"]
