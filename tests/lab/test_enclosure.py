"""Proves that nothing of a lab outlives its enclosure, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.lab import cgroups
from tests.lab.host import wait_until
from tests.lab.paths import REPO_DIR

_INNER = """
import time
from tests.lab.lab import Lab
Lab.start(hosts=1)
print("ready", flush=True)
time.sleep(600)
"""
_OUTER = f"""
import sys
from tests.lab import enclosure
sys.exit(enclosure.enclose([sys.executable, "-c", '''{_INNER}''']))
"""


def processes() -> set[int]:
    """Every process that is not a zombie."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(int(folder.name))
    return found


def leftovers() -> set[Path]:
    """Control groups of labs."""
    return set(Path("/sys/fs/cgroup").glob("*/etcd-rescue-lab.*"))


def start() -> subprocess.Popen[str]:
    """A lab in an enclosure of its own, ready."""
    outer = subprocess.Popen(
        [sys.executable, "-c", _OUTER], stdout=subprocess.PIPE, text=True, cwd=REPO_DIR
    )
    assert outer.stdout
    assert outer.stdout.readline() == "ready\n"
    return outer


def test_sigkill_of_the_outer_process_ends_everything() -> None:
    processes_before, groups_before = processes(), leftovers()
    mounts, links = Path("/proc/mounts").read_text(), sorted(Path("/sys/class/net").iterdir())
    outer = start()
    assert len(processes() - processes_before) > 8
    outer.send_signal(signal.SIGKILL)
    outer.wait()
    wait_until(lambda: not processes() - processes_before, 10, "the end of every process")
    assert Path("/proc/mounts").read_text() == mounts
    assert sorted(Path("/sys/class/net").iterdir()) == links
    cgroups.remove_leftovers()
    assert leftovers() == groups_before


def test_sigterm_ends_the_command_and_leaves_no_control_group() -> None:
    processes_before, groups_before = processes(), leftovers()
    outer = start()
    outer.send_signal(signal.SIGTERM)
    assert outer.wait(20) == 128 + signal.SIGTERM
    assert not processes() - processes_before
    assert leftovers() == groups_before


def test_exit_code_of_the_command_is_handed_on() -> None:
    outer = _OUTER.replace(_INNER, "import sys; sys.exit(7)")
    done = subprocess.run([sys.executable, "-c", outer], cwd=REPO_DIR)
    assert done.returncode == 7
