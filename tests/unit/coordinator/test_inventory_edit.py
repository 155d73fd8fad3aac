"""The operator's inventory: written down before, replaced once, never over another's change."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from agent.errors import Damaged, Refused
from coordinator import inventory_edit as edits

TEXT = "# ours\n[masters]\nm0\nm1\n[etcd]\nm0\nm1\n"
PLAN = "ab" * 32


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "hosts.ini"
    file.write_text(TEXT)
    file.chmod(0o640)
    return file


def write_down(path: Path) -> edits.Edit:
    found = edits.propose(path, {"m1"}, ("masters", "etcd", "absent"))
    assert found is not None
    edits.write_down(PLAN, *found)
    return found[0]


def test_nothing_changes_before_the_end_and_then_once(path: Path) -> None:
    edit = write_down(path)
    assert path.read_text() == TEXT
    assert (edit.groups, edit.lines) == (("masters", "etcd"), (4, 7))
    folder = edits.state_folder() / PLAN
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in folder.iterdir())
    said: list[str] = []
    edits.carry_out(PLAN, said.append)
    edits.carry_out(PLAN, said.append)
    assert path.read_text() == "# ours\n[masters]\nm0\n[etcd]\nm0\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (folder / "before").read_text() == TEXT
    assert len(said) == 1
    assert edits.all_pending() == []


def test_a_run_that_ended_after_the_rename_is_finished(path: Path) -> None:
    write_down(path)
    path.write_bytes((edits.state_folder() / PLAN / "after").read_bytes())
    assert edits.all_pending() == [PLAN]
    edits.carry_out(PLAN, print)
    assert edits.all_pending() == []


def test_a_change_of_somebody_else_is_not_thrown_away(path: Path) -> None:
    write_down(path)
    path.write_text(TEXT + "m9\n")
    with pytest.raises(Refused, match="was changed since"):
        edits.carry_out(PLAN, print)
    assert path.read_text() == TEXT + "m9\n"


def test_a_plan_that_was_taken_back_leaves_the_file(path: Path) -> None:
    write_down(path)
    edits.drop(PLAN)
    edits.carry_out(PLAN, print)
    assert path.read_text() == TEXT


def test_a_record_that_cannot_be_read_is_told(path: Path) -> None:
    write_down(path)
    (edits.state_folder() / PLAN / "edit.json").write_text("{}")
    with pytest.raises(Damaged):
        edits.pending(PLAN)


def test_a_host_that_is_not_there_needs_no_edit(path: Path) -> None:
    assert edits.propose(path, {"m7"}, ("masters",)) is None


def test_yaml_is_left_to_the_operator(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text("masters:\n  hosts:\n    m0:\n    m1:\n")
    with pytest.raises(Refused, match="not in ini form"):
        edits.propose(file, {"m1"}, ("masters",))


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.ini"
    link.symlink_to(path)
    found = edits.propose(link, {"m1"}, ("masters",))
    assert found is not None
    edits.write_down(PLAN, *found)
    edits.carry_out(PLAN, print)
    assert link.is_symlink()
    assert "m1" not in path.read_text().split("[etcd]")[0]
