"""A file of ours that is not complete yet: gone on with after an interruption, never followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from agent.errors import Refused
from agent.host import Host

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def part_file(host: Host, path: str) -> Iterator[BinaryIO]:
    """The file opened for reading and writing, at its beginning; fsynced at the end of the block.

    Made where there is none, 0600 at every instant. Raises Refused where something else is there.
    """
    with host.folder(path) as (folder, name):
        fd = os.open(name, _FLAGS, 0o600, dir_fd=folder)
        with os.fdopen(fd, "r+b") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Refused(f"{path}: not a regular file", "something else is in the way")
            os.fchmod(fd, 0o600)
            try:
                yield file
            finally:
                file.flush()
                os.fsync(fd)
        os.fsync(folder)
