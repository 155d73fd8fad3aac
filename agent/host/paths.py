"""Paths of a host as it names them, and as they are opened from here: below its root prefix."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from agent.errors import Refused

_MAX_SYMLINKS = 40


class Paths:
    """The part of the door (door.py) that turns paths; Host is its only heir."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.normpath(root)

    def real(self, path: str) -> str:
        """The path to open for the host's `path`: prefixed, and links resolved *inside* the root.

        A link in /host/var/lib that points to /data must lead to /host/data, never to our /data.
        """
        if self.root == "/":
            return path
        if path.startswith("/proc/"):
            return self._real_in_proc(path)
        return self._join(self._resolve(path, follow_last=True))

    def _real_in_proc(self, path: str) -> str:
        """A process's links are the kernel's own: what they read as is no path of the host.

        Below /proc/PID/root all links lead inside that process's root.
        """
        parts = PurePosixPath(os.path.normpath(path)).parts
        if parts[3:4] == ("root",):
            return Paths(self._join("/".join(parts[1:4]))).real("/" + "/".join(parts[4:]))
        return self._join("/".join(parts[1:]))

    def _real_last_unresolved(self, path: str) -> str:
        return path if self.root == "/" else self._join(self._resolve(path, follow_last=False))

    def _join(self, resolved: str) -> str:
        return os.path.join(self.root, resolved.lstrip("/"))

    def _resolve(self, path: str, follow_last: bool) -> str:
        todo = [p for p in PurePosixPath("/", path).parts if p != "/"]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                done = done[:-1]
                continue
            here = self._join("/".join([*done, part]))
            if (todo or follow_last) and os.path.islink(here):
                links += 1
                if links > _MAX_SYMLINKS:
                    raise Refused(f"{path}: too many levels of symbolic links")
                target = PurePosixPath(os.readlink(here))
                if target.is_absolute():
                    done = []
                todo = [p for p in target.parts if p != "/"] + todo
                continue
            done.append(part)
        return "/" + "/".join(done)

    def realpath(self, path: str) -> str:
        """The host's own canonical name of `path`, all links resolved."""
        if self.root == "/":
            return os.path.realpath(path)
        return self._resolve(path, follow_last=True)
