"""Where the node's own etcd can be run from without a download."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Optional

from agent.errors import CommandFailed
from agent.host import Host
from agent.model.facts import Binary, EtcdConfig, EtcdProcess

_SECONDS = 0.8


def read_binaries(
    host: Host, config: Optional[EtcdConfig], processes: Sequence[EtcdProcess]
) -> tuple[Binary, ...]:
    """Sources of an etcd binary, the best first: a running etcd, the local image store, the PATH.

    ref is a path of the host, or the image's name in its store. Only a binary on the PATH is asked
    for its version. Nothing is mounted, copied or started.
    """
    image = config.image if config else ""
    program = config.program if config else ""
    return (*_running(host, processes), *_stored(host, image), *_on_path(host, program))


def _running(host: Host, processes: Sequence[EtcdProcess]) -> tuple[Binary, ...]:
    for process in processes:
        if process.scratch:
            continue
        try:
            inside = os.readlink(host.real("/proc") + f"/{process.pid}/exe")
        except OSError:
            continue  # it ended, or it is a kernel's business
        return (Binary("process", f"/proc/{process.pid}/root{inside}"),)
    return ()


def _stored(host: Host, image: str) -> tuple[Binary, ...]:
    if not image:
        return ()
    wanted = image_names(image)
    for argv in (
        ["ctr", "-n", "k8s.io", "images", "ls", "-q"],
        ["podman", "images", "--format", "{{.Repository}}:{{.Tag}}\n{{.Repository}}@{{.Digest}}"],
    ):
        if not host.which(argv[0]):
            continue
        try:
            names = host.run(argv, timeout=_SECONDS).stdout.split()
        except (CommandFailed, OSError):
            continue  # a runtime that is down has no store to offer now
        found = [name for name in wanted if name in names]
        if found:
            return (Binary("image", found[0]),)
    return ()


def image_names(image: str) -> tuple[str, ...]:
    """The names under which a store may hold `image`: as given, then with registry and tag.

    As github.com/distribution/reference normalises them: docker.io, library/, :latest.
    """
    name = image
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    last = name.rsplit("/", 1)[1]
    if ":" not in last and "@" not in last:
        name += ":latest"
    return (image, name) if name != image else (image,)


def _on_path(host: Host, program: str) -> tuple[Binary, ...]:
    """The etcd that a unit runs, else the one on the PATH."""
    path = program if program and host.exists(program) else host.which("etcd")
    if not path:
        return ()
    try:
        said = host.run([path, "--version"], timeout=_SECONDS).stdout
    except (CommandFailed, OSError):
        return ()  # of another architecture, or broken: not a binary that can be run
    version = re.search(r"etcd Version: (\S+)", said)
    return (Binary("path", path, version.group(1)),) if version else ()
