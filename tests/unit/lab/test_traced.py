"""The reader of strace's log, on lines that strace 6.1 wrote: what it must not overlook."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.traced import Made, Trace, _read

CASES: tuple[tuple[str, list[Made]], ...] = (
    ('10 openat(AT_FDCWD</>, "/a/b", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 3</a/b>',
     [Made("openat", "/a/b", 0o600)]),
    ('10 openat(7</var/lib/etcd-rescue>, ".lock.json.rescue", O_WRONLY|O_CREAT, 0666) = 8</x>',
     [Made("openat", "/var/lib/etcd-rescue/.lock.json.rescue", 0o666)]),
    ('10 umask(077)                            = 000\n'
     '10 openat(AT_FDCWD</>, "a", O_RDWR|O_CREAT, 0666) = 3</a>', [Made("openat", "/a", 0o600)]),
    ('10 umask(077) = 0\n10 clone(child_stack=NULL, flags=SIGCHLD) = 11\n'
     '11 mkdir("/a", 0777) = 0', [Made("mkdir", "/a", 0o700)]),
    ('10 fchmod(5</a/secret>, 0644)            = 0', [Made("fchmod", "/a/secret", 0o644)]),
    ('10 fchmodat(AT_FDCWD</>, "/a/b", 0755) = 0', [Made("fchmodat", "/a/b", 0o755)]),
    ('10 openat(AT_FDCWD</>, "/a/b",  <unfinished ...>\n11 umask(022) = 077\n'
     '10 <... openat resumed>O_WRONLY|O_CREAT, 0644) = 3</a/b>', [Made("openat", "/a/b", 0o644)]),
    ('10 openat(AT_FDCWD</>, "/a", O_WRONLY|O_CREAT, 0666) = -1 EACCES (Permission denied)', []),
    ('10 openat(AT_FDCWD</>, "/a", O_RDONLY|O_CLOEXEC) = 3</a>', []),
)  # fmt: skip


@pytest.mark.parametrize(("log", "made"), CASES)
def test_what_is_made_is_seen_with_its_mode(tmp_path: Path, log: str, made: list[Made]) -> None:
    trace = Trace()
    (tmp_path / "log").write_text(f"{log}\n")
    _read(tmp_path / "log", trace)
    assert trace.made == made


def test_command_lines_are_kept_whole(tmp_path: Path) -> None:
    trace = Trace()
    line = '10 execve("/usr/bin/etcd", ["etcd", "-a b", "secret=\\"x\\""], 0x7ff /* 3 v */) = 0'
    (tmp_path / "log").write_text(f'{line}\n11 execve("/bin/no", ["no"], 0x1) = -1 ENOENT (No)\n')
    _read(tmp_path / "log", trace)
    assert len(trace.argv) == 2
    assert "secret=" in trace.argv[0]
