"""The file system of the debug-pod image: the carried runtime, and the agent. No shell is in it.

    /usr/bin/python3.11 python3    the interpreter; its loader and libraries are in /usr/lib
    /usr/bin/rescue-agent          a Python program like any other, by its first line
    /usr/lib/etcd-rescue/          the agent and what it needs, unpacked
    /var/lib/etcd-rescue/agent/    the agent file, by its hash: where fab looks before it sends one

The interpreter is found by its usual place, and its libraries by the loader's own: nothing has to
be set when the image is started.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from agent import __version__
from agent.host import STATE_DIR
from coordinator.agent_file import AgentFile
from images.oci import Entry

_LOADERS = {
    "x86_64": ("lib64/ld-linux-x86-64.so.2", "../usr/lib/ld-linux-x86-64.so.2"),
    "aarch64": ("lib/ld-linux-aarch64.so.1", "../usr/lib/ld-linux-aarch64.so.1"),
}
"""Machine → where a program's first bytes say that its loader is, and where that link leads."""

_SITE = "usr/lib/etcd-rescue"
_LEFT_OUT = {"bin/busybox", "bin/python3", "SHA256SUMS"}
"""Of the runtime's tree: what a host without anything needs, and an image does not."""

_LAUNCHER = f"""\
#!/usr/bin/python3.11 -EsS
import sys

sys.path[0] = "/{_SITE}"
from agent.entry.cli import main

sys.exit(main())
"""
_PASSWD = b"root:x:0:0:root:/root:/usr/bin/rescue-agent\n"
_PRIVATE = (STATE_DIR.lstrip("/"), f"{STATE_DIR.lstrip('/')}/agent", "root")


def image_config(agent: AgentFile) -> dict[str, Any]:
    """The image's configuration: what runs, in what environment, and what the image is."""
    return {
        "User": "0",
        "Env": [
            "PATH=/usr/bin",
            "HOST=/host",
            "OPENSSL_CONF=/dev/null",
        ],
        "Entrypoint": ["/usr/bin/rescue-agent"],
        "Cmd": ["survey"],
        "WorkingDir": "/",
        "Labels": labels(agent),
    }


def labels(agent: AgentFile) -> dict[str, str]:
    """By OCI's convention (image-spec, annotations.md); and which agent is in it."""
    return {
        "org.opencontainers.image.title": "etcd-rescue",
        "org.opencontainers.image.description": (
            "The agent of etcd-rescue, for a debug pod on a control-plane node"
        ),
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.vendor": "etcd-rescue",
        "org.opencontainers.image.documentation": "docs/debug-pod.md",
        "etcd-rescue.agent.sha256": agent.sha256,
    }


def entries(tree: Path, agent: AgentFile) -> list[Entry]:
    """All names of the image, in one order, directories ahead of what is in them.

    tree: of the runtime for the agent's machine (images.runtime).
    """
    found: dict[str, Entry] = {}
    loader, leads_to = _LOADERS[agent.machine]
    for entry in (
        *_runtime(tree),
        Entry("usr/bin/python3", 0o777, target="python3.11"),
        Entry(loader, 0o777, target=leads_to),
        *_site(agent),
        Entry("usr/bin/rescue-agent", 0o755, _LAUNCHER.encode()),
        Entry(f"{_PRIVATE[1]}/{agent.sha256}.pyz", 0o600, agent.path.read_bytes()),
        Entry("etc/passwd", 0o644, _PASSWD),
        Entry("tmp", 0o1777),
        Entry("run"),
        Entry("root", 0o700),
    ):
        for parent in reversed(PurePosixPath(entry.name).parents[:-1]):
            name = str(parent)
            found.setdefault(name, Entry(name, 0o700 if name in _PRIVATE else 0o755))
        found[entry.name] = entry
    return [found[name] for name in sorted(found)]


def _runtime(tree: Path) -> Iterator[Entry]:
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_dir() or name in _LEFT_OUT:
            continue
        mode = 0o755 if name.startswith("bin/") or path.name.startswith("ld-") else 0o644
        place = f"usr/{name}" if "/" in name else f"usr/share/etcd-rescue/{name}"
        yield Entry(place, mode, path.read_bytes())


def _site(agent: AgentFile) -> Iterator[Entry]:
    """The packages of the agent file, as delivery unpacks them on a host."""
    with zipfile.ZipFile(io.BytesIO(agent.path.read_bytes())) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("site-packages/"):
                yield Entry(f"{_SITE}/{name.partition('/')[2]}", 0o644, archive.read(name))
