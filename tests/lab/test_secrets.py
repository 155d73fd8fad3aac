"""What must stay secret stays so through a whole rescue, and root is asked for one command only."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import OK, fab
from tests.lab.operator_home import sudoers_line


def as_operator(host: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What the operator's login says to a command."""
    argv = ["ssh", "-o", "BatchMode=yes", host, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.reliability(
    "Secrets",
    "sudo allows the operator's login the README's one line and nothing else, and that suffices",
)
def test_the_one_line_of_sudoers_is_enough_and_all(lab: Lab) -> None:
    host = lab.hosts["master-0"]
    line = sudoers_line()
    assert sudoers_line("docs/sudo.md") == line
    assert "*" not in line
    host.run(["visudo", "-c", "-s"])
    told = as_operator("master-0", "sudo", "-n", "-l").stdout
    allowed = told.partition("may run the following commands")[2].splitlines()[1:]
    assert [row.strip() for row in allowed if row.strip()] == [line.split("ALL=")[1].strip()]
    for refused in (["id"], ["sh", "-c", "id"], ["/usr/bin/python3", "-c", "print(1)"]):
        assert as_operator("master-0", "sudo", "-n", *refused).returncode != 0
    assert "healthy" in fab("diagnose").expect(OK).out
