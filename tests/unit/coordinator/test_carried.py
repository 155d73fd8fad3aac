"""What consoles wrote, on the operator's machine: merged, believed for hosts that are silent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.diagnosis.cluster import diagnose
from agent.errors import Damaged, Locked, Paused, Unreachable, UsageError
from agent.host import Host
from agent.model.facts import JournalFacts, Observation, Survey
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step
from agent.records.carried import file_name, pack
from agent.records.journal import Journal, read_journals
from coordinator.carried_store import stored
from coordinator.console import Progress
from coordinator.fleet import Fleet
from coordinator.sequencer import Sequencer
from coordinator.tasks import carried
from coordinator.tasks.common import Looked, Options
from coordinator.tasks.open_plans import refuse_open_plans
from tests.unit.builders import Lab
from tests.unit.coordinator.test_sequencer import NOTHING, PARK, Heard, Trees, plan, stage
from tests.unit.coordinator.test_sequencer import fleet as fleet

LAB = Lab(3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The operator's working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def host_at(root: Path, name: str) -> Host:
    (root / "etc").mkdir(parents=True, exist_ok=True)
    (root / "etc/hostname").write_text(f"{name}\n")
    return Host(str(root))


def survey_of(host: Host, number: int) -> Survey:
    seen = LAB.healthy(number).survey
    assert seen is not None
    return replace(seen, hostname=host.hostname(), journals=read_journals(host))


def write(stick: Path, host: Host, number: int) -> Path:
    """Write a host's file to the stick, as its console would."""
    stick.mkdir(exist_ok=True)
    path = stick / file_name(host.hostname())
    path.write_bytes(pack(host, survey_of(host, number)))
    return path


def a_plan(host: str = "master-1") -> Plan:
    step = Step("01", host, "stop_etcd", {}, "because")
    return Plan(FORMAT, "reseed", "a test", 1.0, {host: "10.0.0.1"}, (Stage("one", (step,)),),
                Promise(())).with_id()  # fmt: skip


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def looked(observations: list[Observation]) -> Looked:
    """What a task starts from, with what was imported."""
    verdict = diagnose(observations)
    nobody, files = cast("Fleet", None), tuple(stored(""))
    return Looked(nobody, tuple(observations), verdict, Progress(), carried=files)


OPTIONS = Options(output="json")


