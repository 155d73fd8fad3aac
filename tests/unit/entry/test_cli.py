from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.actions.definitions import file_hash
from agent.actions.members import MemberArgs
from agent.actions.services import ServeArgs, StopArgs
from agent.entry.cli import main, parse_values
from agent.errors import UsageError
from agent.model.catalog import CATALOG
from agent.records.journal import Journal
from agent.records.locks import take_lock
from agent.runner import single_step_plan
from agent.survey.watched import PARKED_DIR
from tests.unit.rooted import MANIFEST, kubeadm_host, picture

ROOT = Path(__file__).parents[2]
BY_PLAN = {
    "peers_silent", "check_authority", "install_authority", "check_ca_files", "install_ca_files",
    "place_master_file",
}  # fmt: skip
"""Actions that no console has: what they need comes with a plan, or beside it."""


@dataclass(frozen=True)
class Numbers:
    """A whole number, which no action has yet."""

    count: int = 0


GOOD: tuple[tuple[type[Any], list[str], dict[str, Any]], ...] = (
    (StopArgs, [], {}),
    (StopArgs, ["deadline=2.5", "hold=0"], {"deadline": 2.5, "hold": 0.0}),
    (ServeArgs, ["learner=true"], {"learner": True}),
    (ServeArgs, ["learner=no"], {"learner": False}),
    (Numbers, ["count=12"], {"count": 12}),
    (
        MemberArgs,
        ["name=m1", "peer-urls=https://a:1?x=y", "peer_urls=https://b:2"],
        {"name": "m1", "peer_urls": ["https://a:1?x=y", "https://b:2"]},
    ),
)


@pytest.mark.parametrize(("args_type", "words", "values"), GOOD)
def test_words_become_values(
    args_type: type[Any], words: list[str], values: dict[str, Any]
) -> None:
    assert parse_values(args_type, words) == values


@pytest.mark.parametrize(
    ("args_type", "word", "seen"),
    [
        (StopArgs, "deadline", "no argument of this action"),
        (StopArgs, "=3", "no argument of this action"),
        (StopArgs, "wrong=3", "no argument of this action"),
        (StopArgs, "deadline=soon", "not a number"),
        (StopArgs, "deadline=", "not a number"),
        (StopArgs, "deadline=nan", "not between"),
        (StopArgs, "deadline=inf", "not between"),
        (StopArgs, "deadline=-1", "not between"),
        (ServeArgs, "learner=fasle", "neither true nor false"),
        (Numbers, "count=1.5", "not a number"),
    ],
)
def test_words_that_say_nothing_clear_are_refused(
    args_type: type[Any], word: str, seen: str
) -> None:
    with pytest.raises(UsageError, match=seen):
        parse_values(args_type, [word])


def test_a_value_is_given_once() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parse_values(StopArgs, ["hold=1", "hold=2"])


# ---- the command ---------------------------------------------------------------------------------


def agent(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "COLUMNS": "80", **env}
    environ.pop("HOST", None)
    return subprocess.run(
        [sys.executable, "-m", "agent.entry.cli", *argv],
        cwd=ROOT, env=environ, text=True, capture_output=True, check=False,
    )  # fmt: skip


def test_help_names_every_action_and_fits_a_terminal() -> None:
    done = agent("--help")
    assert done.returncode == 0
    for name in ("session", "survey", "journal", "resume", "rollback"):
        assert f"    {name} " in done.stdout
    for name in set(CATALOG) - BY_PLAN:
        assert f"    {name.replace('_', '-')}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", sorted(set(CATALOG) - BY_PLAN))
def test_each_action_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name.replace("_", "-"), "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("Precondition:", "Undo:", "NAME=VALUE", "--dry-run"):
        assert words in said


def run(root: Path, *argv: str) -> int:
    return main(["--root", str(root), *argv])


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeadm_host(tmp_path)
    assert run(tmp_path, "journal") == 0
    assert run(tmp_path, "journal", "abc") == 2
    assert run(tmp_path, "stop-etcd", "wrong=1") == 2
    assert run(tmp_path, "member-remove") == 2  # an argument is missing
    assert run(tmp_path, "copy-data") == 3
    assert run(tmp_path / "nothing-here", "copy-data") == 3
    assert run(tmp_path / "etc", "copy-data") == 3  # a directory, but no control plane's
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "holds no host's file system" in error
    assert "no known control plane" in error
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, "no-such-verb")
    assert ended.value.code == 2


def test_a_dry_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeadm_host(tmp_path)
    before = picture(tmp_path, "/")
    assert run(tmp_path, "park-definition", "--dry-run") == 0
    assert run(tmp_path, "copy-data", "--dry-run") == 3
    assert picture(tmp_path, "/") == before
    assert json.loads(capsys.readouterr().out)["outcome"] == "would run"


def test_an_action_by_hand_is_journaled_and_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeadm_host(tmp_path)
    before = picture(tmp_path, MANIFEST)
    assert run(tmp_path, "park-definition") == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert not (tmp_path / MANIFEST[1:]).exists()
    assert run(tmp_path, "journal") == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["state"], facts["recipe"]) == ("complete", "single-step")
    assert run(tmp_path, "resume", plan) == 0
    assert "nothing was left to do" in capsys.readouterr().out
    assert run(tmp_path, "rollback", plan) == 0
    assert picture(tmp_path, MANIFEST) == before
    assert run(tmp_path, "park-definition") == 0  # the lock is free again


def test_an_action_by_hand_that_was_killed_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = kubeadm_host(tmp_path)
    plan = single_step_plan(host, "park_definition", {})
    take_lock(host, plan.id, "the killed one", 1)
    digest = file_hash(host, MANIFEST)
    undo = {"path": MANIFEST, "sha256": digest, "parked": f"{PARKED_DIR}/by-hand-x-etcd.yaml"}
    Journal.create(host, plan).append("intent", plan.steps()[0].id, undo)
    assert run(tmp_path, "stop-etcd") == 7  # the half-done one comes first
    assert f"plan {plan.short_id} of the killed one" in capsys.readouterr().err
    assert run(tmp_path, "resume", plan.short_id) == 0
    assert not (tmp_path / MANIFEST[1:]).exists()
    assert run(tmp_path, "unpark-definition") == 0
    assert file_hash(host, MANIFEST) == digest


def test_a_refused_action_leaves_the_host_free(tmp_path: Path) -> None:
    kubeadm_host(tmp_path)
    assert run(tmp_path, "copy-data") == 3
    assert run(tmp_path, "park-definition") == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_without_root_it_says_so(tmp_path: Path) -> None:
    kubeadm_host(tmp_path)
    script = (
        "import os, sys; os.chdir('/'); from agent.entry.cli import main; "
        "import agent.entry.verbs, agent.actions.registry; os.setuid(65534); "
        f"sys.exit(main(['--root', {str(tmp_path)!r}, 'park-definition']))"
    )
    for directory in (tmp_path, *list(tmp_path.parents)[:3]):
        if str(directory) not in ("/", "/tmp"):
            directory.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "run this as root" in done.stderr
    assert "Traceback" not in done.stderr
