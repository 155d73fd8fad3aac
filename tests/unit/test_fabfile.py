from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fabfile
from coordinator.command import command_line_hosts

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argv", "hosts"),
    [
        ([], ()),
        (["survey"], ()),
        (["-H", "a,b", "survey"], ("a", "b")),
        (["-Ha", "survey"], ("a",)),
        (["-H=a,b", "survey"], ("a", "b")),
        (["--hosts", "a", "survey"], ("a",)),
        (["--hosts=a,b", "survey"], ("a", "b")),
        (["-H"], ()),
    ],
)
def test_hosts_of_the_command_line(argv: list[str], hosts: tuple[str, ...]) -> None:
    assert command_line_hosts(argv) == hosts


def fab(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fabric", *argv], cwd=ROOT, text=True, capture_output=True,
        check=False,
    )  # fmt: skip


def test_the_list_reads_like_a_table_of_procedures() -> None:
    done = fab("--list")
    assert done.returncode == 0
    for task in ("survey", "diagnose", "plan", "apply", "rescue-node", "rescue-quorum",
                 "remove-member", "resume", "rollback", "journal"):  # fmt: skip
        assert f"\n  {task} " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_mistake_ends_with_its_exit_code_and_no_trace() -> None:
    done = fab("-H", "nohost.invalid", "survey", "--output", "xml")
    assert done.returncode == 2
    assert "no output format 'xml'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "task", ["rescue_node", "rescue_quorum", "restore", "replace_machine", "apply", "resume"]
)
def test_whatever_may_ask_openshifts_api_takes_the_operators_kubeconfig(task: str) -> None:
    taken = inspect.signature(getattr(fabfile, task).body).parameters
    assert {"kubeconfig", "api_patience"} <= set(taken)


@pytest.mark.parametrize("seconds", ["-1", "3601", "soon"])
def test_a_patience_that_makes_no_sense_is_refused(seconds: str) -> None:
    done = fab("-H", "nohost.invalid", "resume", "--api-patience", seconds)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"--api-patience {seconds}" in done.stderr