def test_a_stick_is_merged_and_a_newer_file_takes_an_older_ones_place(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, stick = host_at(tmp_path / "m1", "master-1"), tmp_path / "stick"
    journal = Journal.create(host, a_plan())
    old = write(stick, host, 0).read_bytes()
    write(stick, host_at(tmp_path / "m2", "master-2"), 1)
    carried.import_files(OPTIONS, str(stick))
    assert [(r["host"], r["done"]) for r in rows(capsys)] == [("master-1", [])]
    journal.append("intent", "01")
    journal.append("done", "01")
    new = write(stick, host, 0)
    carried.import_files(OPTIONS, str(new))
    assert rows(capsys)[0]["done"] == ["01"]
    kept = here / "carried" / "carried-master-1.json"
    assert kept.read_bytes() == new.read_bytes()
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    new.write_bytes(old)
    carried.import_files(OPTIONS, str(stick))  # an older copy, found once more
    assert rows(capsys)[0]["done"] == ["01"]
    assert sorted(p.name for p in (here / "carried").iterdir()) == [
        "carried-master-1.json", "carried-master-2.json",
    ]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_what_is_no_carried_file_is_refused_and_nothing_kept(tmp_path: Path) -> None:
    good = write(tmp_path / "stick", host_at(tmp_path / "m1", "master-1"), 0)
    for name, data, error in (
        ("carried-a.json", b"{}", UsageError),
        ("carried-b.json", good.read_bytes()[:-40], Damaged),
        ("carried-c.json", b"\xff" * 100, Damaged),
    ):
        wrong = tmp_path / name
        wrong.write_bytes(data)
        with pytest.raises(error):
            carried.import_files(OPTIONS, str(wrong))
    for place in (tmp_path / "none.json", tmp_path / "m1"):
        with pytest.raises(UsageError):
            carried.import_files(OPTIONS, str(place))
    assert stored("") == []


def test_a_stored_file_that_was_damaged_says_how_to_go_on(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    carried.import_files(
        OPTIONS, str(write(tmp_path / "stick", host_at(tmp_path / "m1", "master-1"), 0))
    )
    capsys.readouterr()
    kept = here / "carried/carried-master-1.json"
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(Damaged) as caught:
        stored("")
    assert "remove carried/carried-master-1.json" in caught.value.next


@pytest.mark.usefixtures("here")
def test_a_silent_host_is_judged_by_what_was_carried_and_one_that_answers_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = tmp_path / "stick"
    for number in range(2):
        host = host_at(tmp_path / str(number), f"master-{number + 1}")
        write(stick, host, number)
    carried.import_files(OPTIONS, str(stick))
    capsys.readouterr()
    live = [LAB.no_quorum(0), LAB.unreachable(1), LAB.unreachable(2)]
    seen, verdict = carried.filled_in(looked(live), ())
    assert seen[0] == live[0]
    assert seen[1].survey is not None
    assert seen[2] == live[2]
    assert len([w for w in verdict.warnings if "judged by what was carried" in w]) == 1
    assert "master-2 did not answer" in verdict.warnings[0]
    all_there = [LAB.healthy(n) for n in range(3)]
    same = looked(all_there)
    assert carried.filled_in(same, ()) == (same.observations, same.diagnosis)


@pytest.mark.usefixtures("here")
def test_journals_of_silent_hosts_are_shown_as_carried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path / "m1", "master-1")
    journal = Journal.create(host, a_plan())
    journal.append("intent", "01")
    carried.import_files(OPTIONS, str(write(tmp_path / "stick", host, 0)))
    capsys.readouterr()
    silent = looked([LAB.unreachable(0)])
    (row,) = carried.journal_rows("", silent)
    assert (row["host"], row["begun"], row["state"]) == ("master-1 (carried)", ["01"], "open")
    (record,) = carried.journal_rows(journal.plan.short_id, silent)
    assert (record["kind"], record["step"]) == ("intent", "01")
    assert carried.journal_rows("fedcba", silent) == []


@pytest.mark.usefixtures("here")
def test_a_plan_that_is_open_on_a_silent_host_is_in_the_way_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path / "m1", "master-1")
    journal = Journal.create(host, a_plan())
    journal.append("intent", "01")
    carried.import_files(OPTIONS, str(write(tmp_path / "stick", host, 0)))
    others = [LAB.healthy(1), LAB.healthy(2)]
    with pytest.raises(Locked) as caught:
        refuse_open_plans(looked([LAB.unreachable(0), *others]))
    assert "rescue-agent resume" in caught.value.next
    assert "remove carried/carried-master-1.json" in caught.value.next
    assert carried.proved(journal.plan, looked([LAB.unreachable(0), *others])) == {
        "master-1": frozenset()
    }
    answers = replace(LAB.healthy(0), survey=survey_of(host_at(tmp_path / "m9", "master-1"), 0))
    refuse_open_plans(looked([answers, *others]))
    assert carried.proved(journal.plan, looked([answers, *others])) == {}
    facts = JournalFacts(journal.plan.id, "reseed", "complete")
    closed = replace(
        others[0], survey=replace(survey_of(host, 1), hostname="m2", journals=(facts,))
    )
    refuse_open_plans(looked([LAB.unreachable(0), closed]))


# ---- resume --------------------------------------------------------------------------------------


def three(waits_for: tuple[str, ...] = ()) -> Plan:
    """A step on m1, one on m0, and one more on m1."""
    return plan(
        stage("one", ("m1", PARK)),
        stage("two", ("m0", PARK)),
        stage("three", ("m1", NOTHING), waits_for=waits_for),
    )


def test_resume_goes_on_where_the_silent_hosts_journal_was_carried(fleet: Trees) -> None:
    fleet.down = {"m1"}
    for known in (None, {}, {"m1": ()}, {"m1": ("03",)}, {"m2": ("01",)}):
        with pytest.raises(Unreachable, match="m1 cannot be worked with"):
            Sequencer(fleet, three(("m1",)), Heard(), proved=known).begin()
    run = Sequencer(fleet, three(("m1",)), Heard(), proved={"m1": ("01",)})
    run.begin()
    fleet.asked.clear()
    assert run.run().put_off == ["m1"]
    assert fleet.steps() == ["02"]
    with pytest.raises(Paused):
        run.finish()
    fleet.down = set()
    again = Sequencer(fleet, three(("m1",)), Heard(), proved={"m1": ("01",)})
    again.begin()
    assert again.report.done == {"02"}, "a host that answers says itself what is done"


def test_a_host_that_answers_is_not_judged_by_its_older_journal(fleet: Trees) -> None:
    run = Sequencer(fleet, three(), Heard(), proved={"m1": ("01",), "m0": ("02",)})
    run.begin()
    assert run.report.done == set()
    fleet.asked.clear()
    run.run()
    run.finish()
    assert fleet.steps() == ["01", "02", "03"]
