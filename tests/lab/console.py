"""The operator at a host's own console: verbs of the agent that was delivered there."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.lab.evidence import STATE
from tests.lab.host import Host
from tests.lab.operator import OK, REFUSED

ENV = ["env", "COLUMNS=80"]


def say(host: Host, *words: str, code: int = OK) -> subprocess.CompletedProcess[str]:
    """Type a verb at the console of a host that the agent was delivered to."""
    agent = max(host.path(f"{STATE}/agent").glob("*.pyz"), key=lambda path: path.stat().st_mtime)
    argv = [*ENV, _python(host), f"{STATE}/agent/{agent.name}", *words]
    done = host.run(argv, check=False, timeout=180)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stderr}\n{done.stdout}"
    assert "Traceback" not in done.stderr
    return done


def _python(host: Host) -> str:
    """The host's own where that will do, else the one that delivery took along."""
    carried = list(host.path(f"{STATE}/runtime").glob("*/bin/python3"))
    return f"{STATE}/runtime/{carried[0].parent.parent.name}/bin/python3" if carried else "python3"


def act(host: Host, *words: str) -> dict[str, Any]:
    """Type a verb that acts; what it reports."""
    outcome: dict[str, Any] = json.loads(say(host, *words).stdout)
    assert outcome["outcome"] in ("done", "already")
    return outcome


def refuse(host: Host, *words: str, told: str) -> None:
    """Type a verb that must be refused, with words that tell why, and what next."""
    err = say(host, *words, code=REFUSED).stderr
    assert told in err
    assert "next:" in err or "nothing is ever overwritten" in err
