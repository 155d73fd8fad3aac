"""What goes into a bundle: wheels by the pins, our own among them, the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from agent.errors import UsageError
from bundle.build import _pack, _sum_up
from bundle.wheels import needed_pins, own_wheel
from coordinator.agent_file import CARRIED, build_agent


def test_all_that_the_tasks_need_is_pinned_and_nothing_that_only_builds() -> None:
    pins = needed_pins()
    assert {"fabric", "paramiko", "cryptography", "bcrypt", "rich", "psutil"} <= set(pins)
    assert not {"shiv", "pip", "pytest", "mypy"} & set(pins)


def test_our_wheel_is_the_same_each_time_and_whole(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first, second = own_wheel(tmp_path / "1"), own_wheel(tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        (record,) = [n for n in names if n.endswith("/RECORD")]
        rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
        for name, digest, size in rows:
            if name != record:
                data = archive.read(name)
                said = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
                assert (digest, size) == (f"sha256={said.decode()}", str(len(data)))
        assert {row[0] for row in rows} == set(names)
    assert {"fabfile.py", "coordinator/bootstrap.py", "agent/entry/cli.py"} <= set(names)
    assert not [n for n in names if "__pycache__" in n or n.startswith("tests")]


def test_our_wheel_is_one_that_pip_takes(tmp_path: Path) -> None:
    wheel = own_wheel(tmp_path)
    argv = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
        "--disable-pip-version-check", f"--target={tmp_path / 'site'}", str(wheel),
    ]  # fmt: skip
    subprocess.run(argv, check=True)
    assert (tmp_path / "site/fabfile.py").is_file()
    assert (tmp_path / "site/agent/errors.py").is_file()


def test_an_archive_is_the_same_whenever_and_by_whom_its_files_were_written(tmp_path: Path) -> None:
    packed = []
    for number, names in enumerate((("b", "a/x"), ("a/x", "b"))):
        top = tmp_path / str(number) / "bundle"
        for name in names:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(name)
            (top / name).chmod(0o600 + number * 0o40)
        assert _sum_up(top) == 2
        _pack(top, tmp_path / f"{number}.tar", 1_700_000_000)
        packed.append((tmp_path / f"{number}.tar").read_bytes())
    assert packed[0] == packed[1]
    with tarfile.open(tmp_path / "0.tar") as tar:
        rows = [(m.name, m.mtime, m.uid, m.uname, oct(m.mode)) for m in tar]
    assert rows == [
        (f"bundle/{name}", 1_700_000_000, 0, "", "0o644") for name in ("SHA256SUMS", "a/x", "b")
    ]


def test_no_name_goes_in_that_verify_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "with space").write_text("")
    with pytest.raises(UsageError, match="with space"):
        _sum_up(tmp_path)


def test_the_agent_that_was_carried_is_taken_and_none_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CARRIED, str(tmp_path))
    (tmp_path / "rescue-agent-riscv64.pyz").write_bytes(b"agent")
    found = build_agent(machine="riscv64")
    assert (found.size, found.sha256) == (5, hashlib.sha256(b"agent").hexdigest())
    with pytest.raises(UsageError, match="no agent for s390x"):
        build_agent(machine="s390x")
