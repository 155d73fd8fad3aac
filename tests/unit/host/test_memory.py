"""Limits of memory: which hold, who says so, and what is told when one is met."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from agent.host import memory

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


def limits(tmp_path: Path, own: str, files: dict[str, str]) -> list[tuple[int, str]]:
    (tmp_path / "cgroup").write_text(own)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = memory._group_limits(str(tmp_path / "cgroup"), str(tmp_path))
    return [(size, Path(file).relative_to(tmp_path).as_posix()) for size, file in found]


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/user.slice/s.scope\n",
         {"user.slice/s.scope/memory.max": "max\n", "user.slice/memory.max": "134217728\n"},
         [(128 * MIB, "user.slice/memory.max")]),
        ("0::/\n", {"memory.max": "67108864\n"}, [(64 * MIB, "memory.max")]),
        ("0::/../../pod\n", {"pod/memory.max": "1048576\n"}, [(MIB, "pod/memory.max")]),
        ("4:memory:/a/b\n1:name=systemd:/c\n",
         {"memory/a/b/memory.limit_in_bytes": "33554432\n",
          "memory/a/memory.limit_in_bytes": "9223372036854771712\n"},
         [(32 * MIB, "memory/a/b/memory.limit_in_bytes")]),
        ("4:cpu,cpuacct:/a\n", {"memory/a/memory.limit_in_bytes": "1\n"}, []),
        ("garbage\n", {}, []),
    ],
)  # fmt: skip
def test_limits_of_control_groups(
    tmp_path: Path, own: str, files: dict[str, str], expected: list[tuple[int, str]]
) -> None:
    assert limits(tmp_path, own, files) == expected


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert list(memory._group_limits(str(tmp_path / "none"), str(tmp_path))) == []


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("other"), False),
        (ValueError("x"), False),
    ],
)
def test_what_means_that_there_was_no_memory(error: Exception, is_memory: bool) -> None:
    assert memory.is_exhausted(error) is is_memory


def under(limit: int, program: str) -> str:
    """What a process prints whose RLIMIT_DATA is so many bytes."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))\n"
    done = subprocess.run(
        [sys.executable, "-c", code + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


THREADS = """
import threading
from agent.host import memory
{small}
gate, threads = threading.Event(), []
for _ in range(32):
    threads.append(threading.Thread(target=gate.wait))
    try:
        threads[-1].start()
    except RuntimeError as error:
        threads.pop()
        assert memory.is_exhausted(error), error
        print(memory.exhausted().seen)
        break
gate.set()
print(len(threads))
"""


def test_as_many_threads_as_a_survey_needs_find_room() -> None:
    said = under(memory.NEED, THREADS.format(small="memory.small_stacks()"))
    assert said.splitlines() == ["32"]
    said = under(memory.NEED, THREADS.format(small=""))
    assert said.splitlines()[0] == "the agent ran out of memory (it may use 128 MiB: ulimit -d)"


def test_a_thread_with_a_small_stack_reaches_the_limit_of_recursion() -> None:
    program = """
import threading
from agent.host import memory
memory.small_stacks()
def deeper(n):
    return deeper(n + 1)
def run():
    try:
        deeper(0)
    except RecursionError:
        print("recursion")
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    assert under(memory.NEED, program) == "recursion\n"


def test_a_scratch_etcd_has_no_limit_of_the_logins(tmp_path: Path) -> None:
    program = f"""
import resource
from agent.host import Host
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, ({memory.NEED}, hard))
host, ask = Host("/"), ["/bin/sh", "-c", "ulimit -d"]
host.spawn(ask, "{tmp_path}/log").wait()
print(open("{tmp_path}/log").read() + host.run(ask).stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["unlimited", str(memory.NEED >> 10)]
