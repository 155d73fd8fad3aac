"""The lines that a host's shell is sent: they find it a Python, or take the carried one along.

sh reads them one by one (`read -r`), so that what follows a line stays for whoever comes next: the
bootstrap for a Python, the bytes of the runtime for `head`. A script becomes one line by escapes
that printf's %b takes back.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from coordinator.runtime_file import LOADERS, RuntimeFile

SHELL_PROGRAM = 'echo {};read -r l;eval "$l"'
"""Says {} on a line of its own, then runs the line of shell that comes. Nothing in it needs an
escape in sudoers."""

SUDO_COMMAND = f"/bin/sh -c {SHELL_PROGRAM}"
"""What sudoers must allow (docs/sudo.md)."""

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin:/opt/bin"
PYTHONS = (
    "python3 python3.13 python3.12 python3.11 python3.10 python3.9 /usr/libexec/platform-python"
    " python python2"
)
"""Looked for in this order; the last two are mostly too old, and then it is said what is there."""

ALWAYS = "ETCD_RESCUE_CARRIED_RUNTIME"
"""The variable that makes the carried runtime run even where a host has a Python that will do."""

MODULES = (
    "argparse", "array", "base64", "binascii", "calendar", "collections", "concurrent",
    "contextlib", "contextvars", "copy", "ctypes", "dataclasses", "datetime", "enum", "errno",
    "fcntl", "fnmatch", "fractions", "functools", "getpass", "glob", "grp", "gzip", "hashlib",
    "http", "inspect", "io", "ipaddress", "itertools", "json", "logging", "math", "os",
    "pathlib", "pwd", "queue", "re", "resource", "secrets", "select", "selectors",
    "shlex", "shutil", "signal", "socket", "ssl", "stat", "stringprep", "struct", "subprocess",
    "tarfile", "textwrap", "threading", "time", "traceback", "types", "typing", "unicodedata",
    "urllib", "warnings", "weakref", "zipfile", "zlib", "_ctypes", "_hashlib", "_socket",
    "_ssl",
)  # fmt: skip
"""Of the standard library, what the agent and its packages need. Distributions leave parts out
(Debian's python3-minimal has no json), and a build without a library's headers lacks its module."""

_CHECK = """\
import sys
v = sys.version_info
m = []
if v >= (3, 9):
    m = [n for n in "{modules}".split() if n not in sys.builtin_module_names]
    m = [n for n in m if not sys.meta_path[-1].find_spec(n)]
sys.stdout.write("%d.%d" % v[:2] + (m and " without " + " ".join(m[:3]) or ""))
sys.exit(v < (3, 9) or len(m) > 0)
"""
_HERE = Path(__file__).parent
_FIND, _START, _INSTALL, _SETTLE = (
    (_HERE / name).read_text() for name in ("find.sh", "start.sh", "install.sh", "settle.py")
)


def start_lines(state_dir: str, runtimes: Iterable[RuntimeFile]) -> bytes:
    """The first two lines: they take a Python of the host's, or a runtime of these that is there.

    It runs the line after them; else that is passed over, {"have": false, "python": "", "found": …,
    "arch": …, "lacks": …} is said, and the one after that is for the shell again.
    """
    words = [f"{r.machine}:{r.tree_id}:{r.entries}:{LOADERS[r.machine]}" for r in runtimes]
    pythons = "" if os.environ.get(ALWAYS) else PYTHONS
    check = _CHECK.format(modules=" ".join(MODULES))
    find = shell_line(_FIND, SEARCH=SEARCH_PATH, PYTHONS=pythons, CHECK=check)
    return find + shell_line(_START, STATE=state_dir, RUNTIMES=" ".join(words))


def install_line(runtime: RuntimeFile) -> bytes:
    """The line that takes a runtime: asks for its parts as {"send": …}, or says {"error": …}.

    It asks for "busybox", "archive" and at last "code", the line for Python.
    """
    return shell_line(
        _INSTALL,
        SETTLE=_SETTLE,
        SUM=runtime.sha256,
        SIZE=str(runtime.size),
        BUSYBOX_SUM=runtime.busybox_sha256,
        BUSYBOX_SIZE=str(runtime.busybox_size),
    )


def shell_line(script: str, **variables: str) -> bytes:
    """A script with variables set ahead of it, as one line of ASCII for `eval`."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    kept = (line.strip() for line in script.splitlines())
    lines += [line for line in kept if line and not line.startswith("#")]
    text = "\n".join(lines) + "\n"
    for plain, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("'", "\\0047")):
        text = text.replace(plain, escaped)
    return f"eval \"$(printf %b '{text}')\"\n".encode("ascii")
