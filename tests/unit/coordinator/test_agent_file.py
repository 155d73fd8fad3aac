"""The agent file: the same bytes for the same content, small, and startable on every Python."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from agent.errors import CommandFailed, Refused, UsageError
from coordinator.agent_file import PROJECT, AgentFile, build_agent, read_pins

IMPORTS = "import asn1crypto.x509, dacite, psutil, structlog, yaml"
CLI = f"""
import sys

def main():
    {IMPORTS}
    assert not yaml.__with_libyaml__
    psutil.Process().name()
    print("ran on", sys.version.split()[0])
    return 0
"""


def make_sources(directory: Path, cli: str = CLI) -> Path:
    sources = directory / "agent"
    (sources / "deeper").mkdir(parents=True)
    (sources / "entry").mkdir()
    (sources / "__init__.py").write_text("")
    (sources / "entry" / "__init__.py").write_text("")
    (sources / "entry" / "cli.py").write_text(cli)
    (sources / "deeper" / "__init__.py").write_text("X = 1\n")
    return sources


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> AgentFile:
    directory = tmp_path_factory.mktemp("built")
    return build_agent(sources=make_sources(directory), output_dir=directory / "dist")


def pythons() -> list[str]:
    found = sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"))
    wanted = [p for p in found if int(p.parts[-3].split(".")[1]) >= 9]
    return [str(p) for p in wanted] or [sys.executable]


@pytest.mark.parametrize("python", pythons())
def test_it_starts_on_every_python(built: AgentFile, tmp_path: Path, python: str) -> None:
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(tmp_path)}
    for _ in range(2):  # unpacking, and unpacked
        done = subprocess.run(
            [python, "-I", str(built.path)], capture_output=True, text=True, env=env, check=False
        )
        assert done.stdout.startswith("ran on 3."), done.stderr


def test_the_same_content_gives_the_same_bytes(built: AgentFile, tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    for path in sources.rglob("*"):
        os.utime(path, (1, 1))
    again = build_agent(sources=sources, output_dir=tmp_path / "dist")
    assert (again.sha256, again.size) == (built.sha256, built.size)
    assert again.path.read_bytes() == built.path.read_bytes()


def test_it_is_small_and_holds_only_what_every_host_can_use(built: AgentFile) -> None:
    assert built.size == built.path.stat().st_size < 1_500_000
    with zipfile.ZipFile(built.path) as archive:
        names = archive.namelist()
    libraries = [name for name in names if name.endswith(".so")]
    assert libraries == ["site-packages/psutil/_psutil_linux.abi3.so"]
    assert not [n for n in names if "/tests/" in n or n.endswith((".pyc", ".pyi"))]
    assert [n for n in names if n.startswith("site-packages/licenses/structlog")]
    assert names == sorted(names)


def test_a_second_call_builds_nothing(built: AgentFile) -> None:
    directory = built.path.parent.parent
    before = built.path.stat().st_mtime_ns
    started = time.perf_counter()
    again = build_agent(sources=directory / "agent", output_dir=directory / "dist")
    assert time.perf_counter() - started < 0.1
    assert again == built
    assert built.path.stat().st_mtime_ns == before


def test_changed_sources_or_a_changed_file_are_built_anew(tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    first = build_agent(sources=sources, output_dir=tmp_path / "dist")
    (sources / "deeper" / "__init__.py").write_text("X = 2\n")
    second = build_agent(sources=sources, output_dir=tmp_path / "dist")
    assert second.sha256 != first.sha256
    second.path.write_bytes(b"x" * second.size)
    assert build_agent(sources=sources, output_dir=tmp_path / "dist") == second


def test_other_machines_have_a_file_of_their_own(built: AgentFile) -> None:
    directory = built.path.parent.parent
    try:
        other = build_agent(
            machine="aarch64", sources=directory / "agent", output_dir=directory / "dist"
        )
    except CommandFailed as error:
        pytest.skip(f"no package index: {error.seen}")
    assert other.path.name == "rescue-agent-aarch64.pyz"
    with zipfile.ZipFile(other.path) as archive:
        library = archive.read("site-packages/psutil/_psutil_linux.abi3.so")
    assert library[18:20] == b"\xb7\x00"  # e_machine: EM_AARCH64


def test_a_package_that_is_not_to_be_had_is_named(tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("PyYAML==0.0.0.1\n")
    with pytest.raises(CommandFailed, match=r"PyYAML==0\.0\.0\.1") as caught:
        build_agent(sources=make_sources(tmp_path), constraints=pins, output_dir=tmp_path / "dist")
    assert caught.value.next.endswith("pip install PyYAML==0.0.0.1")
    assert list((tmp_path / "dist").iterdir()) == []


def test_an_agent_without_its_entry_point_is_refused(tmp_path: Path) -> None:
    sources = make_sources(tmp_path)
    (sources / "entry" / "cli.py").unlink()
    with pytest.raises(Refused, match=r"has no entry point"):
        build_agent(sources=sources, output_dir=tmp_path / "dist")


@pytest.mark.parametrize("line", ["x>=1", "x", "==1", "x=="])
def test_only_exact_pins(tmp_path: Path, line: str) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text(f"# ours\n{line}\n")
    with pytest.raises(UsageError, match="2:"):
        read_pins(pins)


def test_the_project_pins_what_the_agent_may_import() -> None:
    names = {name.lower() for name in read_pins(PROJECT / "agent-constraints.txt")}
    assert names == {
        "asn1crypto", "dacite", "hpack", "psutil", "pyyaml", "structlog", "typing_extensions",
    }  # fmt: skip


def test_the_pins_are_those_of_the_project() -> None:
    ours = read_pins(PROJECT / "agent-constraints.txt")
    everything = {n.lower(): v for n, v in read_pins(PROJECT / "constraints.txt").items()}
    assert {name: everything[name.lower()] for name in ours} == ours
