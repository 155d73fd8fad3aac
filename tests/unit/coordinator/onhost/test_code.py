"""What a host's shell is sent, and how it is noticed that no Python there will do."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from coordinator.agent_file import PROJECT
from coordinator.delivery import host_command
from coordinator.onhost.code import MODULES, shell_line, start_lines


def said(stdin: bytes) -> str:
    """What the host's shell says to these lines."""
    done = subprocess.run(
        ["sh", "-c", host_command(True, False)], input=stdin, capture_output=True, check=False
    )
    return done.stdout.decode()


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


# ---- lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "busybox"])
def test_a_script_as_a_line_is_the_script(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    script = '# left out\nfirst=\'a  b\'\n\nprintf \'%s|\' "$first" "$V" "\\\\" \'\\n\' "it\'s"\n'
    value = "x '\"$(id)`id`\\n\n%s %b \\0101"
    line = shell_line(script, V=value)
    assert line.count(b"\n") == 1
    argv = ["busybox", "sh"] if shell == "busybox" else [shell]
    done = subprocess.run(
        [*argv, "-c", 'read -r l; eval "$l"'], input=line, capture_output=True, check=True
    )
    assert done.stdout.decode() == f"a  b|{value}|\\|\\n|it's|"


def test_every_module_that_the_agent_needs_is_asked_for() -> None:
    """Those of the standard library; what no Python can be without is not worth a question."""
    always = {"__future__", "abc", "codecs", "copyreg", "encodings", "importlib", "operator"}
    always |= {"posixpath", "sys"}
    always |= {"asyncio", "pickle", "uuid", "xml"}  # by parts that are never used
    used = {name for folder in (PROJECT / "agent", *CARRIED) for name in imported(folder)}
    assert used - always - set(MODULES) == set()
    assert set(MODULES) <= sys.stdlib_module_names


CARRIED = [
    Path(str(metadata.distribution(name).locate_file(package)))
    for name, package in (
        ("PyYAML", "yaml"), ("structlog", "structlog"), ("psutil", "psutil"), ("dacite", "dacite"),
        ("asn1crypto", "asn1crypto"),
    )
]  # fmt: skip


def imported(folder: Path) -> set[str]:
    """The modules of the standard library that anything below a folder imports."""
    used = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                used.add((node.module or "").partition(".")[0])
    return used & sys.stdlib_module_names


# ---- noticing ------------------------------------------------------------------------------------


def test_no_python_is_reported(bare: Path) -> None:
    lines = start_lines("/nowhere", []) + b"print(1)\n"
    arch = os.uname().machine
    assert said(lines).splitlines() == [
        "{}",
        f'{{"have": false, "python": "", "found": "", "arch": "{arch}", "lacks": ""}}',
    ]


@pytest.mark.parametrize("status", [77, 126, 127])
def test_a_python_that_is_broken_is_passed_over(bare: Path, status: int) -> None:
    lines = start_lines("/nowhere", []) + b"print('ran')\n"
    program(bare / "python3", f"#!/bin/sh\nexit {status}\n")
    assert '"found": "python3 which does not start"' in said(lines)
    (bare / "python3.11").symlink_to(sys.executable)
    assert "ran" in said(lines)


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8"])
def test_a_real_old_python_steps_aside(bare: Path, version: str) -> None:
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} here")
    program(bare / "python3", f'#!/bin/sh\nexec {found[0]} "$@"\n')
    assert f'"found": "python3 {version}"' in said(start_lines("/nowhere", []) + b"print(1)\n")


def test_what_an_old_python_says_cannot_break_out_of_the_report(bare: Path) -> None:
    program(bare / "python3", '#!/bin/sh\nprintf \'2.7", "python": "3.9\\n\'; exit 1\n')
    assert '"found": "python3 ?"' in said(start_lines("/nowhere", []) + b"print(1)\n")


def test_a_python_without_a_part_of_its_library_steps_aside(bare: Path, tmp_path: Path) -> None:
    """As Debian's python3-minimal is, which has no json."""
    library = tmp_path / "lib" / "python3.11"
    real = Path(os.__file__).parent
    shutil.copytree(real, library, ignore=shutil.ignore_patterns("json", "site-packages", "test"))
    prefix = f"import sys; sys.path[:] = ['{library}', '{library}/lib-dynload']; "
    program(
        bare / "python3", f'#!/bin/sh\nshift 4; exec {sys.executable} -E -s -S -c "{prefix}$1"\n'
    )
    told = said(start_lines("/nowhere", []) + b"print(1)\n")
    version = "{}.{}".format(*sys.version_info[:2])
    assert f'"found": "python3 {version} without json"' in told
