from __future__ import annotations

from pathlib import Path

from agent.host import Host


def test_write_gives_the_age_that_is_asked_for(tmp_path: Path) -> None:
    age = 1_700_000_000_123_456_789
    host = Host(str(tmp_path))
    host.makedirs("/etc")
    host.write_atomic("/etc/x", b"new", times=(age, age))
    assert (tmp_path / "etc/x").stat().st_mtime_ns == age
