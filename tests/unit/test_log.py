from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from agent.host import Host
from agent.log import DEBUG, debug, logger

SECRET = "s3cr3t-in-a-local"


@pytest.mark.reliability(
    "Secrets", "a trace of the agent shows no local variables, whatever is installed beside it"
)
def test_a_trace_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    password = "".join(["s3cr3t", "-in-a-", "local"])
    assert password == SECRET
    try:
        raise ValueError("no good")
    except ValueError:
        logger().exception("internal error")
    said = capsys.readouterr().err
    assert "ValueError: no good" in said
    assert "internal error" in said
    assert SECRET not in said


@pytest.mark.parametrize("value", ["", "1"])
def test_debug_speaks_only_when_asked(
    value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG, value)
    debug("ran", argv=("true",))
    assert ("true" in capsys.readouterr().err) is bool(value)


def test_commands_are_logged_without_what_they_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    done = Host("/").run(["sh", "-c", f"echo {SECRET[::-1]} | rev; echo $0 ${{{DEBUG}:-unset}}"])
    assert done.stdout == f"{SECRET}\nsh unset\n"
    said = capsys.readouterr().err
    assert "code=0" in said
    assert SECRET not in said


@pytest.mark.reliability("Secrets", "neither the agent nor what it starts can leave a core dump")
def test_no_core_is_dumped(tmp_path: Path) -> None:
    """RLIMIT_CORE of 1: the kernel then neither writes a file nor starts a core_pattern's pipe."""
    code = (
        "import os, resource, subprocess, sys; from agent.entry.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), flush=True)\n"
        "subprocess.run(['sh', '-c', 'ulimit -Hc; kill -SEGV $$'])\n"
    )
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1])),
    )  # fmt: skip
    assert "(1, 1)" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "0"
    assert list(tmp_path.iterdir()) == []
