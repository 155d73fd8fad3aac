"""The way onto this machine itself: none is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from coordinator.streams import BulkStream, ProcessStream
from coordinator.transports.line import CommandLine


class LocalLine:
    """Starts processes on this machine; see Line."""

    words: tuple[str, ...] = ()
    has_shell = True

    def start(self, command: CommandLine) -> ProcessStream:
        """See Line."""
        return ProcessStream(["/bin/sh", "-c", command(os.geteuid() == 0)])

    def start_bulk(self, command: CommandLine) -> Iterator[BulkStream]:
        """See Line."""
        yield self.start(command)

    def close(self) -> None:
        """See Line."""
